"""Many rows in one statement: what a batch writes and does not have to look at.

Each call into SQLite lets the event loop have the interpreter and has to win it back, which under
load takes longer than the write itself. So rows whose fate nobody asks for are gathered by the
transaction and written together, and a command with many rows writes them at once. Values are
bound, not written as text: a number comes back to the last bit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain

from clarion.storage.row import Row
from clarion.storage.schema import jobs, notifications, provider_calls

SIZES = (64, 32, 16, 8, 4, 2, 1)
"""Rows of the statements; few enough that each stays prepared."""


class Bulk:
    """One statement in several sizes; `make` writes it for a number of rows."""

    def __init__(self, make: Callable[[int], str]) -> None:
        self.sql = {size: make(size) for size in SIZES}

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Write the rows, and return how many were changed."""
        changed, at = 0, 0
        for size, sql in self.sql.items():
            while len(rows) - at >= size:
                values = tuple(chain.from_iterable(rows[at : at + size]))
                changed += connection.execute(sql, values).rowcount
                at += size
        return changed


def _places(width: int, n: int) -> str:
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * n)


def _inserting(table: str, names: Sequence[str]) -> Bulk:
    head = f"INSERT INTO {table} ({', '.join(names)}) VALUES "
    return Bulk(lambda n: f"{head}{_places(len(names), n)} ON CONFLICT DO NOTHING")


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
