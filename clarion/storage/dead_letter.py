"""Going through dead letters, oldest death first, a bounded number at a time; and discarding them.

Each step reads the index of dead letters behind a cursor and filters what it finds, so that it
takes no longer for a filter that few match: the writer has others to serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, text, tuple_, update

from clarion.domain.redrive import DeadFilter
from clarion.storage import schema
from clarion.storage.database import Row
from clarion.storage.redrive_command import DiscardDead, DiscardedRows
from clarion.storage.schema import interventions, notifications
from clarion.storage.statement import insert_row, prepare
from clarion.storage.transaction import Transaction

SCANNED_AT_ONCE = 1000
"""Dead letters that one command looks at, at most: some 3 ms."""

Place = tuple[float, str]
"""(time of the end, id): the order of dead letters; those that a filter names go by id alone."""

_record = notifications.c

SCAN = prepare(
    select(
        _record.updated_at, _record.id, _record.channel, _record.reason, _record.provider,
        _record.discarded_at,
    )
    .where(
        text(f"notifications.{schema.IS_DEAD}"),
        tuple_(_record.updated_at, _record.id) > tuple_(bindparam("at"), bindparam("id")),
        _record.updated_at < bindparam("until"),
    )
    .order_by(_record.updated_at, _record.id)
    .limit(bindparam("limit")),
    "at",
    "id",
    "until",
    "limit",
)  # fmt: skip
"""at, id, until, limit -> updated_at, id, channel, reason, provider, discarded_at."""

FIND_DEAD = prepare(
    select(
        _record.updated_at, _record.id, _record.channel, _record.reason, _record.provider,
        _record.discarded_at,
    ).where(_record.id == bindparam("id"), text(f"notifications.{schema.IS_DEAD}")),
    "id",
)  # fmt: skip
"""id -> the columns of `SCAN`."""

DISCARD = prepare(
    update(notifications)
    .where(
        _record.id == bindparam("record_id"),
        text(f"notifications.{schema.IS_DEAD}"),
        _record.discarded_at.is_(None),
    )
    .values(discarded_at=bindparam("now")),
    "record_id",
    "now",
)
"""id, now."""

KEEP_INTERVENTION = insert_row(interventions)
"""In the order of the table's columns."""


def first_place(wanted: DeadFilter) -> Place:
    """Return the place behind which the first one of the filter comes."""
    return (-1.0 if wanted.since is None else wanted.since, "")


def last_instant(wanted: DeadFilter, now: float) -> float:
    """Return the instant before which all of the filter died.

    What dies from `now` on is not meant: a redrive would not end while its own dead come back.
    Those that a filter names are gone through once, whenever they died.
    """
    return now if wanted.until is None else min(wanted.until, now)


@dataclass(slots=True)
class Scan:
    """One step through the dead letters; `place` is where it got to."""

    wanted: DeadFilter
    place: Place
    until: float
    is_over: bool = False
    """Whether every dead letter was looked at."""

    def find(self, tx: Transaction) -> Iterator[str]:
        """Yield the ids of those that match; may be left off at any one, to go on behind it."""
        if self.wanted.ids is not None:
            yield from self._matches(self._named(tx, self.wanted.ids))
            self.is_over = True
            return
        rows = tx.fetch(SCAN, (*self.place, self.until, SCANNED_AT_ONCE))
        yield from self._matches(rows)
        self.is_over = len(rows) < SCANNED_AT_ONCE

    def _named(self, tx: Transaction, ids: Sequence[str]) -> Iterator[Row]:
        _, last = self.place
        for id in ids:
            if id > last:
                yield from tx.fetch(FIND_DEAD, (id,))

    def _matches(self, rows: Iterable[Row]) -> Iterator[str]:
        for at, id, channel, reason, provider, discarded_at in rows:
            self.place = (at, id)
            if discarded_at is None and self.wanted.matches(channel, reason, provider):
                yield id


def keep_intervention(
    tx: Transaction, id: str, at: float, event: str, who: str, detail: str = ""
) -> None:
    """Note what a person did about a notification, for its timeline."""
    tx.execute(KEEP_INTERVENTION, (id, at, event, who, detail))


def discard_dead(tx: Transaction, command: DiscardDead) -> DiscardedRows:
    """Put some aside; see `DiscardDead`."""
    until = last_instant(command.wanted, command.now)
    scan = Scan(command.wanted, max(command.after, first_place(command.wanted)), until)
    n = 0
    for id in scan.find(tx):
        if tx.execute(DISCARD, (id, command.now)).rowcount:
            keep_intervention(tx, id, command.now, "discarded", command.who)
            n += 1
    return DiscardedRows(n, None if scan.is_over else scan.place)


__all__ = ["Place", "Scan", "discard_dead", "first_place", "keep_intervention",
           "last_instant"]  # fmt: skip
