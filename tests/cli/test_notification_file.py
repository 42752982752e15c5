"""Files of notifications: what a line comes to, and what is wrong with it, by its number."""

from __future__ import annotations

import io
from typing import Any

import pytest

from clarion.cli.notification_file import (
    MAX_CELL_CHARS,
    MAX_LINE_BYTES,
    BadLine,
    Line,
    UnreadableFile,
    read_notifications,
)


def read(content: str | bytes, name: str = "-", **defaults: Any) -> list[Any]:
    """Read a whole file; lines as (number, fields), bad ones as (number, why)."""
    raw = content.encode() if isinstance(content, str) else content
    found = read_notifications(io.BytesIO(raw), name, {"channel": "sms", **defaults})
    return [
        (each.number, each.fields) if isinstance(each, Line) else (each.number, each.why)
        for each in found
    ]


def test_columns_are_fields_and_empty_cells_are_not_given():
    """A default of the command line stands where the cell is empty."""
    found = read('to,text,data\n+1,Hi,\n+2,,"{""a"": 1}"\n', text="Default")

    assert found == [
        (2, {"channel": "sms", "to": "+1", "text": "Hi"}),
        (3, {"channel": "sms", "to": "+2", "text": "Default", "data": {"a": 1}}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_spreadsheets_part_cells_as_they_like(delimiter):
    """Commas, the semicolons of half of Europe, tabs; with a byte order mark and CRLF."""
    content = f"to{delimiter}text\r\n+1{delimiter}Hi\r\n".encode("utf-8-sig")

    assert read(content) == [(2, {"channel": "sms", "to": "+1", "text": "Hi"})]


def test_a_row_has_the_number_of_its_first_line():
    """A quoted cell with line breaks does not shift what an editor shows; empty lines count."""
    found = read('to,text\n+1,"a\nb\nc"\n\n+2,d\n')

    assert [number for number, _ in found] == [2, 6]
    assert found[0][1]["text"] == "a\nb\nc"


def test_objects_are_lines_too():
    """NDJSON by its first character; null is left out, empty lines are skipped."""
    found = read('{"to": "+1", "text": null}\n\n{"to": "+2", "data": {"a": 1}}\n')

    assert found == [
        (1, {"channel": "sms", "to": "+1"}),
        (3, {"channel": "sms", "to": "+2", "data": {"a": 1}}),
    ]


def test_the_suffix_decides_before_the_content():
    """A broken first line of an .ndjson file must not be taken for a header."""
    found = read('oops\n{"to": "+1"}\n', name="some.NDJSON")

    assert found[0][0] == 1
    assert "no valid JSON" in found[0][1]
    assert found[1] == (2, {"channel": "sms", "to": "+1"})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"+1", "1 cells, where the header has 3"),
        (b"+1,Hi,,", "4 cells, where the header has 3"),
        (b"+1,Gr\xfc\xdfe,", "text: byte 0xfc at column 3 is not UTF-8"),
        (b"+1,Hi,{", "data: no valid JSON"),
        (b"+1,Hi,[1]", "data: write a JSON object"),
        (b'+1,Hi,"{""a"": NaN}"', "data: no valid JSON: NaN"),
        (b'+1,"Hi"x,', "no valid CSV"),
        (b",Hi,", "to missing"),
    ],
)
def test_a_bad_row_is_told_and_the_next_is_read(line, why):
    """With its line; one bad row does not spoil the file."""
    found = read(b"to,text,data\n" + line + b"\n+2,ok,\n")

    assert found[0][0] == 2
    assert why in found[0][1]
    assert found[1] == (3, {"channel": "sms", "to": "+2", "text": "ok"})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"to": "+1"', "no valid JSON"),
        (b'{"to": "\xfc"}', "byte 0xfc at column 9 is not UTF-8"),
        (b"[1]", "a notification is a JSON object"),
        (b'{"to": "+1", "to": "+2"}', "a name is given twice"),
        (b'{"text": "x"}', "to missing"),
        (b"[" * 100_000, "no valid JSON"),
    ],
)
def test_a_bad_object_is_told_and_the_next_is_read(line, why):
    """With its line, as for CSV."""
    found = read(b'{"to": "+0"}\n' + line + b'\n{"to": "+3"}')

    assert found[1][0] == 2
    assert why in found[1][1]
    assert [number for number, _ in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"", 1, "the file is empty"),
        (b"\n \n", 1, "the file is empty"),
        (b"to,text\n", 1, "no line after it"),
        (b"to,txt\n+1,x\n", 1, "did you mean text?"),
        (b"\nto,to\n+1,x\n", 2, "the column to is there twice"),
        (b"text\nx\n", 1, "no column to: add it, or give --to"),
        (b'[{"to": "+1"}]', 1, "a JSON array"),
        ("to\n+1\n".encode("utf-16"), 1, "save the file as UTF-8"),
        (b"to\n+1\n" + b"x" * (MAX_LINE_BYTES + 1), 3, "it is longer than"),
    ],
)
def test_a_file_that_is_none_says_where(content, line, why):
    """The header is wrong once, not a million times; memory is bounded whatever comes."""
    with pytest.raises(UnreadableFile, match=why.replace("?", r"\?")) as caught:
        read(content)

    assert caught.value.line == line


def test_a_quote_that_is_never_closed_is_bounded():
    """It costs what it swallowed, and is told; the rest is read."""
    rest = "+2,ok\n" * (MAX_CELL_CHARS // 6 + 10)
    found = read('to,text\n+1,"oops\n' + rest)

    assert found[0][0] == 2
    assert "no valid CSV" in found[0][1]
    assert found[-1][1] == {"channel": "sms", "to": "+2", "text": "ok"}


def test_lines_are_read_when_they_are_asked_for():
    """A file larger than memory is no trouble: the first line comes before the last is read."""

    def endless():
        yield b"to\n"
        while True:
            yield b"+1\n"

    source = endless()

    class Endless(io.RawIOBase):
        def readline(self, size: int | None = -1, /) -> bytes:
            return next(source)

    found = read_notifications(Endless(), "-", {"channel": "sms"})  # type: ignore[arg-type]

    assert next(found) == Line(2, {"channel": "sms", "to": "+1"})
    assert not isinstance(next(found), BadLine)
