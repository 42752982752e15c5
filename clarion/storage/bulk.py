"""Many rows in one statement: what a batch writes and does not have to look at.

Each call into SQLite lets the event loop have the interpreter and has to win it back, which under
load takes longer than the write itself. So rows whose fate nobody asks for are gathered by the
transaction and written together, and a command with many rows writes them at once. Values are
bound, not written as text: a number comes back to the last bit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from clarion.storage.row import Row
from clarion.storage.schema import jobs, notifications, provider_calls

SIZES = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
"""Rows of the statements; few enough that each stays prepared."""


class Bulk:
    """One statement in several sizes; `make` writes it for a number of rows."""

    def __init__(self, make: Callable[[int], str]) -> None:
        self.sql = {size: make(size) for size in SIZES}

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Write the rows, and return how many were changed."""
        return sum(connection.execute(sql, values).rowcount for sql, values in self._parts(rows))

    def read(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> list[list[Any]]:
        """Ask about the rows; the statement answers with one JSON array of arrays."""
        found: list[list[Any]] = []
        for sql, values in self._parts(rows):
            (text,) = connection.execute(sql, values).fetchone()
            found += json.loads(text)
        return found

    def _parts(self, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
        at = 0
        for size, sql in self.sql.items():
            while len(rows) - at >= size:
                yield sql, tuple(chain.from_iterable(rows[at : at + size]))
                at += size


def _places(width: int, n: int) -> str:
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * n)


def _inserting(table: str, names: Sequence[str]) -> Bulk:
    head = f"INSERT INTO {table} ({', '.join(names)}) VALUES "
    return Bulk(lambda n: f"{head}{_places(len(names), n)} ON CONFLICT DO NOTHING")


INSERT_NOTIFICATIONS = _inserting(notifications.name, notifications.c.keys())
"""In the order of the table's columns."""

INSERT_JOBS = _inserting(jobs.name, jobs.c.keys())
"""In the order of the table's columns."""

INSERT_CALLS = _inserting(provider_calls.name, provider_calls.c.keys())
"""In the order of the table's columns."""

INTEND = Bulk(
    lambda n: (
        f"""\
UPDATE jobs SET call = given.column2, sending = given.column3, sending_since = given.column4,
    state = 2, due_at = NULL, waiting = NULL,
    possibly_duplicated = CASE WHEN jobs.is_doubtful = 1 THEN 1 ELSE jobs.possibly_duplicated END
FROM (VALUES {_places(4, n)}) AS given
WHERE jobs.id = given.column1 AND jobs.call = given.column2 - 1
    AND (jobs.state = 0 OR jobs.state = 1)"""
    )
)
"""id, number, provider, now; of jobs that are queued."""

CALLED_JOBS = Bulk(
    # As one text: each row of an answer would let go of the interpreter, too.
    lambda n: (
        f"""\
SELECT json_group_array(json_array(jobs.id, jobs.call, jobs.channel, jobs.state, jobs.attempt,
    jobs.possibly_duplicated, jobs.is_doubtful))
FROM (VALUES {_places(2, n)}) AS given CROSS JOIN jobs
WHERE jobs.id = given.column1 AND jobs.call = given.column2"""
    )
)
"""id, number -> id, number, and what a deleted job leaves to say (`ending.ENDED_JOB`)."""

DELETE_JOBS = Bulk(lambda n: f"DELETE FROM jobs WHERE id IN ({', '.join('?' * n)})")
"""id."""

END_NOTIFICATIONS = Bulk(
    # Most ends name their provider; only the others look it up.
    lambda n: (
        f"""\
UPDATE {notifications.name} SET status = given.column2, reason = given.column3,
    detail = given.column4, provider = coalesce(given.column5, (
        SELECT provider FROM provider_calls WHERE notification_id = given.column1
        ORDER BY number DESC LIMIT 1)),
    attempts = given.column6, possibly_duplicated = given.column7, updated_at = given.column8
FROM (VALUES {_places(8, n)}) AS given
WHERE notifications.id = given.column1"""
    )
)
"""id, status, reason, detail, provider or None, attempts, possibly_duplicated, now."""

GATHERED = (INSERT_JOBS, INSERT_CALLS, END_NOTIFICATIONS)
"""What a transaction may write at its end, in this order: an end looks up the last call."""
