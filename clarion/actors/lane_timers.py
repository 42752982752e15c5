"""The alarm clock of a lane: one timer, set to the earliest instant at which something is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clarion.actors.lane_writes import LaneWrites
from clarion.actors.messages import Internal
from clarion.actors.runtime import Context, TimerHandle
from clarion.domain.notification import Job
from clarion.policies.timer_heap import TimerHeap

TIMERS_IN_MEMORY = 1000
TIMERS_AHEAD_S = 30.0
"""The disk is asked for timers this long before they fall due."""
TIMERS_HORIZON_S = 2 * TIMERS_AHEAD_S
"""How far ahead timers are kept in memory; the rest are rows until then."""


@dataclass(frozen=True, slots=True)
class TimersDue(Internal):
    """Queue -> itself: the earliest timer is due, or it is time to load some."""


class LaneTimers:
    """Wakes the Queue that owns the heap."""

    def __init__(self, heap: TimerHeap, writes: LaneWrites, context: Context) -> None:
        self._heap = heap
        self._writes = writes
        self._context = context
        self._wake: TimerHandle | None = None
        self._wakes_at: float | None = None

    def plan(self) -> None:
        """Set the alarm to the earliest instant, unless it is set earlier still."""
        at = self._heap.wakes_at(TIMERS_AHEAD_S)
        if at is None or (self._wakes_at is not None and self._wakes_at <= at):
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wakes_at = at
        delay_s = max(0.0, at - self._context.clock.now())
        self._wake = self._context.later(delay_s, TimersDue())

    def due(self) -> list[Job]:
        """Take out what is due."""
        self._wake = self._wakes_at = None
        return self._heap.due(self._context.clock.now())

    def look_ahead(self) -> None:
        """Ask the disk for what comes near, behind the news of what was due."""
        now = self._context.clock.now()
        if self._heap.must_load(now, TIMERS_AHEAD_S):
            self._heap.next_unknown_at = None
            self._writes.load_timers(now + TIMERS_HORIZON_S, TIMERS_IN_MEMORY)
        self.plan()

    def loaded(self, jobs: Sequence[Job], next_timer_at: float | None) -> None:
        """Take in what the disk had."""
        self._heap.load(jobs, next_timer_at, self._context.clock.now() + TIMERS_AHEAD_S)
        self.plan()
