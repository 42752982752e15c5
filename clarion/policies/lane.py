"""The line of ready jobs: by priority, inside it by fair stamp; the head in memory, the rest rows.

Each priority keeps a head of its own, a quarter of `max_in_memory`. Where more wait on disk
(`is_spilled`), the head holds everything up to an edge, and nothing of what lies behind: an arrival
enters if it sorts before the edge, and pushes the last one out. Jobs in the middle of a walk are
kept beside the heads, since they wait for one certain provider.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from clarion.domain.notification import Job, Priority
from clarion.policies.fairness import FairClock, PriorityShare

Place = tuple[float, str]
"""(fair stamp, id): the order inside a priority."""

_PREFER_AMONG = 50
"""How far down the line a preferred job is looked for."""


class _Row:
    """Jobs in (vt, id) order."""

    def __init__(self) -> None:
        self.jobs: list[tuple[float, str, Job]] = []

    def add(self, job: Job) -> None:
        insort(self.jobs, (job.vt, job.id, job))

    def remove(self, job: Job) -> None:
        index = bisect_left(self.jobs, (job.vt, job.id))
        del self.jobs[index]

    def __len__(self) -> int:
        return len(self.jobs)


class _Head:
    """What memory holds of one priority."""

    def __init__(self) -> None:
        self.clock = FairClock()
        self.fresh = _Row()
        self.walking = _Row()
        self.is_spilled = False
        self.edge: Place | None = None
        self.asked: Place | None = None

    def candidate(
        self,
        can_use: Callable[[Job], bool],
        *,
        is_fresh_wanted: bool,
        prefer: Callable[[Job], bool] | None,
    ) -> Job | None:
        walking = next((job for _, _, job in self.walking.jobs if can_use(job)), None)
        fresh = self._fresh(prefer) if is_fresh_wanted and self.fresh.jobs else None
        if walking is None or fresh is None:
            return walking or fresh
        return min(walking, fresh, key=lambda job: (job.vt, job.id))

    def _fresh(self, prefer: Callable[[Job], bool] | None) -> Job:
        first = self.fresh.jobs[0][2]
        if prefer is None:
            return first
        nearest = self.fresh.jobs[:_PREFER_AMONG]
        return next((job for _, _, job in nearest if prefer(job)), first)

    def cut(self, capacity: int) -> list[Job]:
        """Leave what is over the capacity to the disk; return what left."""
        gone = [job for _, _, job in self.fresh.jobs[capacity:]]
        if gone:
            del self.fresh.jobs[capacity:]
            self.is_spilled = True
            self.edge = self.fresh.jobs[-1][:2] if self.fresh.jobs else None
        return gone


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
        """Yield the jobs that are in the middle of a walk."""
        for head in self._heads.values():
            for _, _, job in head.walking.jobs:
                yield job

    def head(self) -> Job | None:
        """Return the job at the head of the lane."""
        for head in self._heads.values():
            first = [row.jobs[0] for row in (head.fresh, head.walking) if row.jobs]
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
        for priority, head in self._heads.items():
            jobs = ready.get(priority, ())
            last = {flow: vt for (level, flow), vt in flows.items() if level == priority}
            first_vt = min((job.vt for job in jobs), default=max(last.values(), default=0.0))
            head.clock.restore(last, first_vt)
            head.is_spilled = is_spilled.get(priority, False)
            head.edge = (jobs[-1].vt, jobs[-1].id) if jobs else None
            for job in jobs:
                self.push(job)

    def admit(self, job: Job) -> None:
        """Let a new job in, or leave it to the disk where it sorts behind what memory holds."""
        head = self._heads[job.priority]
        if job.id in self._jobs:
            return
        if head.is_spilled and (head.edge is None or (job.vt, job.id) > head.edge):
            return
        self.push(job)
        self._cut(head)

    def push(self, job: Job) -> None:
        """Put a job back where it belongs, whether there is room or not."""
        if job.id in self._jobs:
            return
        head = self._heads[job.priority]
        (head.walking if job.tried else head.fresh).add(job)
        self._jobs[job.id] = job

    def _cut(self, head: _Head) -> None:
        for job in head.cut(self._capacity):
            del self._jobs[job.id]

    # --- going out -------------------------------------------------------------------------

    def take(
        self,
        can_use: Callable[[Job], bool],
        *,
        is_fresh_wanted: bool = True,
        prefer: Callable[[Job], bool] | None = None,
    ) -> Job | None:
        """Take the next job out; `can_use` says of a walking one whether its place is there."""
        found = {
            priority: job
            for priority, head in self._heads.items()
            if (job := head.candidate(can_use, is_fresh_wanted=is_fresh_wanted, prefer=prefer))
        }
        priority = self._share.choose(found)
        if priority is None:
            return None
        job = found[priority]
        self._remove(job)
        self._heads[priority].clock.took(job.vt)
        return job

    def discard(self, job_id: str) -> None:
        """Drop a job that ended while it waited; unknown ids are rows, or gone."""
        job = self._jobs.get(job_id)
        if job is not None:
            self._remove(job)

    def _remove(self, job: Job) -> None:
        head = self._heads[job.priority]
        (head.walking if job.tried else head.fresh).remove(job)
        del self._jobs[job.id]

    # --- the rows behind the heads -----------------------------------------------------------

    def refill_wanted(self) -> list[Priority]:
        """Return the priorities whose head is half empty while more waits on disk."""
        return [
            priority
            for priority, head in self._heads.items()
            if head.is_spilled and len(head.fresh) <= self._capacity // 2
        ]

    def tail(self, priority: int) -> Place | None:
        """Return the edge behind which to ask the disk; None for its beginning."""
        head = self._heads[Priority(priority)]
        head.asked = head.edge
        return head.edge

    def refill(
        self,
        priority: int,
        jobs: Sequence[Job],
        is_spilled: bool,
        *,
        skip: Collection[str] = (),
    ) -> None:
        """Take in the rows behind the edge that was asked for."""
        head = self._heads[Priority(priority)]
        if head.asked != head.edge:
            return  # An arrival moved the edge meanwhile: there would be a gap. Ask again.
        head.is_spilled = is_spilled
        if jobs:
            head.edge = (jobs[-1].vt, jobs[-1].id)
        for job in jobs:
            if job.id not in skip:
                self.push(job)
        self._cut(head)
