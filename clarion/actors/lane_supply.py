"""Where the head of a lane comes from: what the disk has behind it, and what no node has.

Where several nodes share the store, a Queue keeps as its own what it has room for in memory; the
rest it leaves to whichever node has room. Each takes of that as soon as a head is half empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clarion.actors.lane_writes import LaneWrites
from clarion.domain.notification import Job, Priority
from clarion.policies.lane_book import LaneBook
from clarion.storage.command import RefilledRows

REFILL_SIZE = 250


class LaneSupply:
    """What one Queue keeps, leaves and asks for; owned by it."""

    def __init__(self, book: LaneBook, writes: LaneWrites, *, is_shared: bool) -> None:
        self._book = book
        self._writes = writes
        self._is_shared = is_shared
        self.is_closed = False
        """Nothing more is asked for: the lane drains."""
        self._asked: set[int] = set()
        self._unclaimed = set(Priority) if is_shared else set[Priority]()
        """Priorities in which there may be ready jobs that no node has."""

    # --- what is kept ----------------------------------------------------------------------

    def choose(self, jobs: Sequence[Job]) -> None:
        """Decide of new jobs which this node keeps."""
        if not self._is_shared:
            return
        for n, job in enumerate(jobs, self._book.accepting):
            if job.due_at is not None:
                job.is_ours = self.keeps_timer(job.due_at)
            else:
                # What others left, or we did, is older.
                is_next = job.priority not in self._unclaimed
                job.is_ours = is_next and self._book.line.keeps(job, n)

    def keeps_timer(self, due_at: float) -> bool:
        """Say whether this node keeps a job that falls due then."""
        return not self._is_shared or self._book.timers.keeps(due_at)

    def left(self, jobs: Iterable[Job]) -> None:
        """Note which of these, durable now, were left to any node."""
        left = {job.priority for job in jobs if not job.is_ours and job.due_at is None}
        if left:
            self.look_for(left)

    # --- what is asked for -----------------------------------------------------------------

    def look_for(self, priorities: Iterable[int]) -> None:
        """Take what no node has in these priorities, as there is room."""
        self._unclaimed.update(map(Priority, priorities))
        self.refill()

    def refill(self) -> None:
        """Ask for what belongs behind each head that is half empty, one question each."""
        if self.is_closed:
            return
        line = self._book.line
        wanted = set(line.refill_wanted())
        wanted.update(each for each in self._unclaimed if line.has_room(each))
        for priority in sorted(wanted - self._asked):
            self._asked.add(priority)
            self._writes.refill(priority, line.tail(priority), REFILL_SIZE)

    def take_in(self, priority: int, found: RefilledRows) -> None:
        """Let in what was asked for."""
        book, line = self._book, self._book.line
        self._asked.discard(priority)
        known = {job.id for job in found.jobs if job.id in book}
        line.refill(priority, found.jobs, found.is_spilled, skip=known)
        for job in found.claimed:
            if job.id not in book:
                line.admit(job)
        if not found.is_more_unclaimed:
            self._unclaimed.discard(Priority(priority))
        if found.jobs or found.claimed:
            self.refill()  # Else the disk has trouble, and the next round asks again.
