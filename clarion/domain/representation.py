"""A notification as JSON: the one shape that HTTP, the CLI and replays show."""

from __future__ import annotations

from typing import Any

from clarion.domain.notification import Job, Notification


def represent(
    notification: Notification,
    *,
    is_held: bool = False,
    held_reason: str | None = None,
    explanation: str = "",
    with_timeline: bool = False,
) -> dict[str, Any]:
    """Return the JSON object of a notification."""
    raise NotImplementedError


def represent_accepted(job: Job) -> dict[str, Any]:
    """Return the answer to a request that was accepted; stored, so that a replay is the same."""
    raise NotImplementedError


def rfc3339(at: float) -> str:
    """Write an instant as RFC 3339 text: UTC, milliseconds, `Z`."""
    raise NotImplementedError
