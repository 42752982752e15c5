"""Delivering: the intent before a call (Tx2), and what its end means for the job (Tx3).

These run for every notification: one row write for an intent, three for a settlement.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, case, delete, or_, select, update

from clarion.domain.notification import Call, JobState, ProviderCall, Reason, Status
from clarion.domain.outcome import Outcome
from clarion.storage.bulk import CALLED_JOBS, DELETE_JOBS, INSERT_CALLS, INTEND
from clarion.storage.command import Defer, Deferred, Intend, Settle
from clarion.storage.ending import END_WAITING_JOB, ENDED_JOB, End, close
from clarion.storage.row import call_row, tried_text
from clarion.storage.schema import jobs, receipts
from clarion.storage.statement import (
    NULL,
    ONE,
    READY,
    SCHEDULED,
    SENDING,
    TIMED,
    Statement,
    prepare,
)
from clarion.storage.transaction import NOBODY, Transaction

_job = jobs.c


def _intend(*states: ColumnElement[int]) -> Statement:
    doubled = case((_job.is_doubtful == ONE, ONE), else_=_job.possibly_duplicated)
    return prepare(
        update(jobs)
        .where(
            _job.id == bindparam("job_id"),
            _job.call == bindparam("number") - ONE,
            or_(*(_job.state == state for state in states)),
        )
        .values(
            call=bindparam("number"),
            sending=bindparam("provider"),
            sending_since=bindparam("now"),
            state=SENDING,
            due_at=NULL,
            waiting=NULL,
            possibly_duplicated=doubled,
        ),
        "job_id",
        "number",
        "provider",
        "now",
    )


INTEND_QUEUED = _intend(READY, TIMED)
INTEND_SCHEDULED = _intend(SCHEDULED)
"""id, number, provider, now."""

END_CALLED_JOB = prepare(
    delete(jobs)
    .where(_job.id == bindparam("id"), _job.call == bindparam("number"))
    .returning(*ENDED_JOB),
    "id",
    "number",
)
"""id, number -> `ENDED_JOB`."""

_PROGRESS = (
    "state", "due_at", "tried", "attempt", "waiting", "is_doubtful", "is_walk_unknown",
    "is_walk_burning", "probes", "bugs", "node",
)  # fmt: skip
DEFER = prepare(
    update(jobs)
    .where(_job.id == bindparam("job_id"), _job.call == bindparam("number"), _job.state == SENDING)
    .values(sending=NULL, sending_since=NULL, **{name: bindparam(name) for name in _PROGRESS})
    .returning(_job.cancel_requested),
    "job_id",
    "number",
    *_PROGRESS,
)
"""id, number, then `_PROGRESS` -> cancel_requested."""

FIND_MOVE = prepare(
    select(receipts.c.moved_to)
    .where(receipts.c.notification_id == bindparam("id"), receipts.c.moved_to.is_not(None))
    .limit(1),
    "id",
)
"""id -> a move that a receipt made, if one did."""

_BURNS_NO_ATTEMPT = frozenset(
    {Outcome.THROTTLED, Outcome.MISCONFIGURED, Outcome.REFUSED, Outcome.RECALLED}
)


def intend(tx: Transaction, command: Intend) -> list[Call]:
    """Note that each call may be out, and return those whose row allowed it; see `Intend`."""
    if not tx.unwritten_jobs.isdisjoint(call.job.id for call in command.calls):
        tx.write_rows()
    return list(command.calls) if _intend_all(tx, command) else _intend_apart(tx, command)


def _intend_all(tx: Transaction, command: Intend) -> bool:
    """Note them in one statement; where a row is not as most are, nothing is written."""
    rows = [(call.job.id, call.number, call.provider, command.now) for call in command.calls]
    is_complete = tx.write_all(INTEND, rows)
    if is_complete:
        tx.move(command.channel, Status.QUEUED, Status.SENDING, len(rows))
    return is_complete


def _intend_apart(tx: Transaction, command: Intend) -> list[Call]:
    matched: list[Call] = []
    for call in command.calls:
        values = (call.job.id, call.number, call.provider, command.now)
        if tx.execute(INTEND_QUEUED, values).rowcount:
            tx.move(call.job.channel, Status.QUEUED, Status.SENDING)
        elif tx.execute(INTEND_SCHEDULED, values).rowcount:
            tx.move(call.job.channel, Status.SCHEDULED, Status.SENDING)
        else:
            continue
        matched.append(call)
    return matched


def settle_ahead(tx: Transaction, commands: Sequence[Settle]) -> None:
    """Delete together the jobs of commands that come one after the other; `settle` does the rest.

    Each ends another call, so their order does not matter; `settle` also looks for what is missing.
    """
    wanted = [(each.job.id, each.number) for each in commands if each.number is not None]
    if len(wanted) < len(commands):
        return
    for id, number, *row in CALLED_JOBS.read(tx.connection, wanted):
        tx.deleted_jobs[id, number] = tuple(row)
    DELETE_JOBS.run(tx.connection, [(id,) for id, _ in tx.deleted_jobs])


def settle(tx: Transaction, command: Settle) -> bool:
    """End the notification if its row still waits for this; see `Settle`."""
    job, record = command.job, command.record
    if job.id in tx.unwritten_jobs:
        tx.write_rows()
    if command.number is None:
        row = tx.execute(END_WAITING_JOB, (job.id,)).fetchone()
    else:
        key = (job.id, command.number)
        row = tx.deleted_jobs.pop(key, None) or tx.execute(END_CALLED_JOB, key).fetchone()
    if row is None:
        _note_ended(tx, record)
        return False
    if record is not None:
        tx.write_later(INSERT_CALLS, call_row(record))
    end = End(
        status=command.status,
        reason=command.reason,
        now=command.now,
        detail=command.detail,
        provider=None if record is None else record.provider,
        attempts=job.attempt + _is_attempt(command),
    )
    close(tx, job.id, row, end)
    return True


def _is_attempt(command: Settle) -> bool:
    # The job's own number counts the walks that went on; the one that ends it is not in there.
    # It is exhausted only by one that burnt, whatever its last call came to.
    record = command.record
    is_burnt = record is not None and record.outcome not in _BURNS_NO_ATTEMPT
    return is_burnt or command.reason == Reason.EXHAUSTED


def defer(tx: Transaction, command: Defer) -> Deferred | None:
    """Let the job go on if this call is the one that is out; see `Defer`."""
    if command.job.id in tx.unwritten_jobs:
        tx.write_rows()
    state = JobState.READY if command.due_at is None else JobState.TIMED
    values = (
        command.job.id, command.number, state, command.due_at, tried_text(command.tried),
        command.attempt, command.waiting, command.is_doubtful, command.is_walk_unknown,
        command.is_walk_burning, command.probes, command.bugs,
        tx.node if command.is_ours else NOBODY,
    )  # fmt: skip
    row = tx.execute(DEFER, values).fetchone()
    if row is None:
        _note_ended(tx, command.record)
        return None
    if command.record is not None:
        tx.write_later(INSERT_CALLS, call_row(command.record))
    tx.move(command.job.channel, Status.SENDING, Status.QUEUED)
    return Deferred(is_cancel_requested=bool(row[0]))


def _note_ended(tx: Transaction, record: ProviderCall | None) -> None:
    """Note the end of a call whose notification a receipt ended while it was out."""
    if record is not None and tx.execute(FIND_MOVE, (record.notification_id,)).fetchone():
        tx.write_later(INSERT_CALLS, call_row(record))
