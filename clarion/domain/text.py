"""Text and JSON values that the store and every provider can take.

What is refused here would otherwise fail later: a lone surrogate cannot be written as UTF-8,
PostgreSQL stores no NUL, NaN is no JSON, a line break in a subject starts a new header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_DEPTH = 32
"""Objects and arrays inside each other at most, the outermost one included."""

MAX_INTEGER = 2**63
"""Integers are smaller than this: what 64 bits, and so most recipients, can hold."""

_VALUE_BYTES = 8
"""What any value counts at least: it also bounds how many there are, at some 2 us each."""

_UNFIT_IN_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNFIT_IN_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Report = Callable[[str, str], None]
"""Takes a fault: the sentence and the JSON pointer."""


def line_fault(value: str, max_length: int) -> str | None:
    """Say what is wrong with a text of one line (no control characters at all), or None."""
    if len(value) > max_length:
        return f"is {len(value)} characters long; {max_length} are the most"
    return _unfit(_UNFIT_IN_LINE, value)


def text_fault(value: str) -> str | None:
    """Say what is wrong with a text of many lines (tabs and line breaks allowed), or None."""
    return _unfit(_UNFIT_IN_TEXT, value)


def _unfit(pattern: re.Pattern[str], value: str) -> str | None:
    found = pattern.search(value)
    if found is None:
        return None
    code = ord(found.group())
    if 0xD800 <= code <= 0xDFFF:
        return f"holds a lone surrogate (U+{code:04X}) at character {found.start()}"
    kind = "a line break" if found.group() in "\n\r\x85\u2028\u2029" else "a control character"
    return f"holds {kind} (U+{code:04X}) at character {found.start()}"


def storable(value: str) -> str:
    """Replace what a store cannot hold: for text that nobody can be asked to correct."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def size_bytes(value: str) -> int:
    """Return the size as UTF-8, surrogates included."""
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def type_name(value: object) -> str:
    """Name the type of a JSON value as JSON does; anything else by its class."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case Mapping():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def shown(name: object) -> str:
    """Quote a name that came from outside so that it is short and printable."""
    text = ascii(name) if isinstance(name, str) else repr(type(name).__name__)
    return text if len(text) <= 60 else text[:57] + "..."


def pointer_to(parent: str, key: object) -> str:
    """Return the JSON pointer (RFC 6901) of a member; what no UTF-8 can hold is escaped."""
    text = str(key)[:200].encode("utf-8", "backslashreplace").decode()
    return f"{parent}/{text.replace('~', '~0').replace('/', '~1')}"


class Walk:
    """Copies a JSON value into plain dicts and lists, and reports what may not be in it.

    `max_bytes` bounds the size roughly as its JSON text would be; beyond it the walk ends, so
    that an object which holds itself many times over costs no more.
    """

    def __init__(self, max_bytes: int, report: Report) -> None:
        self._left_bytes = max_bytes
        self._report = report
        self._max_bytes = max_bytes

    @property
    def is_over(self) -> bool:
        """Whether the size is used up."""
        return self._left_bytes < 0

    def copy(self, value: object, pointer: str, depth: int = 1) -> Any:
        """Return a copy; what it leaves out has been reported."""
        match value:
            case str():
                self._check(text_fault(value), pointer)
                self._spend(size_bytes(value) + 2, pointer)
                # A subclass (an enumeration, say) becomes plain.
                return value if type(value) is str else str.__str__(value)
            case None | bool():
                self._spend(_VALUE_BYTES, pointer)
            case int() | float():
                self._spend(_VALUE_BYTES, pointer)
                self._check(_number_fault(value), pointer)
            case list() | tuple() | Mapping() if depth > MAX_DEPTH:
                self._report(f"is nested deeper than {MAX_DEPTH} levels", pointer)
            case list() | tuple():
                return self._copy_array(value, pointer, depth)
            case Mapping():
                return self._copy_object(value, pointer, depth)
            case _:
                self._report(f"is no JSON value but {type_name(value)}", pointer)
        return value

    def _copy_array(self, value: Any, pointer: str, depth: int) -> list[Any]:
        self._spend(_VALUE_BYTES, pointer)
        copied: list[Any] = []
        for index, each in enumerate(value):
            if self.is_over:
                break
            copied.append(self.copy(each, f"{pointer}/{index}", depth + 1))
        return copied

    def _copy_object(self, value: Any, pointer: str, depth: int) -> dict[str, Any]:
        self._spend(_VALUE_BYTES, pointer)
        copied: dict[str, Any] = {}
        for key, each in value.items():
            if self.is_over:
                break
            if _is_plain(key) and _is_plain(each):
                # Nearly every member is one: it has no fault, so it needs no pointer.
                self._spend(len(key) + len(each) + 6, pointer)
                copied[key] = each
            else:
                copied[key] = self._copy_member(key, each, pointer_to(pointer, key), depth)
        return copied

    def _copy_member(self, key: object, value: object, place: str, depth: int) -> Any:
        if isinstance(key, str):
            self._check(text_fault(key), place, "the name ")
            self._spend(size_bytes(key) + 4, place)
        else:
            self._report(f"the name must be a string, not {type_name(key)}", place)
        return self.copy(value, place, depth + 1)

    def _check(self, fault: str | None, pointer: str, subject: str = "") -> None:
        if fault is not None:
            self._report(subject + fault, pointer)

    def _spend(self, n_bytes: int, pointer: str) -> None:
        if self._left_bytes >= 0:
            self._left_bytes -= n_bytes
            if self._left_bytes < 0:
                top = "/".join(pointer.split("/")[:2])
                self._report(f"is larger than {self._max_bytes:,} bytes", top)


def _is_plain(value: object) -> bool:
    return type(value) is str and value.isascii() and _UNFIT_IN_TEXT.search(value) is None


def _number_fault(value: float) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be a finite number"
    return None if -MAX_INTEGER <= value < MAX_INTEGER else "does not fit in 64 bits"
