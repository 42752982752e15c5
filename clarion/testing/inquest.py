"""What a dead process left on its disk, found out from a copy that nobody else writes.

The copy has the log but not its index, as after a power cut: SQLite has to make that anew.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clarion.domain.notification import Delivery
from clarion.storage.recount import recount
from clarion.storage.sqlite import SqliteConnection

_COPIED: Final = ("", "-wal")


@dataclass(frozen=True, slots=True)
class Corpse:
    """The remains of one process."""

    ids: frozenset[str] = frozenset()
    """Every notification that is there."""
    in_flight: frozenset[str] = frozenset()
    """Those with an intent: a call of them was out, or stood by for a slot."""
    out_once: frozenset[str] = frozenset()
    """Those of them that are `at_most_once`, and never stand by."""
    told_of: frozenset[str] = frozenset()
    """Those of which a receipt is kept."""
    broken: tuple[str, ...] = ()
    """What is wrong with the file: damage, and counts that do not agree with the rows."""


def examine(database: Path) -> Corpse:
    """Look at a database; one that is not there, or has no tables yet, holds nothing."""
    copy = database.parent / "inquest" / database.name
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    for suffix in _COPIED:
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copyfile(source, copy.with_name(source.name))
    with closing(sqlite3.connect(copy, factory=SqliteConnection)) as connection:
        return _read(connection)


def _read(connection: SqliteConnection) -> Corpse:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'jobs'")
    if tables.fetchone() is None:
        return Corpse()
    verdicts = connection.execute("PRAGMA integrity_check").fetchall()
    damage = tuple(verdict for (verdict,) in verdicts if verdict != "ok")
    if damage:
        # What is read from here on may be anything, or an error.
        return Corpse(broken=damage)
    ids = connection.execute("SELECT id FROM notifications").fetchall()
    sending = connection.execute("SELECT id, delivery FROM jobs WHERE sending IS NOT NULL")
    delivery_of = dict(sending.fetchall())
    told = connection.execute("SELECT DISTINCT notification_id FROM receipts").fetchall()
    return Corpse(
        ids=frozenset(id for (id,) in ids),
        in_flight=frozenset(delivery_of),
        out_once=frozenset(id for id, how in delivery_of.items() if how == Delivery.AT_MOST_ONCE),
        told_of=frozenset(id for (id,) in told),
        broken=tuple(map(str, recount(connection))),
    )
