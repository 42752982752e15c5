"""What providers send to us by themselves: the request as it came, and what can be read of it.

A kind whose provider reports later has a class method `receipts`, which makes a `ReceiptReader` of
the configuration alone: it verifies a request over its raw bytes and reads the receipts in it. It
holds no session and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from clarion.domain.receipt import Receipt

MAX_KEY_CHARS = 200
MAX_DETAIL_CHARS = 500
MAX_CALL = 1_000_000
MAX_LATE_S = 30 * 86400.0

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_WORD = re.compile(r"[a-z][a-z_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Callback:
    """One request to `/callbacks/{provider}`, as it came."""

    path_qs: str
    """Path and query, not decoded: signatures cover them as they were written."""
    headers: Mapping[str, str]
    """By name in any case."""
    body: bytes
    now: float
    """Its arrival, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a genuine request told."""

    receipts: tuple[Receipt, ...] = ()
    unread: int = 0
    """Events that mean nothing to us: of a new type, or of a message that is not ours."""


class CallbackRefused(Exception):
    """A request is not genuine, or cannot be told to be; the message is for our log alone."""


class ReceiptReader(Protocol):
    """Reads the callbacks of one provider.

    It may have a `hindrance`: a sentence that says why the settings let it verify none, "" while
    it can. `clarion check` shows it.
    """

    def read(self, callback: Callback) -> Reading:
        """Verify and parse. Raises CallbackRefused where the signature is not the provider's."""
        ...


def notification_id(value: object) -> str | None:
    """Return an id of ours as it came back; None for what cannot be one."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def call_number(value: object) -> int | None:
    """Return the number of a call as it came back; None for what cannot be one."""
    if not isinstance(value, str) or not value.isdecimal() or len(value) > 7:
        return None
    number = int(value)
    return number if 1 <= number <= MAX_CALL else None


def event_word(value: object) -> str | None:
    """Return a provider's word for an event; None for what cannot be one."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def plain(value: object, limit: int = MAX_DETAIL_CHARS) -> str:
    """Return a text that can be stored and shown in one line; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    text = value[:limit].encode("utf-8", "replace").decode()
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def instant(value: object, now: float) -> float:
    """Return an instant of the provider's clock; `now` for what is none, or out of all reason."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return now
    return float(value) if now - MAX_LATE_S <= value <= now + 86400.0 else now
