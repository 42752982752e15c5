"""Small checks for JSON documents; the look-alikes' rules are written with them.

A check is called with a value and its path ("personalizations.0.to") and yields every fault. It
is a table in code because a look-alike has no specification file at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Flaw(NamedTuple):
    """One thing wrong with a document: where, and a sentence."""

    field: str
    message: str


Check = Callable[[Any, str], Iterator[Flaw]]

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def text(min_chars: int = 0, max_chars: int | None = None) -> Check:
    """Take a string whose length lies within the bounds."""

    def check(value: Any, field: str) -> Iterator[Flaw]:
        if not isinstance(value, str):
            yield Flaw(field, f"The {_last(field)} parameter must be a string.")
        elif len(value) < min_chars:
            yield Flaw(field, f"The {_last(field)} must be at least {min_chars} character(s).")
        elif max_chars is not None and len(value) > max_chars:
            yield Flaw(field, f"The {_last(field)} cannot exceed {max_chars} characters.")

    return check


def one_of(*words: str) -> Check:
    """Take one of the words."""

    def check(value: Any, field: str) -> Iterator[Flaw]:
        if value not in words:
            yield Flaw(field, f"The {_last(field)} must be one of {', '.join(words)}.")

    return check


def address(value: Any, field: str) -> Iterator[Flaw]:
    """Take a bare e-mail address of at most 320 characters."""
    if not isinstance(value, str):
        yield Flaw(field, "The email address must be a string.")
    elif len(value) > 320 or ".." in value or not _ADDRESS.fullmatch(value):
        yield Flaw(field, "Does not contain a valid address.")


def integer(value: Any, field: str) -> Iterator[Flaw]:
    """Take a whole number; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        yield Flaw(field, f"The {_last(field)} parameter must be an integer.")


def boolean(value: Any, field: str) -> Iterator[Flaw]:
    """Take true or false."""
    if not isinstance(value, bool):
        yield Flaw(field, f"The {_last(field)} parameter must be a boolean.")


def mapping(of: Check | None = None) -> Check:
    """Take an object with any names; `of` checks its values."""

    def check(value: Any, field: str) -> Iterator[Flaw]:
        if not isinstance(value, dict):
            yield Flaw(field, f"The {_last(field)} parameter must be an object.")
        elif of is not None:
            for name, item in value.items():
                yield from of(item, f"{field}.{name}")

    return check


def array(of: Check, *, min_items: int = 0, max_items: int | None = None) -> Check:
    """Take an array of items within the bounds."""

    def check(value: Any, field: str) -> Iterator[Flaw]:
        if not isinstance(value, list):
            yield Flaw(field, f"The {_last(field)} parameter must be an array.")
        elif len(value) < min_items:
            yield Flaw(field, f"The {_last(field)} needs at least {min_items} item(s).")
        elif max_items is not None and len(value) > max_items:
            yield Flaw(field, f"The {_last(field)} cannot have more than {max_items} items.")
        else:
            for at, item in enumerate(value):
                yield from of(item, f"{field}.{at}")

    return check


def record(members: Mapping[str, Check], *required: str) -> Check:
    """Take an object with these members and no others."""

    def check(value: Any, field: str) -> Iterator[Flaw]:
        if not isinstance(value, dict):
            yield Flaw(field, f"The {_last(field) or 'body'} parameter must be an object.")
            return
        for name in required:
            if name not in value:
                yield Flaw(_join(field, name), f"The {name} parameter is required.")
        for name, item in value.items():
            if name in members:
                yield from members[name](item, _join(field, name))
            else:
                yield Flaw(_join(field, name), f"Additional property {name} is not allowed")

    return check


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _last(field: str) -> str:
    return field.rpartition(".")[2]
