"""Putting what has ended back into its lane: a record becomes live, and gets a job again.

The job starts anew, with all attempts and a time of its own, but its calls are counted on: the
number of a call fences off late answers for as long as the notification lives.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, exists, func, select, update

from clarion.domain.notification import Job, JobState, Priority, Status
from clarion.storage.bulk import INSERT_JOBS
from clarion.storage.database import Row
from clarion.storage.redrive_command import Revival
from clarion.storage.row import Undecodable, job_row, read_job
from clarion.storage.schema import notifications, provider_calls, receipts
from clarion.storage.statement import NULL, ZERO, Statement, literal, prepare
from clarion.storage.transaction import Transaction

_record = notifications.c
_call = provider_calls.c

FIND_ENDED = prepare(
    select(
        _record.channel, _record.to_address, _record.content, _record.priority,
        _record.created_at, _record.delivery, _record.possibly_duplicated, _record.tenant,
        _record.reference, _record.metadata, _record.correlation_id,
        select(func.coalesce(func.max(_call.number), ZERO))
        .where(_call.notification_id == _record.id)
        .correlate(notifications)
        .scalar_subquery(),
        exists().where(receipts.c.notification_id == _record.id).correlate(notifications),
    ).where(_record.id == bindparam("id")),
    "id",
)  # fmt: skip
"""id -> what a job is made of, the number of its last call, whether a provider told of it."""


def _revive(status: Status) -> Statement:
    condition = _record.status == literal(f"'{status}'")
    return prepare(
        update(notifications)
        .where(_record.id == bindparam("record_id"), condition, _record.discarded_at.is_(None))
        .values(
            status=literal("'queued'"),
            reason=NULL,
            detail=NULL,
            provider=NULL,
            attempts=ZERO,
            possibly_duplicated=bindparam("doubled"),
            updated_at=bindparam("now"),
            expires_at=bindparam("expires_at"),
        ),
        "record_id",
        "doubled",
        "now",
        "expires_at",
    )


REVIVE = {status: _revive(status) for status in (Status.FAILED, Status.UNKNOWN)}
"""id, possibly_duplicated, now, expires_at."""


@dataclass(frozen=True, slots=True)
class Return:
    """How one comes back: from which status, with which place in the lane."""

    status: Status
    revival: Revival
    vt: float
    priority: Priority | None = None
    """None: its own."""

    @property
    def is_doubtful(self) -> bool:
        """Whether some provider may have it."""
        return self.status is Status.UNKNOWN


def revive(tx: Transaction, id: str, comeback: Return) -> Job | None:
    """Make a record live again and return its job; None where it stands otherwise by now.

    Raises Undecodable for a record that no job can be made of.
    """
    rows = tx.fetch(FIND_ENDED, (id,))
    if not rows:
        return None
    job = _job_of(id, rows[0], comeback)
    values = (id, job.possibly_duplicated, comeback.revival.now, job.expires_at)
    if not tx.execute(REVIVE[comeback.status], values).rowcount:
        return None
    tx.unwritten_jobs.add(id)
    tx.write_later(INSERT_JOBS, job_row(job, tx.node))
    tx.move(job.channel, comeback.status, Status.QUEUED)
    tx.stamp(job.channel, job.priority, job.flow, job.vt)
    return job


def _job_of(id: str, row: Row, comeback: Return) -> Job:
    (
        channel, to, content, priority, created_at, delivery, possibly_duplicated, tenant,
        reference, metadata, correlation_id, number, has_receipts,
    ) = row  # fmt: skip
    revival = comeback.revival
    # Who tells of a message had it, whatever the answer to the call said.
    is_doubtful = comeback.is_doubtful or bool(has_receipts)
    return read_job((
        id, channel, to, content, priority if comeback.priority is None else comeback.priority,
        revival.flow, comeback.vt, JobState.READY, created_at, revival.expires_at, delivery, None,
        number, 0, None, None, None, is_doubtful, False, False,
        # Default expiries are found by the id's time, which a second life belies.
        True,
        bool(possibly_duplicated) or is_doubtful, False, 0, 0, 0, None, tenant, reference,
        metadata, correlation_id,
    ))  # fmt: skip


__all__ = ["Return", "Undecodable", "revive"]
