"""Retention: what has ended and is old enough goes, some at a time, and the counts stay.

A record goes with its calls, its receipts and what people did about it, in one transaction with
the note in `purged`, by which the counts still reconcile. What is live stays, however old, and so
do dead letters while a redrive of their channel runs.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import bindparam, delete, exists, select, text

from clarion.domain.notification import Status
from clarion.policies.identifier import floor_id
from clarion.storage import schema
from clarion.storage.acceptance import PURGE_KEYS, PURGED_AT_ONCE
from clarion.storage.command import Purge, PurgedRows
from clarion.storage.schema import (
    interventions,
    jobs,
    notifications,
    provider_calls,
    purged,
    receipts,
    redrives,
)
from clarion.storage.statement import merge_row, prepare, verbatim
from clarion.storage.transaction import Transaction

_record = notifications.c

FIND_OLD = prepare(
    select(_record.id, _record.channel, _record.status, _record.updated_at)
    .where(_record.id > bindparam("after"), _record.id < bindparam("until"))
    .order_by(_record.id)
    .limit(bindparam("limit")),
    "after",
    "until",
    "limit",
)
"""id to start behind, id to stop before, limit -> id, channel, status, updated_at."""

DELETE_RECORD = prepare(
    delete(notifications).where(
        _record.id == bindparam("id"),
        # It may have come back to life since it was looked at.
        _record.updated_at == bindparam("seen"),
        ~exists().where(jobs.c.id == _record.id),
    ),
    "id",
    "seen",
)
"""id, its updated_at."""

DELETE_STORY = tuple(
    prepare(delete(table).where(table.c.notification_id == bindparam("id")), "id")
    for table in (provider_calls, receipts, interventions)
)
"""id."""

FIND_REDRIVEN = prepare(select(redrives.c.channel).where(text(f"redrives.{schema.IS_RUNNING}")))
"""-> channel of each redrive that runs."""

DELETE_REDRIVES = prepare(
    delete(redrives).where(
        text(f"NOT redrives.{schema.IS_RUNNING}"), redrives.c.ended_at < bindparam("before")
    ),
    "before",
)
"""instant."""

TAKE_TURN = verbatim("SELECT pg_try_advisory_xact_lock(hashtext(current_schema() || ' purge'))")
"""Whether no other node is at it just now; of a server."""

NOTE_PURGED = merge_row(purged, lambda old, new: {"n": old.n + new.n})
"""channel, status, how many."""


def purge(tx: Transaction, command: Purge) -> PurgedRows:
    """Remove some of what is old; see `Purge`."""
    if tx.is_shared and not tx.fetch(TAKE_TURN)[0][0]:
        return PurgedRows({}, None)
    tx.execute(PURGE_KEYS, (command.now, PURGED_AT_ONCE))
    if not command.after:
        tx.execute(DELETE_REDRIVES, (command.before,))
    redriven = {channel for (channel,) in tx.execute(FIND_REDRIVEN)}
    until = floor_id(max(0.0, command.before))
    rows = tx.execute(FIND_OLD, (command.after, until, command.limit)).fetchall()
    gone: Counter[tuple[str, str]] = Counter()
    for id, channel, status, updated_at in rows:
        is_wanted = status == Status.FAILED and channel in redriven
        if updated_at < command.before and not is_wanted and _remove(tx, id, updated_at):
            gone[channel, status] += 1
    for (channel, status), n in gone.items():
        tx.execute(NOTE_PURGED, (channel, status, n))
    return PurgedRows(dict(gone), rows[-1][0] if len(rows) == command.limit else None)


def _remove(tx: Transaction, id: str, seen: float) -> bool:
    if not tx.execute(DELETE_RECORD, (id, seen)).rowcount:
        return False
    for sql in DELETE_STORY:
        tx.execute(sql, (id,))
    return True
