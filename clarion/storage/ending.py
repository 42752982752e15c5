"""Ending what waits: cancelled, expired, or poison."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, or_, select, text, update

from clarion.domain.notification import JobState, ProviderCall, Reason, Status
from clarion.domain.outcome import Outcome
from clarion.domain.value import value_class
from clarion.policies.identifier import floor_id
from clarion.storage import schema
from clarion.storage.bulk import END_NOTIFICATIONS, INSERT_CALLS
from clarion.storage.command import Cancel, CancelResult, Discard, EndedRow, Expire
from clarion.storage.database import Row
from clarion.storage.row import call_row, counted_as, state_of
from clarion.storage.schema import jobs, notifications
from clarion.storage.statement import ONE, SENDING, ZERO, literal, prepare
from clarion.storage.transaction import Transaction

_job = jobs.c
_record = notifications.c

ENDED_JOB = (_job.channel, _job.state, _job.attempt, _job.possibly_duplicated, _job.is_doubtful)
"""What a deleted job leaves to say."""

END_WAITING_JOB = prepare(
    delete(jobs).where(_job.id == bindparam("id"), _job.state != SENDING).returning(*ENDED_JOB),
    "id",
)
"""id -> `ENDED_JOB`."""

END_JOB = prepare(delete(jobs).where(_job.id == bindparam("id")).returning(*ENDED_JOB), "id")
"""id -> `ENDED_JOB`."""

FIND_JOB = prepare(
    select(_job.state, _job.is_doubtful).where(_job.id == bindparam("id")).with_for_update(), "id"
)
"""id -> state, is_doubtful; nobody else changes it before the commit."""

FIND_CALL_OUT = prepare(
    select(_job.call, _job.sending, _job.sending_since).where(
        _job.id == bindparam("id"), _job.state == SENDING
    ),
    "id",
)
"""id -> call, sending, sending_since of a job whose call may be out."""

FIND_STATUS = prepare(select(_record.status).where(_record.id == bindparam("id")), "id")
"""id -> the record's status."""

REQUEST_CANCEL = prepare(
    update(jobs).where(_job.id == bindparam("job_id")).values(cancel_requested=ONE), "job_id"
)
"""id."""

# Another node has its own in memory, and ends them itself.
_IS_NO_OTHERS = or_(_job.node == bindparam("node"), _job.node == literal("''"))

FIND_EXPIRED_BY_CHOICE = prepare(
    select(_job.id, _job.is_doubtful)
    .where(
        text(schema.IS_EXPIRY_EXPLICIT),
        _job.channel == bindparam("channel"),
        _job.expires_at <= bindparam("now"),
        _job.state != SENDING,
        _IS_NO_OTHERS,
    )
    .order_by(_job.expires_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True),
    "channel",
    "now",
    "node",
    "limit",
)
"""channel, now, node, limit -> id, is_doubtful."""

FIND_EXPIRED_BY_DEFAULT = prepare(
    select(_job.id, _job.is_doubtful)
    .where(
        # Ids are ordered by time: the primary key itself finds what is old enough.
        _job.id < bindparam("floor_id"),
        _job.is_expiry_explicit == ZERO,
        _job.channel == bindparam("channel"),
        _job.expires_at <= bindparam("now"),
        _job.state != SENDING,
        _IS_NO_OTHERS,
    )
    .order_by(_job.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True),
    "channel",
    "now",
    "node",
    "floor_id",
    "limit",
)
"""channel, now, node, floor id, limit -> id, is_doubtful."""


@value_class
class End:
    """How a notification ends; `provider` None means the one of its last call."""

    status: Status
    reason: str | None
    now: float
    detail: str | None = None
    provider: str | None = None
    attempts: int | None = None
    """None: as many as the job's row says."""


def close(tx: Transaction, id: str, ended_job: Row, end: End) -> None:
    """Write the end into the record of a job that was just deleted, and move the counts."""
    channel, state, attempt, possibly_duplicated, _ = ended_job
    attempts = attempt if end.attempts is None else end.attempts
    tx.write_later(
        END_NOTIFICATIONS,
        (
            id, end.status, end.reason, end.detail, end.provider, attempts,
            possibly_duplicated, end.now,
        ),
    )  # fmt: skip
    tx.move(channel, counted_as(state), end.status)


def cancel(tx: Transaction, command: Cancel) -> CancelResult:
    """End it, or ask the call that is out to be the last; see `Cancel`."""
    found = tx.execute(FIND_JOB, (command.id,)).fetchone()
    if found is None:
        return _cancel_too_late(tx, command.id)
    state, is_doubtful = found
    if state == JobState.SENDING:
        tx.execute(REQUEST_CANCEL, (command.id,))
        return CancelResult("requested", command.id, Status.SENDING)
    status = Status.UNKNOWN if is_doubtful else Status.CANCELLED
    end_job(tx, command.id, End(status, Reason.CANCELLED, command.now))
    return CancelResult("cancelled", command.id, status, state_of(state))


def _cancel_too_late(tx: Transaction, id: str) -> CancelResult:
    tx.write_rows()
    found = tx.execute(FIND_STATUS, (id,)).fetchone()
    if found is None:
        return CancelResult("missing", id)
    return CancelResult("final", id, Status(found[0]))


def end_job(tx: Transaction, id: str, end: End) -> EndedRow:
    """End a job that is known to be there."""
    row = tx.execute(END_JOB, (id,)).fetchone()
    close(tx, id, row, end)
    return EndedRow(id, end.status, state_of(row[1]))


def expire(tx: Transaction, command: Expire) -> list[EndedRow]:
    """End waiting jobs whose time is over; see `Expire`."""
    channel, now = command.channel, command.now
    rows = tx.fetch(FIND_EXPIRED_BY_CHOICE, (channel, now, tx.node, command.limit))
    floor = floor_id(max(0.0, now - command.default_expires_after_s))
    left = command.limit - len(rows)
    rows += tx.fetch(FIND_EXPIRED_BY_DEFAULT, (channel, now, tx.node, floor, left))
    ended: list[EndedRow] = []
    for id, is_doubtful in rows:
        status = Status.UNKNOWN if is_doubtful else Status.EXPIRED
        ended.append(end_job(tx, id, End(status, Reason.EXPIRED, now)))
    return ended


def discard(tx: Transaction, command: Discard) -> bool:
    """End a job as poison; return whether there was one."""
    return end_as_poison(tx, command.id, command.now) is not None


def end_as_poison(tx: Transaction, id: str, now: float) -> EndedRow | None:
    """End a job that cannot be worked on; None where there is none.

    `unknown` where a call is or may be out, since a provider may have it; `failed` otherwise.
    """
    _keep_call_out(tx, id, now)
    row = tx.execute(END_JOB, (id,)).fetchone()
    if row is None:
        return None
    _, state, *_, is_doubtful = row
    may_be_out = is_doubtful or state == JobState.SENDING
    status = Status.UNKNOWN if may_be_out else Status.FAILED
    close(tx, id, row, End(status, Reason.POISON, now, "the stored row cannot be worked on"))
    return EndedRow(id, status, state_of(state))


def _keep_call_out(tx: Transaction, id: str, now: float) -> None:
    """Keep a call that is out: its receipt has to find it, and no later one may have its number."""
    for number, provider, since in tx.fetch(FIND_CALL_OUT, (id,)):
        record = ProviderCall(
            notification_id=id,
            number=number,
            # Of a row that cannot be read, it need not be a text either.
            provider=(provider or "").encode("utf-8", "replace").decode(),
            outcome=Outcome.UNKNOWN,
            reason=Reason.POISON,
            detail="Its notification was given up while this call may have been out.",
            started_at=now if since is None else since,
            ended_at=now,
        )
        tx.write_later(INSERT_CALLS, call_row(record))
