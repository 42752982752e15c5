"""Tables that fit: a row is one line, whatever the window, and a pipe gets every word.

Numbers stand to the right. Where the window is too narrow the gaps shrink, then the columns that
a table can do without are left out, then the last column is cut; all others stay whole, so that
an id can always be copied. rich is imported when a table is drawn: `--json` never pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from clarion.cli.wording import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

NONE: Final = "-"
_GAPS: Final = (2, 1)
_MARGIN: Final = 4
_LAST_MIN_CHARS: Final = 12
"""A last column that is cut further says nothing any more."""


class Figure(str):
    """A number with its unit, which stands to the right like a bare number."""

    __slots__ = ()


class Table:
    """Columns and rows to draw; None is shown as a dash, and a rich Text as it is.

    `spare` names the columns that are left out first where it is narrow, in that order;
    `is_filled` leaves out those that say nothing in any row. `notes` has sentences to stand
    under each row, with the width of the window.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        spare: Sequence[str] = (),
        is_filled: bool = False,
        notes: Sequence[Sequence[str]] = (),
    ) -> None:
        found = [list(row) for row in rows]
        kept = [
            n
            for n in range(len(columns))
            if not is_filled or any(row[n] not in (None, "") for row in found)
        ]
        self._columns = [columns[n] for n in kept]
        self._is_right = [any(_is_number(row[n]) for row in found) for n in kept]
        self._rows = [[_cell(row[n]) for n in kept] for row in found]
        self._widths = [
            max(len(name), *(row[n].cell_len for row in self._rows), 0)
            for n, name in enumerate(self._columns)
        ]
        self._spare = spare
        self._notes = notes or [()] * len(found)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.padding import Padding
        from rich.text import Text

        kept, gap = self._fit(options.max_width)
        heading = [Text(name, style="bold") for name in self._columns]
        yield self._line(heading, kept, gap, console, options.max_width)
        for row, notes in zip(self._rows, self._notes, strict=True):
            yield self._line(row, kept, gap, console, options.max_width)
            for note in notes:
                yield Padding(Text(clean(note)), (0, 0, 0, _MARGIN), expand=False)

    def _line(
        self, row: Sequence[Text], kept: Sequence[int], gap: int, console: Console, width: int
    ) -> Text:
        from rich.text import Text

        cells = []
        for n in kept:
            cell = row[n].copy()
            cell.align("right" if self._is_right[n] else "left", self._widths[n])
            cells.append(cell)
        line = Text(" " * gap).join(cells)
        line.rstrip()
        # The dots of "ellipsis" are one character that not every terminal has.
        has_dots = console.encoding.startswith("utf")
        line.truncate(width, overflow="ellipsis" if has_dots else "crop")
        line.no_wrap = True
        return line

    def _fit(self, width: int) -> tuple[list[int], int]:
        """Return which columns are drawn, and how far apart."""
        kept = list(range(len(self._columns)))
        for name in ("", *self._spare):
            kept = [n for n in kept if self._columns[n] != name]
            for gap in _GAPS:
                if self._needed(kept, gap) <= width:
                    return kept, gap
        return kept, _GAPS[-1]

    def _needed(self, kept: Sequence[int], gap: int) -> int:
        *firm, last = (self._widths[n] for n in kept)
        return sum(firm) + gap * len(firm) + min(last, _LAST_MIN_CHARS)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Figure) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    from rich.text import Text

    # Text, not str: what a provider says must not be taken for markup.
    return value if isinstance(value, Text) else Text(clean(_words(value)).replace("\n", " "))


def _words(value: object) -> str:
    match value:
        case None | "":
            return NONE
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(str(each) for each in value) or NONE
        case _:
            return str(value)
