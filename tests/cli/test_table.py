"""Tables that fit: one line a row, ids whole, numbers to the right, in windows and in pipes."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from clarion.cli.table import Figure, Table
from clarion.cli.wording import age, counted, span, suggestion

ID = "01JC0000000000000000000001"
WHY = "the mail server said: no such user here, and it will not change its mind"


def drawn(table: Table, width: int, encoding: str = "utf-8") -> list[str]:
    """The lines of a table in a window of so many columns."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, highlight=False).print(table)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_a_row_is_one_line_whatever_the_window(width: int) -> None:
    """Wrapped cells turn a list into noise."""
    lines = drawn(Table(("id", "n", "why"), [(ID, 7, WHY), (ID, None, "")]), width)

    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert [line.startswith(ID) for line in lines] == [False, True, True]


def test_the_last_column_gives_way_and_says_so() -> None:
    """What is cut ends with dots; where there is room nothing is cut."""
    table = Table(("id", "why"), [(ID, WHY)])

    assert drawn(table, 60)[1].endswith("…")
    assert drawn(table, 10_000)[1] == f"{ID}  {WHY}"


def test_a_terminal_without_unicode_gets_none() -> None:
    """One character that it cannot show would end the command."""
    assert drawn(Table(("id", "why"), [(ID, WHY)]), 60, "ascii")[1].isascii()


def test_columns_that_can_be_spared_go_first() -> None:
    """In the order in which they are named, and only as many as must."""
    table = Table(("name", "kind", "slots"), [("main", "sendgrid", 32)], spare=("kind", "slots"))

    assert drawn(table, 40)[0].split() == ["name", "kind", "slots"]
    assert drawn(table, 12)[0].split() == ["name", "slots"]
    assert drawn(table, 5)[0].split() == ["name"]


def test_numbers_stand_to_the_right() -> None:
    """So that a long one is seen to be long; a duration is a number, too."""
    rows = [("a", 7, Figure("3 s")), ("b", 12_345, Figure("12 min"))]

    assert drawn(Table(("x", "n", "age"), rows), 80) == [
        "x       n     age",
        "a       7     3 s",
        "b  12,345  12 min",
    ]


def test_columns_that_say_nothing_are_left_out_on_demand() -> None:
    """Of a story; a list keeps its shape."""
    rows = [("a", None, ""), ("b", None, "")]

    assert drawn(Table(("x", "y", "z"), rows, is_filled=True), 80)[0].split() == ["x"]
    assert drawn(Table(("x", "y", "z"), rows), 80)[0].split() == ["x", "y", "z"]


def test_sentences_stand_under_their_row() -> None:
    """Folded to the window behind a margin, control characters made visible."""
    table = Table(("x", "y"), [("a", 1), ("b", 2)], notes=[["it \x1b[31m fell over\x07 "], []])

    lines = drawn(table, 20)

    assert [line.rstrip() for line in lines[1:-1]] == [
        "a  1",
        r"    it \x1b[31m fell",
        r"    over\x07",
    ]
    assert lines[-1] == "b  2"


def test_a_strangers_words_stay_on_their_line() -> None:
    """Neither markup nor line breaks of theirs reach the table."""
    assert drawn(Table(("x", "y"), [("[bold]a\nb", Text("c"))]), 80)[1] == "[bold]a b  c"


def test_a_table_without_rows_has_its_heading() -> None:
    """And does not fail."""
    assert drawn(Table(("x", "y"), []), 80) == ["x  y"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (41.6, "42 s"), (600, "10 min"), (7200, "2 h"), (864_000, "10 d")],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, told: str) -> None:
    """Nobody divides 864000 by 86400 at night."""
    assert span(seconds) == told
    assert age("1970-01-01T00:00:00.000Z", seconds) == told


def test_words_for_numbers_and_names() -> None:
    """One of a thing has no s; a typo gets the likely name, anything else all of them."""
    assert (counted(1, "attempt"), counted(1204, "line")) == ("1 attempt", "1,204 lines")
    assert suggestion("mian", ["main", "spare"]) == "did you mean main?"
    assert suggestion("zzz", ["main", "spare"]) == "there are main, spare"
    assert suggestion("zzz", []) == ""


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_status_fits_into_a_real_window(there: Any, columns: int) -> None:
    """On a pseudo-terminal of that size no line is longer, and no table row is broken."""
    why = "no provider of email can take it now (sendgrid: circuit open, next try at 11:44:15 UTC)"
    lane = {"channel": "email", "held": True, "held_reason": why, "ready": 1_234_567}
    there.answer("GET /v1/stats", {"accepted": 1_234_567, "by_status": {"queued": 1_234_567}})
    there.answer("GET /v1/queues", {"items": [lane]})
    there.answer("GET /v1/providers", {"items": [{"name": "sendgrid", "reason": "circuit open"}]})

    shown = await asyncio.to_thread(_on_a_terminal, there.url, columns)

    lines = shown.splitlines()
    assert lines[0] == "1,234,567 accepted: 1,234,567 queued"
    assert all(len(line) <= columns for line in lines)
    assert sum(line.startswith("email ") for line in lines) == 1
    assert "sendgrid: circuit open" in lines


def _on_a_terminal(url: str, columns: int) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "CLARION_URL": url, "TERM": "xterm", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "clarion", "status"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    try:
        assert process.wait(30) == 0
        os.write(theirs, b"\0")
        found = b""
        while not found.endswith(b"\0"):
            found += os.read(ours, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
    return found.decode().rstrip("\0").replace("\x1b[1m", "").replace("\x1b[0m", "")
