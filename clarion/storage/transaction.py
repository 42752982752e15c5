"""The running transaction: the writing connection, and what is written once per commit.

Counts and fair stamps change with nearly every command; the changes are gathered here and
written just before the commit, one upsert for each pair of channel and status and for each flow.
So are rows whose fate nobody asks for (`bulk`), many in one statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from clarion.domain.notification import Job, JobState, Status
from clarion.storage.bulk import GATHERED, INSERT_JOBS, INSERT_NOTIFICATIONS, Bulk
from clarion.storage.database import Connection, Row
from clarion.storage.row import job_row, notification_row
from clarion.storage.schema import counts, flows
from clarion.storage.statement import greatest, merge_row, verbatim

ACCEPTED = "accepted"
"""The row of `counts` that only grows: how many there ever were."""

NOBODY = ""
"""The node of a job that any node may take."""

ADD_COUNT = merge_row(counts, lambda old, new: {"n": old.n + new.n})
"""node, channel, status, delta."""

RAISE_FLOW = merge_row(flows, lambda old, new: {"last_vt": greatest(old.last_vt, new.last_vt)})
"""channel, priority, flow, node, vt."""

SAVE = verbatim("SAVEPOINT together")
TAKE_BACK = verbatim("ROLLBACK TO together")
LET_GO = verbatim("RELEASE together")


class Transaction:
    """What the commands of one batch share; owned by the writer's thread.

    `node` is who writes; `is_shared` says whether other nodes do as well.
    """

    def __init__(
        self,
        connection: Connection,
        node: str,
        now: Callable[[], float],
        *,
        is_shared: bool = False,
    ) -> None:
        self.connection = connection
        self.execute = connection.run
        self.fetch = connection.fetch
        self.now = now
        self.node = node
        self.is_shared = is_shared
        self.may_have = (node, NOBODY) if is_shared else (node,)
        """Whose jobs are this node's to work on, or to take."""
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
        self.news: set[str] = set()
        """What the other nodes are to hear when this is durable."""
        self.is_leaving = False
        """The node gives up its place with this transaction."""

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

    def node_of(self, job: Job) -> str:
        """Return who has this job of ours, or of nobody's."""
        return self.node if job.is_ours else NOBODY

    def tell_others(self, news: str) -> None:
        """Let the other nodes hear of it, once this is durable."""
        if self.is_shared:
            self.news.add(news)

    def accept(self, job: Job) -> None:
        """Gather a job with its record and its counts; one whose record is there is left out."""
        self._accepted.append(job)
        self.unwritten_jobs.add(job.id)

    def write_all(self, bulk: Bulk, rows: Sequence[Row]) -> bool:
        """Write the rows if each of them changes one; else nothing, and return False."""
        self.execute(SAVE)
        is_complete = bulk.run(self.connection, rows) == len(rows)
        if not is_complete:
            self.execute(TAKE_BACK)
        self.execute(LET_GO)
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
            self.write_later(INSERT_JOBS, job_row(job, self.node_of(job)))
            if not job.is_ours:
                self.tell_others(work_for(job.channel))
            self.count(job.channel, ACCEPTED)
            self.count(job.channel, job.status)
            if job.state is not JobState.SCHEDULED:
                self.stamp(job.channel, job.priority, job.flow, job.vt)

    def flush(self) -> None:
        """Write what was gathered; needed before a commit and before reading counts or flows."""
        self.write_rows()
        deltas = [(self.node, *pair, n) for pair, n in self._deltas.items() if n]
        if deltas:
            self.connection.run_many(ADD_COUNT, deltas)
        if self._stamps:
            stamps = [(*key, self.node, vt) for key, vt in self._stamps.items()]
            self.connection.run_many(RAISE_FLOW, stamps)
        self._clear()

    def forget(self) -> None:
        """Drop what was gathered: its transaction was rolled back."""
        self.news.clear()
        self.is_leaving = False
        self._clear()

    def _clear(self) -> None:
        self._deltas.clear()
        self._stamps.clear()
        self._accepted.clear()
        self.deleted_jobs.clear()
        self.unwritten_jobs.clear()
        for rows in self._rows.values():
            rows.clear()


def work_for(channel: str) -> str:
    """Return the news that a lane has jobs that nobody has."""
    return f"work {channel}"
