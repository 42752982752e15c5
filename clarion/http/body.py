"""Bodies of requests: read within a bound and a time, and parsed strictly.

Stricter than `json.loads`: no NaN, no Infinity, no name twice in one object (which of the two
counts is what attackers play with), nothing but UTF-8. What is right as JSON and wrong as a
notification is told by `domain.submission`.

The standard library's parser, with the hook that finds names given twice, takes 2.3 us for a
typical notification and msgspec's 0.6 us; the latter keeps the last of two equal names in silence.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from clarion.domain.text import shown, type_name
from clarion.errors import Fault, InvalidNotification
from clarion.http.front import FRONT, MAX_BATCH_BYTES
from clarion.http.problem import MALFORMED, TOO_LARGE, TOO_SLOW, UNSUPPORTED_TYPE, HttpRefusal

JSON_TYPES = frozenset({"application/json"})
LINE_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})

MAX_ITEMS = 10_000
"""Items of a batch at most (the contract)."""

PARSED_AT_ONCE = 500
"""Items of a batch parsed before other tasks get a turn: some 3 ms."""

_SPACE = re.compile(r"[ \t\n\r]*")


# --- the bytes -------------------------------------------------------------------------------


def require_type(request: web.Request, types: frozenset[str]) -> str:
    """Return the content type if it is one of `types`. Raises HttpRefusal (415).

    A body without any is refused too: a page may have a browser send it anywhere.
    """
    given = request.headers.get("Content-Type")
    if given in types and "Content-Encoding" not in request.headers:
        # Nearly always; the rest has parameters to be parsed, or is to be refused.
        return given
    found = request.content_type if given else ""
    if found not in types:
        wanted = " or ".join(sorted(types))
        what = f"not {shown(found)}" if given else "and the request names none"
        raise HttpRefusal(UNSUPPORTED_TYPE, f"The Content-Type must be {wanted}, {what}")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise HttpRefusal(UNSUPPORTED_TYPE, "Bodies are taken as they are, without compression")
    charset = (request.charset or "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise HttpRefusal(UNSUPPORTED_TYPE, "JSON is UTF-8 text; send it as that")
    return found


async def read_body(request: web.Request, limit: int, timeout_s: float) -> bytes:
    """Return the body, of `limit` bytes at most. Raises HttpRefusal (400, 408, 413)."""
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    content = request.content
    if content.is_eof():
        # Nearly always: it came in the same packet as the head.
        body = content.read_nowait(-1)
        if len(body) > limit:
            raise _too_large(limit)
        return body
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_slowly(request, limit)
    except TimeoutError:
        raise HttpRefusal(
            TOO_SLOW, f"The body did not arrive within {timeout_s:g} s; nothing was accepted"
        ) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise HttpRefusal(MALFORMED, "The body broke off, or its chunks are not as HTTP") from error


async def _read_slowly(request: web.Request, limit: int) -> bytes:
    if "Expect" in request.headers:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It is no part of the answer that follows.
        request.writer.output_size = 0
    parts: list[bytes] = []
    size = 0
    while True:
        part = await request.content.readany()
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if not part and request.content.at_eof():
            return b"".join(parts)
        parts.append(part)


def _too_large(limit: int) -> HttpRefusal:
    return HttpRefusal(TOO_LARGE, f"The body is larger than {limit:,} bytes; that is the most")


# --- JSON ------------------------------------------------------------------------------------


class _Reader:
    """A JSON parser that notes what is no good JSON and goes on, so that a batch can."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.scan = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant
        ).raw_decode

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self.faults.append(f"the name {shown(_twice(pairs))} is there twice in one object")
        return made

    def _constant(self, name: str) -> None:
        self.faults.append(f"{name} is no JSON value")


def _twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _value in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no name is there twice")


_reader = _Reader()


def _scan(text: str, start: int) -> tuple[Any, int, str | None]:
    """Parse one value; return it, where it ends, and what is wrong with it by itself.

    Raises ValueError, which says where the text stops being JSON.
    """
    _reader.faults.clear()
    try:
        value, end = _reader.scan(text, start)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value, end, _reader.faults[0] if _reader.faults else None


def _decode(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (at byte {error.start})") from None


def parse(body: bytes) -> Any:
    """Return the JSON value of a body. Raises ValueError, whose text says what is wrong."""
    text = _decode(body)
    start = _skip(text, 0)
    if start == len(text):
        raise ValueError("it is empty")
    value, end, fault = _scan(text, start)
    if fault is not None:
        raise ValueError(fault)
    if end < len(text) and _skip(text, end) < len(text):
        raise ValueError(f"something follows the JSON at character {end}")
    return value


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that a request holds. Raises HttpRefusal, InvalidNotification."""
    require_type(request, JSON_TYPES)
    front = request.app[FRONT]
    body = await read_body(request, front.max_body_bytes, front.body_s)
    try:
        value = parse(body)
    except ValueError as error:
        raise not_json(error) from error
    if type(value) is not dict:
        detail = f"the body must be an object, not {type_name(value)}"
        raise InvalidNotification([Fault(detail, "")])
    return value


def not_json(error: ValueError) -> HttpRefusal:
    """Return the refusal of a body that is no JSON."""
    return HttpRefusal(MALFORMED, f"The body is no valid JSON: {_told(error)}")


def _told(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    if "integer string conversion" in str(error):
        return "a number has too many digits"
    return str(error)


# --- batches ---------------------------------------------------------------------------------


async def read_items(request: web.Request) -> list[Any]:
    """Return the items of a batch; one that cannot be read is the ClarionError that says why.

    Raises HttpRefusal where the batch itself cannot be read, or holds too many.
    """
    kind = require_type(request, JSON_TYPES | LINE_TYPES)
    front = request.app[FRONT]
    body = await read_body(request, MAX_BATCH_BYTES, 4 * front.body_s)
    split = _lines if kind in LINE_TYPES else _elements
    found = split(body, front.max_body_bytes)
    items: list[Any] = []
    try:
        for item in found:
            items.append(item)
            if len(items) > MAX_ITEMS:
                raise HttpRefusal(TOO_LARGE, f"A batch holds {MAX_ITEMS:,} items at most")
            if len(items) % PARSED_AT_ONCE == 0:
                await asyncio.sleep(0)
    except ValueError as error:
        raise not_json(error) from error
    if not items:
        raise InvalidNotification([Fault("a batch holds at least one notification", "")])
    return items


def _lines(body: bytes, item_limit: int) -> Iterator[Any]:
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        line = body[start : len(body) if end < 0 else end].strip()
        start = len(body) if end < 0 else end + 1
        if line:
            yield _line(line, item_limit)


def _line(line: bytes, item_limit: int) -> Any:
    if len(line) > item_limit:
        return _large_item(item_limit)
    try:
        return parse(line)
    except ValueError as error:
        return InvalidNotification([Fault(f"the line is no valid JSON: {_told(error)}", "")])


def _elements(body: bytes, item_limit: int) -> Iterator[Any]:
    """Yield the elements of an array, each parsed by itself: too many cost no more than enough."""
    text = _decode(body)
    at = _skip(text, 0)
    if at == len(text):
        raise ValueError("it is empty")
    if text[at] != "[":
        raise ValueError("it must be an array of notifications")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        _require_end(text, at + 1)
        return
    while True:
        start = at
        value, at, fault = _scan(text, start)
        yield _element(value, at - start, fault, item_limit)
        at = _skip(text, at)
        mark = text[at : at + 1]
        if mark == "]":
            _require_end(text, at + 1)
            return
        if mark != ",":
            raise ValueError(f"a comma or the end of the array is missing at character {at}")
        at = _skip(text, at + 1)


def _element(value: Any, length: int, fault: str | None, item_limit: int) -> Any:
    if length > item_limit:
        return _large_item(item_limit)
    if fault is not None:
        return InvalidNotification([Fault(fault, "")])
    return value


def _require_end(text: str, at: int) -> None:
    if _skip(text, at) < len(text):
        raise ValueError(f"something follows the array at character {at}")


def _large_item(limit: int) -> InvalidNotification:
    return InvalidNotification([Fault(f"it is larger than {limit:,} bytes; that is the most", "")])
