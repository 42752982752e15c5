"""What a process left behind: calls that may be out, stamps and rows of no use any more.

Runs once per process, before the first Queue starts. What a node leaves to the others stands in
`membership`.
"""

from __future__ import annotations

import math

import structlog
from sqlalchemy import bindparam, delete, func, select, text, update

from clarion.domain.notification import Delivery, ProviderCall, Reason, Status
from clarion.domain.outcome import Outcome
from clarion.policies.identifier import made_at
from clarion.policies.wall_clock import STEP_S
from clarion.storage import schema
from clarion.storage.bulk import INSERT_CALLS
from clarion.storage.command import Sweep
from clarion.storage.database import Row
from clarion.storage.ending import End, end_as_poison, end_job
from clarion.storage.lane import BRING_FORWARD
from clarion.storage.row import call_row
from clarion.storage.schema import counts, flows, jobs, nodes, notifications
from clarion.storage.statement import NULL, ONE, READY, aside, prepare
from clarion.storage.transaction import NOBODY, Transaction

log = structlog.get_logger(__name__)

MAX_DEATHS = 10
"""Deaths of a process with a call of one notification out, after which that one is suspected.

What kills the process each time it is sent would have it start and die for ever. Others that were
out by chance are sent within a start or two.
"""

_job = jobs.c

FIND_SENDING = prepare(
    select(_job.id, _job.call, _job.sending, _job.sending_since, _job.delivery, _job.restarts)
    .where(text(schema.IS_SENDING), _job.node == bindparam("node"))
    # In the order of the primary key all live jobs would be read.
    .order_by(aside(_job.id))
    # A receipt may be ending one, or another node that starts may be recovering it.
    .with_for_update(),
    "node",
)
"""node -> id, call, sending, sending_since, delivery, restarts of its jobs with an intent."""

FIND_SPOILT = prepare(select(_job.id).where(text(schema.IS_SPOILT)))
"""-> id of every job that no lane would find."""

FIND_LAST = prepare(select(func.max(notifications.c.id)))
"""-> the id that was made last; None where there is none."""

FIND_ANOTHER = prepare(
    select(nodes.c.node).where(nodes.c.node != bindparam("node")).limit(1), "node"
)
"""node -> some other one that shares the store."""

FIND_CHANNELS = prepare(select(counts.c.channel).distinct())
"""-> every channel that ever had a notification."""

RELEASE = prepare(
    update(jobs)
    .where(_job.id == bindparam("job_id"))
    .values(
        state=READY,
        sending=NULL,
        sending_since=NULL,
        is_doubtful=ONE,
        restarts=_job.restarts + ONE,
        node=bindparam("heir"),
    )
    .returning(_job.channel),
    "job_id",
    "heir",
)
"""id, node -> channel."""

FIND_LANES = prepare(
    select(flows.c.channel, flows.c.priority, func.max(flows.c.last_vt)).group_by(
        flows.c.channel, flows.c.priority
    )
)
"""-> channel, priority, the greatest stamp."""

FIND_FIRST_STAMP = prepare(
    select(_job.vt)
    .where(
        text(schema.IS_READY),
        _job.channel == bindparam("channel"),
        _job.priority == bindparam("priority"),
        _job.node == bindparam("node"),
    )
    .order_by(_job.vt)
    .limit(1),
    "channel",
    "priority",
    "node",
)
"""channel, priority, node -> the smallest stamp that waits."""

PRUNE_FLOWS = prepare(
    delete(flows).where(
        flows.c.channel == bindparam("channel"),
        flows.c.priority == bindparam("priority"),
        flows.c.node == bindparam("node"),
        flows.c.last_vt <= bindparam("vt"),
        flows.c.last_vt < bindparam("greatest"),
    ),
    "channel",
    "priority",
    "node",
    "vt",
    "greatest",
)
"""channel, priority, node, stamp up to which, greatest stamp (which stays)."""


def sweep(tx: Transaction, command: Sweep) -> int:
    """Park or release every job with an intent, and return how many there were; see `Sweep`."""
    _end_spoilt(tx, command.now)
    _follow_clock(tx, command.now)
    n = sum(recover_calls(tx, node, command.now) for node in tx.may_have)
    _prune_flows(tx)
    return n


def recover_calls(tx: Transaction, node: str, now: float) -> int:
    """Park or release the jobs of a node whose call may be out, and return how many there were."""
    left_behind = tx.fetch(FIND_SENDING, (node,))
    for row in left_behind:
        _recover(tx, row, now, heir=node if node == tx.node else NOBODY)
    return len(left_behind)


def _end_spoilt(tx: Transaction, now: float) -> None:
    """End what stands in no index, so that it would wait for ever."""
    for (id,) in tx.execute(FIND_SPOILT).fetchall():
        log.error("row_undecodable", notification_id=id)
        end_as_poison(tx, id, now)


def _follow_clock(tx: Transaction, now: float) -> None:
    """Bring retries forward by as much as the wall clock was set back while nobody ran.

    The last notification tells, since nothing is accepted in the future: what was set back before
    it came is not seen. Until the clock has caught up, each start finds the rest of the step. Where
    other nodes run it may have come by the clock of another.
    """
    if tx.execute(FIND_ANOTHER, (tx.node,)).fetchone():
        return
    (last_id,) = tx.execute(FIND_LAST).fetchone()
    back_s = 0.0 if last_id is None else made_at(last_id) - now
    if back_s < STEP_S:
        return
    log.warning("clock_set_back", by_s=round(back_s, 3))
    for (channel,) in tx.execute(FIND_CHANNELS).fetchall():
        tx.execute(BRING_FORWARD, (channel, tx.node, now, back_s))


def _recover(tx: Transaction, row: Row, now: float, *, heir: str) -> None:
    id, number, provider, since, delivery, restarts = row
    record = ProviderCall(
        notification_id=id,
        number=number,
        provider=provider or "",
        outcome=Outcome.UNKNOWN,
        reason="process_died",
        detail="Clarion stopped while this call may have been out.",
        started_at=now if since is None else since,
        ended_at=now,
    )
    tx.write_later(INSERT_CALLS, call_row(record))
    if restarts + 1 >= MAX_DEATHS:
        log.error("job_suspected", notification_id=id, provider=provider, deaths=restarts + 1)
        detail = f"Clarion died {restarts + 1} times while a call of it was out"
        end_job(tx, id, End(Status.UNKNOWN, Reason.POISON, now, detail))
    elif delivery == Delivery.AT_MOST_ONCE:
        end_job(tx, id, End(Status.UNKNOWN, Reason.UNKNOWN_OUTCOME, now, record.detail))
    else:
        (channel,) = tx.execute(RELEASE, (id, heir)).fetchone()
        tx.move(channel, Status.SENDING, Status.QUEUED)


def _prune_flows(tx: Transaction) -> None:
    for channel, priority, greatest in tx.execute(FIND_LANES).fetchall():
        waiting = (
            tx.execute(FIND_FIRST_STAMP, (channel, priority, node)).fetchone()
            for node in tx.may_have
        )
        behind = min((vt for (vt,) in filter(None, waiting)), default=math.inf)
        for node in tx.may_have:
            # The greatest stays: where nothing waits, it is where the lane's order goes on.
            tx.execute(PRUNE_FLOWS, (channel, priority, node, behind, greatest))
