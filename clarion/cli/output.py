"""What a command prints: its result on standard output, everything else on standard error.

rich is imported when a table is drawn, not before: `--json` never pays for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from clarion.cli.client import ServerProblem

if TYPE_CHECKING:
    from rich.table import Table

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 10}
PIPED_WIDTH: Final = 200
"""Columns where nobody has a window: wide enough that no cell is broken for a grep."""


class Output:
    """Prints one command's result: for people, or as one JSON document."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json

    def document(self, value: Any) -> None:
        """Print a JSON document."""
        print(json.dumps(value, indent=2))

    def line(self, text: str) -> None:
        """Print one line of the result."""
        # At once: in a pipe it would come behind what is said to the person meanwhile.
        print(clean(text), flush=True)

    def note(self, text: str) -> None:
        """Say something to the person at the terminal."""
        print(clean(text), file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Draw a table; None is shown as a dash."""
        from rich.console import Console

        table = make_table(columns, rows)
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        Console(file=sys.stdout, width=width, highlight=False).print(table)

    def problem(self, problem: ServerProblem) -> None:
        """Tell what the server did not like, and what to do about it."""
        if self.is_json:
            self.document({"status": problem.status, **problem.problem})
        match problem.faults:
            case [(pointer, detail)]:
                self.note(f"error: {_option(pointer)}{detail}")
            case []:
                self.note(f"error: {problem}")
            case faults:
                self.note(f"error: {len(faults)} things are wrong")
                for pointer, detail in faults:
                    self.note(f"  {_option(pointer)}{detail}")
        hint = _HINTS.get(problem.status)
        if hint:
            self.note(hint)

    def failure(self, detail: str, **fields: Any) -> None:
        """Tell that a command came to nothing."""
        if self.is_json:
            self.document({"detail": detail, **fields})
        self.note(f"error: {detail}")


_HINTS = {
    401: "Put the server's key (server.api_key) into CLARION_API_KEY.",
    403: "The key in CLARION_API_KEY is not allowed to do this.",
    429: "Nothing was stored; try again later.",
    503: "The server cannot do this now; `clarion status` shows why, then try again.",
}


def clean(text: str) -> str:
    """Make control characters visible: what a provider answered must not steer the terminal."""
    return text.translate(_CONTROLS)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table to draw; None is shown as a dash, and a rich Text as it is."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        # Text, not str: what a provider says must not be taken for markup.
        table.add_row(
            *(value if isinstance(value, Text) else Text(clean(_cell(value))) for value in row)
        )
    return table


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(str(each) for each in value) or "-"
        case _:
            return str(value)


def _option(pointer: str) -> str:
    """Name the place of a fault as the command line does: `/send_at` is `--send-at`."""
    name = pointer.lstrip("/#")
    if not name:
        return ""
    return f"{name}: " if "/" in name else f"--{name.replace('_', '-')}: "
