"""Redrives: dead letters go back into their lane, some at a time, and nothing is moved twice.

A row of `redrives` is the truth about one lane's part: how far it got, how many it moved. It
changes in the transaction that moves them, so that a death in between leaves both or neither.
"""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import bindparam, select, text, update

from clarion.domain.notification import Priority, Status
from clarion.domain.redrive import DeadFilter, RedrivePart, RedriveState
from clarion.storage import schema
from clarion.storage.database import Row
from clarion.storage.dead_letter import Place, Scan, first_place, keep_intervention, last_instant
from clarion.storage.redrive_command import (
    BeginRedrive,
    CancelRedrive,
    LoadRedrives,
    RedrivenRows,
    RedriveSome,
    ResolveAsRetry,
    ResolveAsSent,
    ResolveResult,
)
from clarion.storage.revival import Return, revive
from clarion.storage.row import Undecodable
from clarion.storage.schema import notifications, redrives
from clarion.storage.statement import NULL, insert_row, literal, prepare
from clarion.storage.transaction import Transaction

PRIORITY = Priority.LOW
"""Of redriven jobs in their lane, whatever they had: they are late already, fresh ones are not."""

_part = redrives.c
_record = notifications.c

INSERT_PART = insert_row(redrives)
"""In the order of the table's columns."""

_shown = (
    _part.id, _part.channel, _part.wanted_reason, _part.wanted_provider, _part.wanted_channel,
    _part.wanted_since, _part.wanted_until, _part.rate, _part.state, _part.matched, _part.moved,
    _part.skipped, _part.who, _part.created_at, _part.updated_at, _part.ended_at, _part.wanted_ids,
)  # fmt: skip

FIND_RUNNING = prepare(
    select(*_shown)
    .where(text(f"redrives.{schema.IS_RUNNING}"), _part.node == bindparam("node"))
    .order_by(_part.id, _part.channel),
    "node",
)
"""node -> the columns that `read_part` takes, of those that it drives."""

TAKE_OVER = prepare(
    update(redrives)
    .where(text(schema.IS_RUNNING), _part.node == literal("''"))
    .values(node=bindparam("heir")),
    "heir",
)
"""node; what ran on one that is gone."""

FIND_PART = prepare(
    select(*_shown, _part.cursor_at, _part.cursor_id, _part.last_vt)
    .where(_part.id == bindparam("id"), _part.channel == bindparam("channel"))
    # It may be cancelled at another node meanwhile.
    .with_for_update(),
    "id",
    "channel",
)
"""id, channel -> the columns that `read_part` takes, the cursor, the last fair stamp."""

FIND_REDRIVE = prepare(
    select(*_shown).where(_part.id == bindparam("id")).order_by(_part.channel), "id"
)
"""id -> the columns that `read_part` takes."""

_latest = select(_part.id).distinct().order_by(_part.id.desc()).limit(bindparam("limit"))
LIST_REDRIVES = prepare(
    select(*_shown).where(_part.id.in_(_latest)).order_by(_part.id.desc(), _part.channel), "limit"
)
"""How many -> the columns that `read_part` takes, the latest redrive first."""

ADVANCE = prepare(
    update(redrives)
    .where(_part.id == bindparam("part_id"), _part.channel == bindparam("lane"))
    .values(
        state=bindparam("new_state"),
        matched=bindparam("n_matched"),
        moved=bindparam("n_moved"),
        skipped=bindparam("n_skipped"),
        cursor_at=bindparam("at"),
        cursor_id=bindparam("place"),
        last_vt=bindparam("vt"),
        updated_at=bindparam("now"),
        ended_at=bindparam("end"),
    ),
    "part_id", "lane", "new_state", "n_matched", "n_moved", "n_skipped", "at", "place", "vt", "now",
    "end",
)  # fmt: skip
"""id, channel, then what it has come to."""

CANCEL = prepare(
    update(redrives)
    .where(_part.id == bindparam("part_id"), text(schema.IS_RUNNING))
    .values(
        state=literal(f"'{RedriveState.CANCELLED}'"),
        updated_at=bindparam("now"),
        ended_at=bindparam("now"),
    ),
    "part_id",
    "now",
)
"""id, now."""

FIND_STATUS = prepare(
    select(_record.status, _record.channel).where(_record.id == bindparam("id")), "id"
)
"""id -> status and channel of the record."""

RESOLVE_AS_SENT = prepare(
    update(notifications)
    .where(_record.id == bindparam("record_id"), _record.status == literal("'unknown'"))
    .values(status=literal("'sent'"), reason=NULL, detail=NULL, updated_at=bindparam("now")),
    "record_id",
    "now",
)
"""id, now."""


def read_part(row: Row) -> RedrivePart:
    """Return the part of a row of the shown columns."""
    (
        id, channel, reason, provider, wanted_channel, since, until, rate, state, matched, moved,
        skipped, who, created_at, updated_at, ended_at, wanted_ids,
    ) = row  # fmt: skip
    ids = None if wanted_ids is None else tuple(json.loads(wanted_ids))
    wanted = DeadFilter(reason, provider, wanted_channel, since, until, ids)
    return RedrivePart(
        id, channel, wanted, rate, RedriveState(state), matched, moved, skipped, who, created_at,
        updated_at, ended_at,
    )  # fmt: skip


# --- redrives --------------------------------------------------------------------------------


def begin(tx: Transaction, command: BeginRedrive) -> None:
    """Remember a redrive; see `BeginRedrive`."""
    for part in command.parts:
        wanted = part.wanted
        tx.execute(
            INSERT_PART,
            (
                part.id, part.channel, wanted.reason, wanted.provider, wanted.channel,
                wanted.since, wanted.until, part.rate, part.state, part.matched, part.moved,
                part.skipped, *first_place(wanted), 0.0, part.who, part.created_at,
                part.updated_at, part.ended_at,
                None if wanted.ids is None else json.dumps(wanted.ids), tx.node,
            ),
        )  # fmt: skip


def load_running(tx: Transaction, _command: LoadRedrives) -> list[RedrivePart]:
    """Read the parts that run; see `LoadRedrives`."""
    if tx.is_shared:
        tx.execute(TAKE_OVER, (tx.node,))
    return [read_part(row) for row in tx.fetch(FIND_RUNNING, (tx.node,))]


def cancel(tx: Transaction, command: CancelRedrive) -> int:
    """End the running parts of a redrive; see `CancelRedrive`."""
    return tx.execute(CANCEL, (command.id, command.now)).rowcount


def redrive_some(tx: Transaction, command: RedriveSome) -> RedrivenRows:
    """Move the next ones back into their lane; see `RedriveSome`."""
    row = tx.execute(FIND_PART, (command.id, command.channel)).fetchone()
    if row is None:
        return RedrivenRows(RedriveState.CANCELLED)
    *shown, at, id, last_vt = row
    part = read_part(tuple(shown))
    if part.state is not RedriveState.RUNNING:
        return RedrivenRows(part.state)
    return _move(tx, command, part, (at, id), max(command.revival.vt, last_vt + 1.0))


def _move(
    tx: Transaction, command: RedriveSome, part: RedrivePart, place: Place, vt: float
) -> RedrivenRows:
    wanted, revival = part.wanted, command.revival
    here = replace(wanted, channel=part.channel)
    scan = Scan(here, place, last_instant(wanted, part.created_at))
    found = RedrivenRows(RedriveState.RUNNING)
    skipped = part.skipped
    for id in scan.find(tx):
        try:
            job = revive(tx, id, Return(Status.FAILED, revival, vt + len(found.jobs), PRIORITY))
        except Undecodable:
            # It would die again as soon as its lane loads it.
            skipped += 1
            continue
        if job is None:
            continue
        keep_intervention(tx, id, revival.now, "redriven", part.who, f"by redrive {part.id}")
        found.jobs.append(job)
        if len(found.jobs) == command.limit:
            break
    moved = part.moved + len(found.jobs)
    is_over = scan.is_over
    if is_over:
        skipped = max(skipped, part.matched - moved)
    state = RedriveState.DONE if is_over else RedriveState.RUNNING
    tx.execute(
        ADVANCE,
        (
            part.id, part.channel, state, moved + skipped if is_over else part.matched, moved,
            skipped, *scan.place, vt + len(found.jobs), revival.now,
            revival.now if is_over else None,
        ),
    )  # fmt: skip
    return RedrivenRows(state, found.jobs)


# --- unknown ones ----------------------------------------------------------------------------


def resolve_as_sent(tx: Transaction, command: ResolveAsSent) -> ResolveResult:
    """Believe a person that it was sent; see `ResolveAsSent`."""
    if not tx.execute(RESOLVE_AS_SENT, (command.id, command.now)).rowcount:
        return _not_unknown(tx, command.id)
    tx.move(command.channel, Status.UNKNOWN, Status.SENT)
    keep_intervention(tx, command.id, command.now, "resolved", command.who, "as sent")
    return ResolveResult(True, Status.SENT)


def resolve_as_retry(tx: Transaction, command: ResolveAsRetry) -> ResolveResult:
    """Send it on a person's word; see `ResolveAsRetry`."""
    revival = command.revival
    try:
        job = revive(tx, command.id, Return(Status.UNKNOWN, revival, revival.vt))
    except Undecodable:
        job = None
    if job is None:
        return _not_unknown(tx, command.id)
    keep_intervention(tx, command.id, revival.now, "resolved", command.who, "as retry")
    return ResolveResult(True, Status.QUEUED, job)


def _not_unknown(tx: Transaction, id: str) -> ResolveResult:
    row = tx.execute(FIND_STATUS, (id,)).fetchone()
    return ResolveResult(False, None if row is None else Status(row[0]))
