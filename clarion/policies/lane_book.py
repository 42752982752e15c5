"""Every live job of one lane that memory knows, wherever it stands.

In line, behind a timer, being intended, or out on a call; the rest are rows. The book mirrors
`jobs` and decides nothing: the Queue tells it what the disk and the providers said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clarion.domain.notification import Call, Job, JobState
from clarion.policies.lane import Lane
from clarion.policies.timer_heap import TimerHeap
from clarion.policies.verdict import Again


class LaneBook:
    """The jobs of one lane; owned by its Queue."""

    def __init__(self, max_in_memory: int, max_timers: int) -> None:
        self.line = Lane(max_in_memory)
        self.timers = TimerHeap(max_timers)
        self.in_flight: dict[str, Call] = {}
        """By job id: calls with a durable intent."""
        self.intending: dict[str, Call] = {}
        """By job id: calls whose intent is on its way to the disk."""
        self.live = 0
        """Rows of `jobs`, those on disk only included."""
        self.scheduled = 0
        self.waiting = 0
        """Rows that wait for a retry or a receipt, those on disk only included."""
        self.out_elsewhere = 0
        """Rows whose call is out at another node."""
        self.accepting = 0
        """Drafts that the Journal has and that are not durable yet."""
        self._promoting: dict[str, Job] = {}
        self._dispatched: dict[str, None] = {}
        self._inherited: set[str] = set()
        self._over: set[str] = set()
        """Of calls on their way or out: the ids of jobs that a receipt has ended meanwhile."""

    def inherit(self, jobs: Sequence[Job], now: float, monotonic: float) -> None:
        """Take over calls that a forerunner let go: answers may come, or their deadlines.

        `now` and `monotonic` are one instant on both clocks; nobody knows how long they are out.
        """
        for job in jobs:
            self.in_flight[job.id] = Call(
                job, job.call, job.sending or "", started_at=now, out_since=monotonic
            )
            self._dispatched[job.id] = None
            self._inherited.add(job.id)

    def __contains__(self, job_id: str) -> bool:
        return (
            job_id in self.line
            or job_id in self.timers
            or job_id in self.in_flight
            or job_id in self.intending
            or job_id in self._promoting
        )

    @property
    def ready(self) -> int:
        """How many could go now, those on disk included."""
        elsewhere = self.scheduled + self.waiting + self.out_elsewhere
        return max(0, self.live - self.out - elsewhere)

    @property
    def out(self) -> int:
        """How many are with a provider, or on the way there."""
        return len(self.in_flight) + len(self.intending)

    def follow(self, depth: Mapping[str, int]) -> None:
        """Go by what the disk has over all nodes: live status -> how many rows."""
        self.live = sum(depth.values())
        self.scheduled = depth.get("scheduled", 0)
        self.waiting = sum(job.state is JobState.TIMED for job in self.timers)
        self.out_elsewhere = max(0, depth.get("sending", 0) - self.out)

    # --- coming in -------------------------------------------------------------------------

    def accepted(self, jobs: Sequence[Job], asked: int) -> None:
        """Let in jobs that are durable now, out of `asked` drafts."""
        self.accepting -= asked
        self.live += len(jobs)
        for job in jobs:
            self.scheduled += job.state is JobState.SCHEDULED
            if job.id in self:
                continue  # A refill saw its row first.
            if not job.is_ours:
                if job.due_at is not None:
                    self.timers.leave(job.due_at)
                continue
            if job.state is JobState.READY:
                self.line.admit(job)
            else:
                self.timers.add(job)

    def promote(self, jobs: Sequence[Job]) -> None:
        """Note jobs whose timer is over, on its way to the disk."""
        self._promoting.update((job.id, job) for job in jobs)

    def vanished(self, job_id: str) -> None:
        """Drop a job whose timer is over, and that ended on the disk before."""
        self._promoting.pop(job_id, None)

    def promoted(self, job: Job) -> None:
        """Let in a job whose timer is over, on the disk too."""
        self._left(job.state)
        job.state, job.due_at, job.waiting = JobState.READY, None, None
        self._promoting.pop(job.id, None)
        # Timers were loaded while it fell due: that copy is older than what the disk says now.
        self.timers.discard(job.id)
        if job.id not in self:
            self.line.admit(job)

    # --- going out -------------------------------------------------------------------------

    def intend(self, calls: Sequence[Call]) -> None:
        """Note calls whose intent goes to the disk."""
        for call in calls:
            self.intending[call.job.id] = call

    def adopt(self, call: Call) -> bool:
        """Take in a durable intent; False where the load or a later call knows better."""
        known = self.in_flight.get(call.job.id)
        if known is not None:
            if known.number != call.number:
                return False
            call.job = known.job
        job = call.job
        job.call = call.number
        job.state = JobState.SENDING
        job.sending = call.provider
        job.possibly_duplicated = job.possibly_duplicated or job.is_doubtful
        self.in_flight[job.id] = call
        return True

    def dispatched(self, calls: Sequence[Call], now: float, monotonic: float) -> None:
        """Note that these calls were let go; how long they are out counts from here."""
        for call in calls:
            call.started_at = now
            call.out_since = monotonic
        self._dispatched.update((call.job.id, None) for call in calls)

    @property
    def calls_out(self) -> tuple[Call, ...]:
        """The calls that were let go and have not ended."""
        return tuple(self.in_flight[job_id] for job_id in self._dispatched)

    def overdue(self, monotonic: float, limit_s: Callable[[str], float]) -> list[Call]:
        """Return the calls that are out for longer than their provider's limit in seconds."""
        return [
            call
            for call in self.in_flight.values()
            if monotonic > call.out_since + limit_s(call.provider)
        ]

    def conclude(self, call: Call) -> Call | None:
        """Take out the call that ended, as the book knows it; None for a late answer."""
        known = self.in_flight.get(call.job.id)
        if known is None or known.number != call.number:
            return None
        del self.in_flight[call.job.id]
        self._dispatched.pop(call.job.id, None)
        return known

    def go_on(self, job: Job, again: Again) -> None:
        """Bring a job to where its row will be: back to the head of the lane, or to a timer."""
        job.state = JobState.READY if again.due_at is None else JobState.TIMED
        job.due_at = again.due_at
        job.sending = None
        job.tried = again.tried
        job.attempt = again.attempt
        job.waiting = again.waiting
        job.is_doubtful = again.is_doubtful
        job.is_walk_unknown = again.is_walk_unknown
        job.is_walk_burning = again.is_walk_burning
        job.probes = again.probes
        job.bugs = again.bugs
        if again.due_at is None:
            self.line.push(job)
        elif job.is_ours:
            self.timers.add(job)
        else:
            self.timers.leave(again.due_at)

    def disinherit(self, job_id: str) -> bool:
        """Say, once, whether the call that ended was a forerunner's."""
        is_inherited = job_id in self._inherited
        self._inherited.discard(job_id)
        return is_inherited

    def is_over(self, job_id: str) -> bool:
        """Say, once, whether a receipt ended the job while its call was out."""
        is_over = job_id in self._over
        self._over.discard(job_id)
        return is_over

    # --- leaving ---------------------------------------------------------------------------

    def forget(self, job_id: str, former: JobState | None) -> None:
        """Drop a job that ended on the disk, where it was `former`, while it waited."""
        self.live -= 1
        self._left(former)
        self.timers.discard(job_id)
        self._promoting.pop(job_id, None)
        self.line.discard(job_id)

    def _left(self, state: JobState | None) -> None:
        self.scheduled -= state is JobState.SCHEDULED
        self.waiting -= state is JobState.TIMED

    def received(self, job_id: str, former: JobState | None) -> None:
        """Drop a job that a receipt ended; a call of it that is out has to come back all the same.

        Meanwhile it may have been put to wait again: that write found no row.
        """
        if job_id in self.in_flight or job_id in self.intending:
            self._over.add(job_id)
        self.forget(job_id, former)
