"""Instants at the edge: RFC 3339 text there, float seconds since the Unix epoch inside."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import lru_cache

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def rfc3339(at: float) -> str:
    """Write an instant as RFC 3339 text: UTC, milliseconds, `Z`."""
    second = math.floor(at)
    carried, micros = divmod(round((at - second) * 1_000_000), 1_000_000)
    return f"{_second(second + carried)}.{micros // 1000:03d}Z"


# Most instants are of the present: their text but for the milliseconds is made once a second.
@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def parse_instant(value: object) -> float:
    """Read RFC 3339 text with a zone (or an aware datetime) as seconds since the epoch.

    Raises ValueError; its text says what is wrong.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("has no time zone: is it UTC or local time?")
        return value.timestamp()
    if not isinstance(value, str):
        raise ValueError("must be a time as RFC 3339 writes it, such as 2030-01-31T09:30:00Z")
    return _parse(value)


def _parse(text: str) -> float:
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("is no time as RFC 3339 writes it, such as 2030-01-31T09:30:00Z")
    if found["zone"] is None:
        raise ValueError("has no time zone: end it with Z or an offset such as +01:00")
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError("names an instant that does not exist") from error
