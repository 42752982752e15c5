"""The timers of the near future; those further away stay rows on disk.

`due` instants are wall-clock seconds. The heap knows the jobs due until `horizon_at`, at most
`limit` or a little over, and the due time of the earliest one that it does not know.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from clarion.domain.notification import Job


class TimerHeap:
    """Jobs by due time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, str]] = []
        self._jobs: dict[str, Job] = {}
        self.horizon_at = 0.0
        self.next_unknown_at: float | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def load(self, jobs: Sequence[Job], next_unknown_at: float | None, horizon_at: float) -> None:
        """Take in what the disk has until `horizon_at`."""
        self.horizon_at = horizon_at
        self.next_unknown_at = next_unknown_at
        for job in jobs:
            self._push(job)

    def add(self, job: Job) -> None:
        """Take in a new timer, or only remember when it will have to be loaded."""
        assert job.due_at is not None
        is_near = job.due_at <= self.horizon_at and len(self._jobs) < self._limit
        if is_near and (self.next_unknown_at is None or job.due_at < self.next_unknown_at):
            self._push(job)
        elif self.next_unknown_at is None or job.due_at < self.next_unknown_at:
            self.next_unknown_at = job.due_at

    def _push(self, job: Job) -> None:
        if job.id not in self._jobs:
            self._jobs[job.id] = job
            heapq.heappush(self._heap, (job.due_at or 0.0, job.id))

    def discard(self, job_id: str) -> Job | None:
        """Forget a timer; its place in the heap is dropped when it comes up."""
        return self._jobs.pop(job_id, None)

    def due(self, now: float) -> list[Job]:
        """Take out every job whose time has come."""
        ready: list[Job] = []
        while self._heap and self._heap[0][0] <= now:
            due_at, job_id = heapq.heappop(self._heap)
            job = self._jobs.get(job_id)
            if job is not None and job.due_at == due_at:
                ready.append(self._jobs.pop(job_id))
        return ready

    def must_load(self, now: float, ahead_s: float) -> bool:
        """Whether the disk holds timers that fall due within `ahead_s`."""
        return self.next_unknown_at is not None and self.next_unknown_at <= now + ahead_s

    def wakes_at(self, ahead_s: float) -> float | None:
        """Return when to look again: at the next timer, or when some should be loaded."""
        instants = [self._heap[0][0]] if self._heap else []
        if self.next_unknown_at is not None:
            instants.append(self.next_unknown_at - ahead_s)
        return min(instants, default=None)
