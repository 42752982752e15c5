"""Many rows in one statement: what a batch writes and does not have to look at.

Each call into SQLite lets the event loop have the interpreter and has to win it back, which under
load takes longer than the write itself. So rows whose fate nobody asks for are gathered by the
transaction and written together, and a command with many rows writes them at once. Values are
bound, not written as text: a number comes back to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import Any

from sqlalchemy import Table

from clarion.storage.database import Connection, Row
from clarion.storage.schema import jobs, notifications, provider_calls
from clarion.storage.statement import POSTGRESQL, Statement

SIZES = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
"""Rows of the statements; few enough that each stays prepared."""

Make = Callable[[str], str]
"""Writes a statement around the rows of places that it takes."""


class Bulk:
    """One statement in several sizes.

    `kinds` are PostgreSQL's types of a row's values, which it cannot guess from rows that stand by
    themselves. Where the two databases have no words in common, `in_postgresql` has the other's.
    """

    def __init__(self, make: Make, *kinds: str, in_postgresql: Make | None = None) -> None:
        write_other = in_postgresql or make
        self.statements = {
            size: Statement(make(_places(kinds, size)), write_other(_typed_places(kinds, size)))
            for size in SIZES
        }

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Write the rows, and return how many were changed."""
        return sum(connection.run(*part).rowcount for part in self._parts(rows))

    def read(self, connection: Connection, rows: Sequence[Row]) -> list[list[Any]]:
        """Ask about the rows; the statement answers with one JSON array of arrays."""
        found: list[list[Any]] = []
        for part in self._parts(rows):
            (text,) = connection.run(*part).fetchone()
            found += json.loads(text)
        return found

    def _parts(self, rows: Sequence[Row]) -> Iterator[tuple[Statement, Row]]:
        at = 0
        for size, statement in self.statements.items():
            while len(rows) - at >= size:
                yield statement, tuple(chain.from_iterable(rows[at : at + size]))
                at += size


def _places(kinds: Sequence[str], n: int) -> str:
    row = f"({', '.join('?' * len(kinds))})"
    return ", ".join([row] * n)


def _typed_places(kinds: Sequence[str], n: int) -> str:
    numbers = count(1)
    rows = (", ".join(f"${next(numbers)}::{kind}" for kind in kinds) for _ in range(n))
    return ", ".join(f"({row})" for row in rows)


def _inserting(table: Table) -> Bulk:
    kinds = (column.type.compile(dialect=POSTGRESQL) for column in table.c)
    head = f"INSERT INTO {table.name} ({', '.join(table.c.keys())}) VALUES "
    return Bulk(lambda rows: f"{head}{rows} ON CONFLICT DO NOTHING", *kinds)


INSERT_NOTIFICATIONS = _inserting(notifications)
"""In the order of the table's columns."""

INSERT_JOBS = _inserting(jobs)
"""In the order of the table's columns."""

INSERT_CALLS = _inserting(provider_calls)
"""In the order of the table's columns."""

INTEND = Bulk(
    lambda rows: f"""\
UPDATE jobs SET call = given.column2, sending = given.column3, sending_since = given.column4,
    state = 2, due_at = NULL, waiting = NULL,
    possibly_duplicated = CASE WHEN jobs.is_doubtful = 1 THEN 1 ELSE jobs.possibly_duplicated END
FROM (VALUES {rows}) AS given
WHERE jobs.id = given.column1 AND jobs.call = given.column2 - 1
    AND (jobs.state = 0 OR jobs.state = 1)""",
    "text", "integer", "text", "double precision",
)  # fmt: skip
"""id, number, provider, now; of jobs that are queued."""

_CALLED = ", ".join(
    f"jobs.{name}"
    for name in (
        "id", "call", "channel", "state", "attempt", "possibly_duplicated", "is_doubtful",
    )
)  # fmt: skip


def _of_calls(rows: str) -> str:
    return f"""\
FROM (VALUES {rows}) AS given CROSS JOIN jobs
WHERE jobs.id = given.column1 AND jobs.call = given.column2"""


CALLED_JOBS = Bulk(
    # As one text: each row of an answer would let go of the interpreter, too.
    lambda rows: f"SELECT json_group_array(json_array({_CALLED})) {_of_calls(rows)}",
    "text", "integer",
    # Locked until they are deleted: another node may be about to cancel one.
    in_postgresql=lambda rows: (
        "SELECT coalesce(json_agg(called.found), '[]')::text"
        f" FROM (SELECT json_build_array({_CALLED}) AS found {_of_calls(rows)} FOR UPDATE OF jobs)"
        " AS called"
    ),
)  # fmt: skip
"""id, number -> id, number, and what a deleted job leaves to say (`ending.ENDED_JOB`)."""

DELETE_JOBS = Bulk(lambda rows: f"DELETE FROM jobs WHERE id IN (VALUES {rows})", "text")
"""id."""

END_NOTIFICATIONS = Bulk(
    # Most ends name their provider; only the others look it up.
    lambda rows: f"""\
UPDATE {notifications.name} SET status = given.column2, reason = given.column3,
    detail = given.column4, provider = coalesce(given.column5, (
        SELECT provider FROM provider_calls WHERE notification_id = given.column1
        ORDER BY number DESC LIMIT 1)),
    attempts = given.column6, possibly_duplicated = given.column7, updated_at = given.column8
FROM (VALUES {rows}) AS given
WHERE notifications.id = given.column1""",
    "text", "text", "text", "text", "text", "integer", "integer", "double precision",
)  # fmt: skip
"""id, status, reason, detail, provider or None, attempts, possibly_duplicated, now."""

GATHERED = (INSERT_JOBS, INSERT_CALLS, END_NOTIFICATIONS)
"""What a transaction may write at its end, in this order: an end looks up the last call."""
