"""From what was asked for to a `Draft`: every rule of a request, and all of its faults at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clarion.domain.notification import Draft


@dataclass(frozen=True, slots=True)
class Rules:
    """What a request is measured by."""

    channels: frozenset[str]
    """The configured channels."""
    max_body_bytes: int = 1_000_000
    """Bound of `text`, `html` and `data` together, in bytes of UTF-8."""
    max_metadata_bytes: int = 16_384
    max_ahead_s: float = 366 * 86_400.0
    """How far ahead `send_at` may lie, and `expires_at` behind it, in seconds."""


def draft_from(
    fields: Mapping[str, Any],
    rules: Rules,
    *,
    now: float,
    idempotency_key: str | None = None,
    correlation_id: str = "",
) -> Draft:
    """Return the draft that `fields` (a JSON object) ask for; `now` is epoch seconds.

    Raises InvalidNotification with every fault.
    """
    raise NotImplementedError


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return a hash of the body, whatever the order of its keys."""
    raise NotImplementedError
