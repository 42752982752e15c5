"""Databases of any depth, written with SQL: a million rows in seconds instead of minutes.

The rows are such as the service itself leaves: ids of this time, fair stamps in order, addresses
spread over their index, counts that reconcile (`clarion check --recount` finds no fault).
"""

from __future__ import annotations

import sqlite3
import time
from enum import StrEnum
from pathlib import Path

from clarion.domain.notification import JobState, Priority, Status
from clarion.policies.identifier import floor_id
from clarion.storage.sqlite_store import SqliteStore

LANE = "email"
"""The lane that is measured."""
HELD_LANE = "sms"
"""A lane whose only provider an operator has disabled."""
LIFE_S = 3 * 24 * 3600.0
_TIME_CHARS = 10
"""Leading characters of an id that say when it was made."""
_HASTE = ("synchronous = OFF", "journal_mode = MEMORY", "cache_size = -1000000")
"""Nobody reads the file yet, and a power cut costs a benchmark nothing."""
_AGE_S = 600.0
"""How long ago the rows were accepted."""


class Shape(StrEnum):
    """What the rows are doing there."""

    PENDING = "pending"
    """Waiting in the lane that is measured, in front of it a provider that takes them."""
    HELD = "held"
    """Waiting in another lane, which has no provider."""
    SCHEDULED = "scheduled"
    """Due in some days, in the lane that is measured."""
    FINISHED = "finished"
    """Sent, from the lane that is measured; their records and calls are kept."""


# Multiplying by an odd number scatters the addresses: neighbours in time are none in the index.
_FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :n)
INSERT INTO {table}
SELECT {values} FROM n
"""
_ID = ":made_at || printf('%016d', i)"
_NOTIFICATION = (
    (
        f"{_ID}, :channel, printf('row%010d@example.com', (i * 2654435761) % 4294967296),"
        ' \'{{"subject":"Your order is on its way","text":"Order \' || i || \' left our house'
        " today. It should arrive within two days.\"}}',"
        f" {int(Priority.NORMAL)}, 'at_least_once', NULL, NULL, NULL, '', :status, NULL, NULL,"
        " :provider, :attempts, 0, :accepted_at, :accepted_at, :expires_at, NULL"
    )
    .replace("{{", "{")
    .replace("}}", "}")
)
_JOB = (
    f"{_ID}, :channel, {int(Priority.NORMAL)}, '', i + 1.0, :state, :due_at + i * 0.001,"
    " 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, :expires_at, 0, 'at_least_once', 0, 0, 0, :waiting,"
    " 'local'"
)
_CALL = (
    f"{_ID}, 1, :provider, 'accepted', 'http_202', '', :accepted_at, :accepted_at + 0.05,"
    " 'first in the route', NULL, 'm' || i, 0"
)


def make(path: Path, shape: Shape, n: int) -> float:
    """Write a database of `n` rows; return the seconds that it took."""
    started_at = time.monotonic()
    store = SqliteStore(str(path))
    store.open()
    try:
        for pragma in _HASTE:
            store.connection.execute(f"PRAGMA {pragma}")
        store.begin()
        if n:
            _fill(store.connection, shape, n)
        _hold(store.connection)
        store.commit()
    finally:
        store.close()
    return time.monotonic() - started_at


def _fill(connection: sqlite3.Connection, shape: Shape, n: int) -> None:
    now = time.time()
    is_finished, is_scheduled = shape is Shape.FINISHED, shape is Shape.SCHEDULED
    state = JobState.SCHEDULED if is_scheduled else JobState.READY
    status = Status.SENT if is_finished else state.status
    values = {
        "n": n,
        "made_at": floor_id(now - _AGE_S)[:_TIME_CHARS],
        "channel": HELD_LANE if shape is Shape.HELD else LANE,
        "status": status,
        "provider": "sendgrid" if is_finished else None,
        "attempts": int(is_finished),
        "accepted_at": now - _AGE_S,
        "expires_at": now + LIFE_S,
        "state": state,
        "due_at": now + LIFE_S / 2 if is_scheduled else None,
        "waiting": "schedule" if is_scheduled else None,
    }
    tables = {"notifications": _NOTIFICATION}
    tables |= {"provider_calls": _CALL} if is_finished else {"jobs": _JOB}
    for table, columns in tables.items():
        connection.execute(_FILL.format(table=table, values=columns), values)
    _count(connection, values)


def _count(connection: sqlite3.Connection, values: dict[str, object]) -> None:
    for status in ("accepted", values["status"]):
        connection.execute(
            "INSERT INTO counts VALUES ('local', :channel, :as, :n)", {**values, "as": status}
        )
    if values["state"] == JobState.READY:
        connection.execute(
            f"INSERT INTO flows VALUES (:channel, {int(Priority.NORMAL)}, '', 'local', :n)", values
        )


def _hold(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO controls VALUES ('provider', 'twilio', 'disabled', 'benchmark', ?, 'local')",
        (time.time(),),
    )


def size_bytes(path: Path) -> int:
    """Return the size of the database and its journal."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
