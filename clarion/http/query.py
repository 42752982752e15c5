"""Query parameters: every one is known, given once, and of its type, or all faults are told.

An empty parameter counts as left out, as null does in a body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from aiohttp import web

from clarion.domain.instant import parse_instant
from clarion.domain.notification import Reason, Status
from clarion.domain.text import line_fault, shown
from clarion.errors import Fault, InvalidNotification
from clarion.service import MAX_PAGE

MAX_VALUE = 1_000
"""Characters of a parameter at most: longer than any address or cursor."""

DEFAULT_LIMIT = 50

Read = Callable[[str], Any]


def _text(value: str) -> str:
    fault = line_fault(value, MAX_VALUE)
    if fault is not None:
        raise ValueError(fault)
    return value


def _address(value: str) -> str:
    # In a query a plus stands for a space; no address holds one, many hold a plus.
    return _text(value).replace(" ", "+")


def _choice(choices: type[Status | Reason]) -> Read:
    def read(value: str) -> Status | Reason:
        try:
            return choices(value)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(choices)}") from None

    return read


def _limit(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 6:
        raise ValueError(f"must be a number from 1 to {MAX_PAGE}")
    if not 1 <= int(value) <= MAX_PAGE:
        raise ValueError(f"must lie between 1 and {MAX_PAGE}: so many items a page holds")
    return int(value)


PAGE: Mapping[str, Read] = {"limit": _limit, "cursor": _text}
NOTIFICATIONS: Mapping[str, Read] = {
    "status": _choice(Status),
    "channel": _text,
    "to": _address,
    "reference": _text,
    **PAGE,
}
DEAD_LETTERS: Mapping[str, Read] = {
    "reason": _choice(Reason),
    "provider": _text,
    "channel": _text,
    "since": parse_instant,
    "until": parse_instant,
    **PAGE,
}


def read_query(request: web.Request, known: Mapping[str, Read]) -> dict[str, Any]:
    """Return the parameters by name. Raises InvalidNotification with every fault."""
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for name in dict.fromkeys(request.query):
        try:
            value = _read(name, request.query.getall(name), known)
        except ValueError as error:
            faults.append(Fault(str(error), _pointer(name)))
        else:
            if value is not None:
                found[name] = value
    if faults:
        raise InvalidNotification(faults)
    return found


def _read(name: str, values: list[str], known: Mapping[str, Read]) -> Any:
    read = known.get(name)
    if read is None:
        raise ValueError(f"there is no parameter {shown(name)}{_near(name, known)}")
    if len(values) > 1:
        raise ValueError(f"{name} is given {len(values)} times; give it once")
    try:
        return read(values[0]) if values[0] else None
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _near(name: str, known: Mapping[str, Read]) -> str:
    if not known:
        return "; this address takes none"
    close = get_close_matches(name[:40], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _pointer(name: str) -> str:
    return name[:100].encode("utf-8", "backslashreplace").decode()
