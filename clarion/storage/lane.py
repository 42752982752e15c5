"""What a Queue reads, in the order of its writes: its lane, more of its head, its next timers.

A Queue reads the jobs of its node. Where several nodes share the store there are jobs that nobody
has; who reads more of its head, or its next timers, takes some of them, and passes by those that
another one is just taking.

Rows that cannot be decoded are ended here, in the same transaction, so that they stop no lane;
while the disk takes no writes they are passed over and ended by a later load.
"""

from __future__ import annotations

import json
import math

from sqlalchemy import Select, bindparam, func, select, text, tuple_, update

from clarion.domain.notification import Job, Priority, Status
from clarion.storage import schema
from clarion.storage.command import (
    BringForward,
    EndedRow,
    Load,
    LoadedLane,
    LoadTimers,
    Promote,
    Refill,
    RefilledRows,
)
from clarion.storage.database import Row
from clarion.storage.ending import end_as_poison
from clarion.storage.row import Undecodable, read_job
from clarion.storage.schema import controls, counts, flows, jobs, notifications
from clarion.storage.statement import (
    NULL,
    READY,
    SCHEDULED,
    TIMED,
    Statement,
    greatest,
    listed,
    literal,
    prepare,
    total,
)
from clarion.storage.transaction import Transaction

_job = jobs.c
_record = notifications.c

LOADED = (
    _job.id, _job.channel, _record.to_address, _record.content, _job.priority, _job.flow, _job.vt,
    _job.state, _record.created_at, _job.expires_at, _job.delivery, _job.due_at, _job.call,
    _job.attempt, _job.tried, _job.sending, _job.sending_since, _job.is_doubtful,
    _job.is_walk_unknown, _job.is_walk_burning, _job.is_expiry_explicit,
    _job.possibly_duplicated, _job.cancel_requested, _job.probes, _job.bugs, _job.restarts,
    _job.waiting, _record.tenant, _record.reference, _record.metadata, _record.correlation_id,
)  # fmt: skip
"""The columns of a job with the parts of its record that sending needs."""

# An outer join: a job without its record has to be seen, to be ended.
_loaded = select(*LOADED).select_from(jobs.outerjoin(notifications, _record.id == _job.id))

LOAD_READY = prepare(
    _loaded.where(
        _job.channel == bindparam("channel"),
        _job.priority == bindparam("priority"),
        _job.node == bindparam("node"),
        text(schema.IS_READY),
        tuple_(_job.vt, _job.id) > tuple_(bindparam("vt"), bindparam("id")),
    )
    .order_by(_job.vt, _job.id)
    .limit(bindparam("limit")),
    "channel",
    "priority",
    "node",
    "vt",
    "id",
    "limit",
)
"""channel, priority, node, stamp and id to start behind, limit -> `LOADED`."""

LOAD_SENDING = prepare(
    _loaded.where(
        _job.channel == bindparam("channel"),
        _job.node == bindparam("node"),
        text(schema.IS_SENDING),
    ).order_by(_job.id),
    "channel",
    "node",
)
"""channel, node -> `LOADED`."""

LOAD_TIMED = prepare(
    _loaded.where(
        _job.channel == bindparam("channel"),
        _job.node == bindparam("node"),
        text(schema.IS_TIMED),
        _job.due_at <= bindparam("until"),
    )
    .order_by(_job.due_at, _job.id)
    .limit(bindparam("limit")),
    "channel",
    "node",
    "until",
    "limit",
)
"""channel, node, until, limit -> `LOADED`."""

NEXT_TIMER = prepare(
    select(_job.due_at)
    .where(
        _job.channel == bindparam("channel"),
        _job.node == bindparam("node"),
        text(schema.IS_TIMED),
    )
    .order_by(_job.due_at, _job.id)
    .limit(1)
    .offset(bindparam("loaded")),
    "channel",
    "node",
    "loaded",
)
"""channel, node, how many come before -> due_at."""


def _claim(unclaimed: Select[tuple[str]], *names: str) -> Statement:
    """Take some of the jobs that nobody has; those that another node is taking are passed by."""
    found = unclaimed.limit(bindparam("limit")).with_for_update(skip_locked=True)
    return prepare(
        update(jobs)
        # As an array it is looked up once, and whoever plans it expects few.
        .where(_job.id == func.any(func.array(found.scalar_subquery())))
        .values(node=bindparam("taker"))
        .returning(_job.id),
        "taker",
        *names,
        "limit",
    )


CLAIM_READY = _claim(
    select(_job.id)
    .where(
        _job.channel == bindparam("channel"),
        _job.priority == bindparam("priority"),
        _job.node == literal("''"),
        text(schema.IS_READY),
    )
    .order_by(_job.vt, _job.id),
    "channel",
    "priority",
)
"""node, channel, priority, limit -> id."""

CLAIM_TIMED = _claim(
    select(_job.id)
    .where(
        _job.channel == bindparam("channel"),
        _job.node == literal("''"),
        text(schema.IS_TIMED),
        _job.due_at <= bindparam("until"),
    )
    .order_by(_job.due_at, _job.id),
    "channel",
    "until",
)
"""node, channel, until, limit -> id."""

LOAD_CLAIMED = prepare(
    _loaded.where(listed(_job.id, bindparam("ids"))).order_by(_job.vt, _job.id), "ids"
)
"""A JSON array of ids -> `LOADED`."""

COUNT_TIMED = prepare(
    select(func.count()).where(_job.channel == bindparam("channel"), text(schema.IS_TIMED)),
    "channel",
)
"""channel -> how many rows are TIMED or SCHEDULED."""

LOAD_FLOWS = prepare(
    select(flows.c.priority, flows.c.flow, func.max(flows.c.last_vt))
    .where(flows.c.channel == bindparam("channel"))
    .group_by(flows.c.priority, flows.c.flow),
    "channel",
)
"""channel -> priority, flow, last_vt."""

LOAD_COUNTS = prepare(
    select(counts.c.status, total(counts.c.n))
    .where(counts.c.channel == bindparam("channel"))
    .group_by(counts.c.status),
    "channel",
)
"""channel -> status, n."""

FIND_CONTROL = prepare(
    select(controls.c.value).where(
        controls.c.kind == bindparam("kind"), controls.c.name == bindparam("name")
    ),
    "kind",
    "name",
)
"""kind, name -> value."""


def _promote(state: object) -> Statement:
    return prepare(
        update(jobs)
        .where(_job.id == bindparam("job_id"), _job.state == state)
        .values(state=READY, vt=bindparam("vt"), due_at=NULL, waiting=NULL),
        "job_id",
        "vt",
    )


PROMOTE_TIMED = _promote(TIMED)
PROMOTE_SCHEDULED = _promote(SCHEDULED)
"""id, vt."""

BRING_FORWARD = prepare(
    update(jobs)
    .where(
        _job.channel == bindparam("lane"),
        _job.node == bindparam("owner"),
        text(schema.IS_TIMED),
        _job.due_at > bindparam("now"),
        _job.state == TIMED,
    )
    .values(due_at=greatest(_job.due_at - bindparam("by"), bindparam("now"))),
    "lane",
    "owner",
    "now",
    "by",
)
"""channel, node, now, seconds."""

_LIVE_STATUSES = (Status.SCHEDULED, Status.QUEUED, Status.SENDING)


def promote(tx: Transaction, command: Promote) -> list[Job]:
    """Make timed jobs ready and return those that were still timed; see `Promote`."""
    promoted: list[Job] = []
    for job in command.jobs:
        if tx.execute(PROMOTE_SCHEDULED, (job.id, job.vt)).rowcount:
            tx.move(job.channel, Status.SCHEDULED, Status.QUEUED)
        elif not tx.execute(PROMOTE_TIMED, (job.id, job.vt)).rowcount:
            continue
        tx.stamp(job.channel, job.priority, job.flow, job.vt)
        promoted.append(job)
    return promoted


def bring_forward(tx: Transaction, command: BringForward) -> int:
    """Let retries fall due earlier; see `BringForward`."""
    # Jobs that nobody has may have been put off by a node whose clock was right.
    values = (command.channel, tx.node, command.now, command.by_s)
    return tx.execute(BRING_FORWARD, values).rowcount


def load(tx: Transaction, command: Load) -> LoadedLane:
    """Read all that a Queue needs to start; see `Load`."""
    # What this very batch changed counts too.
    tx.flush()
    channel, ended = command.channel, list[EndedRow]()
    ready: dict[int, list[Job]] = {}
    is_spilled: dict[int, bool] = {}
    for priority in Priority:
        rows, is_more = _ready_rows(tx, channel, priority, None, command.head)
        ready[priority] = _read(tx, rows, ended)
        is_spilled[priority] = is_more
    sending = _read(tx, tx.fetch(LOAD_SENDING, (channel, tx.node)), ended)
    timed, next_timer_at = _timers(tx, channel, command.timers_until, command.timers, ended)
    tx.flush()
    depth = _depth(tx, channel)
    (with_due_time,) = tx.execute(COUNT_TIMED, (channel,)).fetchone()
    return LoadedLane(
        ready=ready,
        is_spilled=is_spilled,
        sending=sending,
        timed=timed,
        next_timer_at=next_timer_at,
        flows=_flows(tx, channel),
        depth=depth,
        waiting=with_due_time - depth[Status.SCHEDULED],
        is_paused=_is_paused(tx, channel),
        undecodable=[row.id for row in ended],
    )


def refill(tx: Transaction, command: Refill) -> RefilledRows:
    """Read more ready jobs of one priority, and whether more are left; see `Refill`."""
    ended: list[EndedRow] = []
    channel, priority, limit = command.channel, command.priority, command.limit
    claimed: list[Row] = []
    if tx.is_shared and not tx.is_read_only:
        found = tx.fetch(CLAIM_READY, (tx.node, channel, priority, limit))
        claimed = tx.fetch(LOAD_CLAIMED, (json.dumps([id for (id,) in found]),)) if found else []
    rows, is_more = _ready_rows(tx, channel, priority, command.after, limit)
    return RefilledRows(
        jobs=_read(tx, rows, ended),
        is_spilled=is_more,
        claimed=_read(tx, claimed, ended),
        is_more_unclaimed=len(claimed) == limit,
        ended=ended,
    )


def load_timers(
    tx: Transaction, command: LoadTimers
) -> tuple[list[Job], float | None, list[EndedRow]]:
    """Read the timers of the near future, and when the next one is due; see `LoadTimers`."""
    ended: list[EndedRow] = []
    jobs, next_at = _timers(tx, command.channel, command.until, command.limit, ended)
    return jobs, next_at, ended


def _ready_rows(
    tx: Transaction, channel: str, priority: int, after: tuple[float, str] | None, limit: int
) -> tuple[list[Row], bool]:
    vt, id = after or (-math.inf, "")
    if vt == math.inf:
        return [], False
    rows = tx.fetch(LOAD_READY, (channel, priority, tx.node, vt, id, limit + 1))
    return rows[:limit], len(rows) > limit


def _timers(
    tx: Transaction, channel: str, until: float, limit: int, ended: list[EndedRow]
) -> tuple[list[Job], float | None]:
    if tx.is_shared and not tx.is_read_only:
        tx.execute(CLAIM_TIMED, (tx.node, channel, until, limit))
    rows = tx.fetch(LOAD_TIMED, (channel, tx.node, until, limit))
    found = [
        tx.execute(NEXT_TIMER, (channel, node, len(rows) if node == tx.node else 0)).fetchone()
        for node in tx.may_have
    ]
    next_at = min((due_at for (due_at,) in filter(None, found)), default=None)
    return _read(tx, rows, ended), next_at


def _read(tx: Transaction, rows: list[Row], ended: list[EndedRow]) -> list[Job]:
    found: list[Job] = []
    for row in rows:
        try:
            found.append(read_job(row))
        except Undecodable as error:
            if tx.is_read_only:
                continue
            row_ended = end_as_poison(tx, error.id, tx.now())
            if row_ended is not None:
                ended.append(row_ended)
    return found


def _flows(tx: Transaction, channel: str) -> dict[tuple[int, str], float]:
    rows = tx.execute(LOAD_FLOWS, (channel,)).fetchall()
    return {(priority, flow): last_vt for priority, flow, last_vt in rows}


def _depth(tx: Transaction, channel: str) -> dict[str, int]:
    found = dict(tx.execute(LOAD_COUNTS, (channel,)).fetchall())
    return {status: found.get(status, 0) for status in _LIVE_STATUSES}


def _is_paused(tx: Transaction, channel: str) -> bool:
    row = tx.execute(FIND_CONTROL, ("lane", channel)).fetchone()
    return row is not None and row[0] == "paused"
