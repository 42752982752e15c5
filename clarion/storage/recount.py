"""The counts checked against the rows: what `clarion check --recount` reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select

from clarion.storage.database import Connection
from clarion.storage.row import counted_as
from clarion.storage.schema import counts, jobs, notifications, purged
from clarion.storage.statement import ROLLBACK, SNAPSHOT, prepare, total
from clarion.storage.transaction import ACCEPTED

COUNTED = prepare(
    select(counts.c.channel, counts.c.status, total(counts.c.n)).group_by(
        counts.c.channel, counts.c.status
    )
)
LIVE = prepare(
    select(jobs.c.channel, jobs.c.state, func.count()).group_by(jobs.c.channel, jobs.c.state)
)
ENDED = prepare(
    select(notifications.c.channel, notifications.c.status, func.count())
    .where(~select(jobs.c.id).where(jobs.c.id == notifications.c.id).exists())
    .group_by(notifications.c.channel, notifications.c.status)
)
ALL = prepare(select(notifications.c.channel, func.count()).group_by(notifications.c.channel))

PURGED = prepare(select(purged.c.channel, purged.c.status, purged.c.n))


@dataclass(frozen=True, slots=True)
class Difference:
    """A count that the rows, and what retention has removed of them, do not confirm."""

    channel: str
    status: str
    counted: int
    found: int


def recount(connection: Connection) -> list[Difference]:
    """Count all rows, in one snapshot, and return where `counts` says otherwise.

    Reads every row: for a check, never for a hot path.
    """
    connection.run(SNAPSHOT)
    try:
        counted = Counter({(channel, status): n for channel, status, n in connection.run(COUNTED)})
        found = _count_rows(connection)
    finally:
        connection.run(ROLLBACK)
    return [
        Difference(channel, status, counted[channel, status], found[channel, status])
        for channel, status in sorted(counted.keys() | found.keys())
        if counted[channel, status] != found[channel, status]
    ]


def _count_rows(connection: Connection) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for channel, state, n in connection.run(LIVE):
        found[channel, counted_as(state)] += n
    for channel, status, n in connection.run(ENDED):
        found[channel, status] += n
    for channel, n in connection.run(ALL):
        found[channel, ACCEPTED] += n
    for channel, status, n in connection.run(PURGED):
        found[channel, status] += n
        found[channel, ACCEPTED] += n
    return found
