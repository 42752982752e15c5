"""What a command prints: its result on standard output, everything else on standard error.

A terminal gets tables and sentences that fit into its window, a pipe gets every word on one line.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from clarion.cli.client import ServerProblem
from clarion.cli.wording import clean

if TYPE_CHECKING:
    from rich.console import Console

    from clarion.cli.table import Table

PIPED_WIDTH: Final = 10_000
"""Columns where nobody has a window: no cell is broken or cut for a grep."""


class Output:
    """Prints one command's result: for people, or as one JSON document."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json

    def document(self, value: Any) -> None:
        """Print a JSON document."""
        print(json.dumps(value, indent=2), flush=True)

    def line(self, text: str) -> None:
        """Print one line of the result."""
        # At once: in a pipe it would come behind what is said to the person meanwhile.
        print(clean(text), flush=True)

    def sentences(self, found: Iterable[str]) -> None:
        """Print what is told in sentences, each folded to the window."""
        for text in found:
            self.line(fold(text))

    def note(self, text: str) -> None:
        """Say something to the person at the terminal."""
        print(clean(text), file=sys.stderr, flush=True)

    def table(self, table: Table) -> None:
        """Draw a table."""
        make_console().print(table)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show on a terminal that something goes on, until it has."""
        if self.is_json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status(Text(clean(what)), spinner="line"):
            yield

    def problem(self, problem: ServerProblem) -> None:
        """Tell what the server did not like, and what to do about it."""
        if self.is_json:
            self.document({"status": problem.status, **problem.problem})
        match problem.faults:
            case [(pointer, detail)]:
                self.note(f"error: {_told(pointer, detail)}")
            case []:
                self.note(f"error: {problem}")
            case faults:
                self.note(f"error: {len(faults)} things are wrong")
                for pointer, detail in faults:
                    self.note(f"  {_told(pointer, detail)}")
        hint = problem.hint or _HINTS.get(problem.status)
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


def make_console() -> Console:
    """Return what draws on standard output, as wide as its window."""
    from rich.console import Console

    class Pipeable(Console):
        def on_broken_pipe(self) -> None:
            # rich would leave with 1, which means that the answer is no.
            raise BrokenPipeError

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Pipeable(file=sys.stdout, width=width, highlight=False)


def fold(text: str) -> str:
    """Break a sentence at the window's edge, and further lines behind a margin; never in a pipe."""
    if not sys.stdout.isatty():
        return text
    width = max(20, shutil.get_terminal_size().columns)
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)


def _told(pointer: str, detail: str) -> str:
    """Name the place of a fault as the command line does: `/send_at` is `--send-at`."""
    name = pointer.lstrip("/#")
    if not name:
        return detail
    if "/" in name:
        return f"{name}: {detail}"
    option = f"--{name.replace('_', '-')}"
    # The server's sentences often begin with the field: once is enough.
    return (
        f"{option}{detail[len(name) :]}" if detail.startswith(f"{name} ") else f"{option}: {detail}"
    )
