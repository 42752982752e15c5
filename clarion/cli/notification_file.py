"""A file of notifications: CSV with a header row, or NDJSON, read line by line.

What is wrong with one line is told of that line and the others go on. What is wrong with the file
(its header, its encoding, nothing in it) ends the reading: `UnreadableFile`.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any, BinaryIO, Final, TypeAlias

from clarion.domain.submission import FIELDS
from clarion.errors import ClarionError

COLUMNS: Final = (*FIELDS, "idempotency_key")
MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""Longer lines end the reading: memory stays bounded whatever the file is."""
MAX_CELL_CHARS: Final = 1_000_000
"""As much as a server takes by default; a quote that is never closed swallows no more."""

_NEEDED: Final = ("channel", "to")
_OBJECTS: Final = frozenset({"data", "metadata", "headers"})
_DELIMITERS: Final = ",;\t"
_NDJSON_SUFFIXES: Final = (".ndjson", ".jsonl")
_CSV_SUFFIXES: Final = (".csv", ".tsv")


class UnreadableFile(ClarionError):
    """The file as a whole is no good: `line` says where that shows."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Line:
    """One notification, defaults included; `number` is the line of the file, from 1."""

    number: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that no notification can be made of, and why."""

    number: int
    why: str


Found: TypeAlias = Line | BadLine
_Numbered: TypeAlias = tuple[int, bytes]


def read_notifications(stream: BinaryIO, name: str, defaults: Mapping[str, Any]) -> Iterator[Found]:
    """Yield what each line holds; `defaults` are the fields of lines that do not give them.

    The suffix of `name` says what it is, else the first line does. Raises UnreadableFile, and
    does so before the first line is yielded where it can.
    """
    lines = _lines(stream)
    first = next((each for each in lines if each[1].strip()), None)
    if first is None:
        raise UnreadableFile(1, "the file is empty")
    _require_utf8(first[1])
    whole = chain([first], lines)
    found = _ndjson(whole) if _is_ndjson(name, first) else _csv(whole, defaults)
    for each in found:
        yield _with_defaults(each, defaults)


def _lines(stream: BinaryIO) -> Iterator[_Numbered]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise UnreadableFile(number, f"it is longer than {MAX_LINE_BYTES:,} bytes")
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _require_utf8(first: bytes) -> None:
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in first:
        raise UnreadableFile(1, "this is not UTF-8, perhaps UTF-16: save the file as UTF-8")


def _is_ndjson(name: str, first: _Numbered) -> bool:
    number, line = first
    if line.lstrip().startswith(b"["):
        raise UnreadableFile(number, "a JSON array: write one object a line, as `jq -c '.[]'` does")
    if name.lower().endswith(_CSV_SUFFIXES):
        return False
    return name.lower().endswith(_NDJSON_SUFFIXES) or line.lstrip().startswith(b"{")


def _with_defaults(found: Found, defaults: Mapping[str, Any]) -> Found:
    if isinstance(found, BadLine):
        return found
    fields = {**defaults, **found.fields}
    missing = [field for field in _NEEDED if fields.get(field) is None]
    if missing:
        return BadLine(found.number, f"{' and '.join(missing)} missing")
    return Line(found.number, fields)


# --- NDJSON ----------------------------------------------------------------------------------


def _ndjson(lines: Iterator[_Numbered]) -> Iterator[Found]:
    for number, line in lines:
        if line.strip():
            yield _object_of(number, line)


def _object_of(number: int, line: bytes) -> Found:
    try:
        value = _parse(line.decode())
    except UnicodeDecodeError as error:
        return BadLine(number, _no_utf8(line[error.start], error.start + 1))
    except (ValueError, RecursionError) as error:
        return BadLine(number, f"no valid JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(number, "a notification is a JSON object")
    return Line(number, {key: each for key, each in value.items() if each is not None})


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _no_utf8(byte: int, column: int) -> str:
    return f"byte 0x{byte:02x} at column {column} is not UTF-8: save the file as UTF-8"


# --- CSV -------------------------------------------------------------------------------------


def _csv(lines: Iterator[_Numbered], defaults: Mapping[str, Any]) -> Iterator[Found]:
    csv.field_size_limit(MAX_CELL_CHARS)
    number, header = next(lines)
    delimiter = max(_DELIMITERS, key=header.decode(errors="replace").count)
    rows = _rows(chain([(number, header)], lines), delimiter)
    columns = _columns(next(rows), defaults)
    is_empty = True
    for row in rows:
        is_empty = False
        yield row if isinstance(row, BadLine) else _fields_of(*row, columns)
    if is_empty:
        raise UnreadableFile(number, "there is a header, and no line after it")


def _rows(lines: Iterator[_Numbered], delimiter: str) -> Iterator[tuple[int, list[str]] | BadLine]:
    """Yield each row with the line on which it begins: a quoted cell may hold line breaks."""
    # A byte that is no UTF-8 costs its own row alone, where decoding strictly would end it all.
    began = 0

    def texts() -> Iterator[str]:
        nonlocal began
        for number, line in lines:
            began = began or number
            yield line.decode("utf-8", "surrogateescape")

    rows = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        began = 0
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(began, f"no valid CSV: {error}")
            continue
        if any(cell.strip() for cell in row):
            yield began, row


def _columns(header: tuple[int, list[str]] | BadLine, defaults: Mapping[str, Any]) -> list[str]:
    if isinstance(header, BadLine):
        raise UnreadableFile(header.number, header.why)
    number, cells = header
    columns = [cell.strip() for cell in cells]
    for column in columns:
        if column not in COLUMNS:
            raise UnreadableFile(number, _unknown(column))
        if columns.count(column) > 1:
            raise UnreadableFile(number, f"the column {column} is there twice")
    for field in _NEEDED:
        if field not in columns and field not in defaults:
            raise UnreadableFile(number, f"no column {field}: add it, or give --{field}")
    return columns


def _unknown(column: str) -> str:
    close = get_close_matches(column.lower(), COLUMNS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(COLUMNS)}"
    shown = column.encode("utf-8", "replace").decode()[:60]
    return f"the header has no such column as {shown!r}: {hint}"


def _fields_of(number: int, cells: Sequence[str], columns: Sequence[str]) -> Found:
    if len(cells) != len(columns):
        return BadLine(number, f"{len(cells)} cells, where the header has {len(columns)}")
    fields: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        # An empty cell is a field that is not given: CSV has no other way to say so.
        if not cell:
            continue
        try:
            fields[column] = _value(column, cell)
        except ValueError as error:
            return BadLine(number, f"{column}: {error}")
    return Line(number, fields)


def _value(column: str, cell: str) -> Any:
    for place, character in enumerate(cell, start=1):
        if "\udc80" <= character <= "\udcff":
            raise ValueError(_no_utf8(ord(character) - 0xDC00, place))
    if column not in _OBJECTS:
        return cell
    try:
        value = _parse(cell)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError('write a JSON object, like {"a": 1}')
    return value
