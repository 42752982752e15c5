"""The timers of the near future; those further away stay rows on disk.

`due` instants are wall-clock seconds. Memory has every timer that is due before both `horizon_at`
and `next_unknown_at`, at most `limit`: where there are more, the latest are left to the disk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

from clarion.domain.notification import Job, JobState

_FAR = chr(0x10FFFF)
"""Sorts behind every id."""


class TimerHeap:
    """Jobs by due time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line: list[tuple[float, str]] = []
        self._jobs: dict[str, tuple[float, Job]] = {}
        self.horizon_at = 0.0
        self.next_unknown_at: float | None = None
        """When the earliest timer that only the disk knows is due, or before."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return (job for _, job in self._jobs.values())

    def load(self, jobs: Sequence[Job], next_unknown_at: float | None, horizon_at: float) -> None:
        """Take in what the disk has until `horizon_at`."""
        self.horizon_at = horizon_at
        if next_unknown_at is not None:
            self.leave(next_unknown_at)
        for job in jobs:
            self._push(job)
        self._trim()

    def add(self, job: Job) -> None:
        """Take in a new timer, or only remember when it will have to be loaded."""
        assert job.due_at is not None
        if self._knows(job.due_at):
            self._push(job)
            self._trim()
        else:
            self.leave(job.due_at)

    def keeps(self, due_at: float) -> bool:
        """Whether memory has room for a new timer of then."""
        return self._knows(due_at) and len(self._jobs) < self._limit

    def _knows(self, due_at: float) -> bool:
        unknown_at = self.next_unknown_at
        return due_at <= self.horizon_at and (unknown_at is None or due_at < unknown_at)

    def _push(self, job: Job) -> None:
        if job.id not in self._jobs:
            due_at = job.due_at or 0.0
            self._jobs[job.id] = due_at, job
            insort(self._line, (due_at, job.id))

    def _trim(self) -> None:
        while len(self._line) > self._limit:
            due_at, job_id = self._line.pop()
            del self._jobs[job_id]
            self.leave(due_at)

    def leave(self, due_at: float) -> None:
        """Remember when a timer that only the disk knows will have to be loaded."""
        # What was noted while the disk was being asked may be news to what it answered.
        known_at = self.next_unknown_at
        self.next_unknown_at = due_at if known_at is None else min(known_at, due_at)

    def bring_forward(self, by_s: float, now: float) -> None:
        """Let retries fall due `by_s` seconds earlier, those that only the disk knows as well."""
        for job_id, (due_at, job) in self._jobs.items():
            if job.state is JobState.TIMED:
                job.due_at = min(due_at, max(due_at - by_s, now))
                self._jobs[job_id] = job.due_at, job
        self._line = sorted((due_at, job_id) for job_id, (due_at, _) in self._jobs.items())
        self.horizon_at -= by_s
        self.leave(now)

    def discard(self, job_id: str) -> Job | None:
        """Forget a timer and return it; None for one that memory does not have."""
        found = self._jobs.pop(job_id, None)
        if found is None:
            return None
        due_at, job = found
        del self._line[bisect_left(self._line, (due_at, job_id))]
        return job

    def due(self, now: float) -> list[Job]:
        """Take out every job whose time has come."""
        n = bisect_right(self._line, (now, _FAR))
        ready = [self._jobs.pop(job_id)[1] for _, job_id in self._line[:n]]
        del self._line[:n]
        return ready

    def must_load(self, now: float, ahead_s: float) -> bool:
        """Whether timers that fall due within `ahead_s` are on disk, and their turn comes soon."""
        at = self.next_unknown_at
        return at is not None and at <= now + ahead_s and not self._has_enough_before(at)

    def wakes_at(self, ahead_s: float) -> float | None:
        """Return when to look again: at the next timer, or when some should be loaded."""
        instants = [self._line[0][0]] if self._line else []
        at = self.next_unknown_at
        if at is not None and not self._has_enough_before(at):
            instants.append(at - ahead_s)
        return min(instants, default=None)

    def _has_enough_before(self, at: float) -> bool:
        # Else thousands that are due together would be loaded, and not fit, again and again.
        return bisect_right(self._line, (at, _FAR)) > self._limit // 2
