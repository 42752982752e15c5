"""The line of ready jobs: by priority, inside it by fair stamp; the head in memory, the rest rows.

Each priority keeps a head of its own. Its jobs stand in rows, by the providers that their walk has
tried: the fresh ones, and beside them those in the middle of a walk, which wait for certain
providers and must not stand in the others' way. A row holds at most a quarter of `max_in_memory`,
and everything up to its edge; what lies behind the edge is left to the disk until the row is half
empty. A job that came back from a call may stand behind the edge, but does not count as seen.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from clarion.domain.notification import Job, Priority
from clarion.policies.fairness import FairClock, PriorityShare

Place = tuple[float, str]
"""(fair stamp, id): the order inside a priority."""

START: Place = (-math.inf, "")
END: Place = (math.inf, "")

Rank = Callable[[Job], tuple[int, ...]]
"""The smaller, the better a job suits a place that not everyone should take."""

_RANK_AMONG = 50
"""How far down a row the best rank is looked for."""
_NONE_TRIED: frozenset[str] = frozenset()


class _Row:
    """Jobs that tried the same providers, in (vt, id) order."""

    __slots__ = ("edge", "is_torn", "jobs", "reach")

    def __init__(self, edge: Place) -> None:
        self.jobs: list[tuple[float, str, Job]] = []
        self.edge = edge
        """Up to here memory has every job of this row."""
        self.reach = START
        """Up to here jobs of this row were left to the disk."""
        self.is_torn = False
        """Jobs were cut off since the disk was last asked: what it saw may lack them."""

    def has_seen(self, n: int) -> bool:
        """Whether it holds more than `n` jobs up to its edge; those behind it may not be next."""
        return len(self.jobs) > n and self.jobs[n][:2] <= self.edge

    def add(self, job: Job) -> None:
        insort(self.jobs, (job.vt, job.id, job))

    def remove(self, job: Job) -> None:
        del self.jobs[bisect_left(self.jobs, (job.vt, job.id))]

    def leave(self, place: Place) -> None:
        self.reach = max(self.reach, place)

    def cut(self, capacity: int) -> list[Job]:
        """Leave what is over the capacity to the disk; return what left."""
        gone = self.jobs[capacity:]
        if not gone:
            return []
        del self.jobs[capacity:]
        self.edge = min(self.edge, self.jobs[-1][:2])
        self.leave(gone[-1][:2])
        self.is_torn = True
        return [job for _, _, job in gone]

    def first(self, rank: Rank | None) -> Job:
        if rank is None:
            return self.jobs[0][2]
        return min((job for _, _, job in self.jobs[:_RANK_AMONG]), key=rank)


class _Head:
    """What memory holds of one priority."""

    def __init__(self, frontier: Place = END) -> None:
        self.clock = FairClock()
        self.frontier = frontier
        """How far the rows on disk have been seen at all."""
        self.fresh = _Row(frontier)
        self.rows: dict[frozenset[str], _Row] = {_NONE_TRIED: self.fresh}
        self.asked = END

    def row_of(self, job: Job) -> _Row:
        if not job.tried:
            return self.fresh
        key = frozenset(job.tried)
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = _Row(self.frontier)
        return row

    def candidate(
        self, can_use: Callable[[Job], bool], *, is_fresh_wanted: bool, rank: Rank | None
    ) -> Job | None:
        best: Job | None = None
        for row in self.rows.values():
            if not row.jobs or (row is self.fresh and not is_fresh_wanted):
                continue
            job = row.first(rank)
            # The jobs of a row have tried the same providers: what suits none suits no other.
            if row is not self.fresh and not can_use(job):
                continue
            if best is None or _order(job, rank) < _order(best, rank):
                best = job
        return best

    def hungry_row(self, half: int) -> _Row | None:
        """Return a row that is half empty while the disk has more of it."""
        for row in self.rows.values():
            until = END if row is self.fresh else self.frontier
            if row.edge < until and not row.has_seen(half):
                return row
        return None

    def is_read(self, row: _Row) -> bool:
        """Whether what the disk was asked for goes on where this row ends."""
        return not row.is_torn and row.edge >= self.asked

    def learn(self, until: Place) -> None:
        """Note that the disk was read from `asked` to `until`."""
        self.frontier = max(self.frontier, until)
        for row in self.rows.values():
            if self.is_read(row):
                row.edge = max(row.edge, until)
            if row.edge >= row.reach:
                row.edge = max(row.edge, self.frontier)


def _order(job: Job, rank: Rank | None) -> tuple[tuple[int, ...], float, str]:
    return (() if rank is None else rank(job), job.vt, job.id)


class Lane:
    """The ready jobs of one channel; owned by its Queue."""

    def __init__(self, max_in_memory: int) -> None:
        self._capacity = max(1, max_in_memory // len(Priority))
        self._heads = {priority: _Head() for priority in Priority}
        self._share = PriorityShare()
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    @property
    def has_fresh(self) -> bool:
        """Whether some job in memory has tried no provider yet."""
        return any(head.fresh.jobs for head in self._heads.values())

    def walking(self) -> Iterator[Job]:
        """Yield jobs in the middle of a walk: one for each set of tried providers."""
        for head in self._heads.values():
            for row in head.rows.values():
                if row.jobs and row is not head.fresh:
                    yield row.jobs[0][2]

    def head(self) -> Job | None:
        """Return the job at the head of the lane."""
        for head in self._heads.values():
            first = [row.jobs[0] for row in head.rows.values() if row.jobs]
            if first:
                return min(first)[2]
        return None

    # --- coming in -------------------------------------------------------------------------

    def stamp(self, priority: Priority, flow: str) -> float:
        """Return the fair stamp of a flow's next job."""
        return self._heads[Priority(priority)].clock.stamp(flow)

    def load(
        self,
        ready: Mapping[int, Sequence[Job]],
        is_spilled: Mapping[int, bool],
        flows: Mapping[tuple[int, str], float],
    ) -> None:
        """Start from what the disk has."""
        for priority in Priority:
            jobs = ready.get(priority, ())
            last = {flow: vt for (level, flow), vt in flows.items() if level == priority}
            first_vt = min((job.vt for job in jobs), default=max(last.values(), default=0.0))
            is_more = is_spilled.get(priority, False)
            head = self._heads[priority] = _Head(_last(jobs, START) if is_more else END)
            head.clock.restore(last, first_vt)
            for job in jobs:
                self.push(job)

    def admit(self, job: Job) -> None:
        """Let in a job that the disk has, or leave it there where it sorts behind the edge."""
        if job.id in self._jobs:
            return
        row, place = self._heads[job.priority].row_of(job), (job.vt, job.id)
        if place > row.edge:
            row.leave(place)
        else:
            self.push(job)

    def push(self, job: Job) -> None:
        """Put a job back where it belongs; where there is no room, the last one is cut off."""
        if job.id in self._jobs:
            return
        row = self._heads[job.priority].row_of(job)
        row.add(job)
        self._jobs[job.id] = job
        for cut in row.cut(self._capacity):
            del self._jobs[cut.id]

    # --- going out -------------------------------------------------------------------------

    def take(
        self,
        can_use: Callable[[Job], bool],
        *,
        is_fresh_wanted: bool = True,
        rank: Rank | None = None,
    ) -> Job | None:
        """Take the next job out; `can_use` says of a walking one whether its place is there.

        With a `rank` the best of those near the head goes first, whatever its priority.
        """
        found: dict[Priority, Job] = {}
        for priority, head in self._heads.items():
            job = head.candidate(can_use, is_fresh_wanted=is_fresh_wanted, rank=rank)
            if job is not None:
                found[priority] = job
        if rank is not None and found:
            best = min(map(rank, found.values()))
            found = {priority: job for priority, job in found.items() if rank(job) == best}
        chosen = self._share.choose(found)
        if chosen is None:
            return None
        job = found[chosen]
        self._remove(job)
        self._heads[chosen].clock.took(job.vt)
        return job

    def discard(self, job_id: str) -> None:
        """Drop a job that ended while it waited; unknown ids are rows, or gone."""
        job = self._jobs.get(job_id)
        if job is not None:
            self._remove(job)

    def _remove(self, job: Job) -> None:
        self._heads[job.priority].row_of(job).remove(job)
        del self._jobs[job.id]

    # --- the rows behind the heads -----------------------------------------------------------

    def keeps(self, job: Job, n_coming: int) -> bool:
        """Whether memory has room for a new job, beside `n_coming` that are on their way."""
        row = self._heads[job.priority].row_of(job)
        return (job.vt, job.id) <= row.edge and len(row.jobs) + n_coming < self._capacity

    def has_room(self, priority: int) -> bool:
        """Whether the head of a priority is half empty."""
        return len(self._heads[Priority(priority)].fresh.jobs) <= self._capacity // 2

    def refill_wanted(self) -> list[Priority]:
        """Return the priorities with a row that is half empty while the disk has more of it."""
        half = self._capacity // 2
        return [each for each, head in self._heads.items() if head.hungry_row(half) is not None]

    def tail(self, priority: int) -> Place:
        """Return the place behind which to ask the disk; one question at a time."""
        head = self._heads[Priority(priority)]
        row = head.hungry_row(self._capacity // 2)
        head.asked = END if row is None else row.edge
        for each in head.rows.values():
            each.is_torn = False
        return head.asked

    def refill(
        self,
        priority: int,
        jobs: Sequence[Job],
        is_spilled: bool,
        *,
        skip: Collection[str] = (),
    ) -> None:
        """Take in the rows behind the place that was asked for; `skip` stand elsewhere already."""
        head = self._heads[Priority(priority)]
        news: list[Job] = []
        for job in jobs:
            row, place = head.row_of(job), (job.vt, job.id)
            if place <= row.edge or job.id in skip:
                continue  # It is in memory, or was when this was read and has ended since.
            if head.is_read(row):
                news.append(job)
            else:
                row.leave(place)
        head.learn(_last(jobs, head.asked) if is_spilled else END)
        for job in news:
            self.push(job)


def _last(jobs: Sequence[Job], otherwise: Place) -> Place:
    return (jobs[-1].vt, jobs[-1].id) if jobs else otherwise
