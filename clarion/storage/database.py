"""What storage asks of a connection, whichever database it leads to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from clarion.storage.statement import Statement

Row = tuple[Any, ...]


class Cursor(Protocol):
    """What came of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows were written."""

    def fetchone(self) -> Any:
        """Return the next row; None behind the last."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""


class Connection(Protocol):
    """A connection inside a transaction that somebody else began and will end."""

    def run(self, statement: Statement, values: Sequence[Any] = ..., /) -> Cursor:
        """Carry out a statement with its values."""

    def run_many(self, statement: Statement, rows: Iterable[Sequence[Any]], /) -> None:
        """Carry out a statement once for each row of values."""

    def fetch(self, statement: Statement, values: Sequence[Any] = ..., /) -> list[Row]:
        """Return all rows of a question, even where a text of one is no text (it fails later)."""
