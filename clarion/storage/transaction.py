"""The running transaction: the writing connection, and what is written once per commit.

Counts and fair stamps change with nearly every command; the changes are gathered here and
written just before the commit, one upsert for each pair of channel and status and for each flow.
So are rows whose fate nobody asks for (`bulk`), many in one statement.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence

from sqlalchemy import bindparam, func
from sqlalchemy.dialects import sqlite

from clarion.domain.notification import Job, JobState, Status
from clarion.storage.bulk import GATHERED, INSERT_JOBS, INSERT_NOTIFICATIONS, Bulk
from clarion.storage.row import Row, job_row, notification_row
from clarion.storage.schema import counts, flows
from clarion.storage.statement import prepare

ACCEPTED = "accepted"
"""The row of `counts` that only grows: how many there ever were."""

_count = sqlite.insert(counts).values(
    node=bindparam("node"),
    channel=bindparam("channel"),
    status=bindparam("status"),
    n=bindparam("delta"),
)
ADD_COUNT = prepare(
    _count.on_conflict_do_update(
        index_elements=[counts.c.node, counts.c.channel, counts.c.status],
        set_={"n": counts.c.n + _count.excluded.n},
    ),
    "node",
    "channel",
    "status",
    "delta",
)
"""node, channel, status, delta."""

_stamp = sqlite.insert(flows).values(
    channel=bindparam("channel"),
    priority=bindparam("priority"),
    flow=bindparam("flow"),
    last_vt=bindparam("vt"),
)
RAISE_FLOW = prepare(
    _stamp.on_conflict_do_update(
        index_elements=[flows.c.channel, flows.c.priority, flows.c.flow],
        set_={"last_vt": func.max(flows.c.last_vt, _stamp.excluded.last_vt)},
    ),
    "channel",
    "priority",
    "flow",
    "vt",
)
"""channel, priority, flow, vt."""


class Transaction:
    """What the commands of one batch share; owned by the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, node: str, now: Callable[[], float]) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.now = now
        self._node = node
        self.is_read_only = False
        """The disk takes no writes: rows that cannot be decoded are left out, not ended."""
        self._deltas: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._stamps: dict[tuple[str, int, str], float] = {}
        self._accepted: list[Job] = []
        self._rows: dict[Bulk, list[Row]] = {bulk: [] for bulk in GATHERED}
        self.unwritten_jobs: set[str] = set()
        """Ids of jobs that are gathered: whoever asks for one of them has to write them first."""
        self.deleted_jobs: dict[tuple[str, int], Row] = {}
        """Jobs that `delivery.settle_ahead` deleted, by id and number: `settle` takes them up."""
        self.keys_expired_by: float | None = None
        """Idempotency keys were added, and those that ended by this instant may go."""

    def count(self, channel: str, status: str, n: int = 1) -> None:
        """Add `n` to the count of a status."""
        self._deltas[channel, status] += n

    def move(self, channel: str, old: Status, new: Status, n: int = 1) -> None:
        """Count `n` notifications in `new` that were counted in `old`."""
        self._deltas[channel, old] -= n
        self._deltas[channel, new] += n

    def stamp(self, channel: str, priority: int, flow: str, vt: float) -> None:
        """Remember the last fair stamp of a flow; an earlier one changes nothing."""
        key = (channel, priority, flow)
        if vt > self._stamps.get(key, -1.0):
            self._stamps[key] = vt

    def accept(self, job: Job) -> None:
        """Gather a job with its record and its counts; one whose record is there is left out."""
        self._accepted.append(job)
        self.unwritten_jobs.add(job.id)

    def write_all(self, bulk: Bulk, rows: Sequence[Row]) -> bool:
        """Write the rows if each of them changes one; else nothing, and return False."""
        self.execute("SAVEPOINT together")
        is_complete = bulk.run(self.connection, rows) == len(rows)
        if not is_complete:
            self.execute("ROLLBACK TO together")
        self.execute("RELEASE together")
        return is_complete

    def write_later(self, bulk: Bulk, row: Row) -> None:
        """Gather a row for one of `GATHERED`."""
        self._rows[bulk].append(row)

    def write_rows(self) -> None:
        """Write the gathered rows; needed before anything that reads them."""
        if self._accepted:
            self._write_accepted()
        for bulk, rows in self._rows.items():
            if rows:
                bulk.run(self.connection, rows)
                rows.clear()
        self.unwritten_jobs.clear()

    def _write_accepted(self) -> None:
        jobs, self._accepted = self._accepted, []
        rows = [notification_row(job) for job in jobs]
        if not self.write_all(INSERT_NOTIFICATIONS, rows):
            # A record that was there already has its job, or had it: another one would send again.
            write = INSERT_NOTIFICATIONS.run
            pairs = zip(jobs, rows, strict=True)
            jobs = [job for job, row in pairs if write(self.connection, [row])]
        for job in jobs:
            self.write_later(INSERT_JOBS, job_row(job))
            self.count(job.channel, ACCEPTED)
            self.count(job.channel, job.status)
            if job.state is not JobState.SCHEDULED:
                self.stamp(job.channel, job.priority, job.flow, job.vt)

    def flush(self) -> None:
        """Write what was gathered; needed before a commit and before reading counts or flows."""
        self.write_rows()
        deltas = [(self._node, *pair, n) for pair, n in self._deltas.items() if n]
        if deltas:
            self.connection.executemany(ADD_COUNT, deltas)
        if self._stamps:
            stamps = [(*key, vt) for key, vt in self._stamps.items()]
            self.connection.executemany(RAISE_FLOW, stamps)
        self.forget()

    def forget(self) -> None:
        """Drop what was gathered: it is written, or its transaction was rolled back."""
        self._deltas.clear()
        self._stamps.clear()
        self._accepted.clear()
        self.deleted_jobs.clear()
        self.unwritten_jobs.clear()
        for rows in self._rows.values():
            rows.clear()
