"""The alarm clock of a lane: one timer, set to the earliest instant at which something is due.

Due times are wall-clock instants, since they outlive the process; the timer of the loop is not. So
the alarm is planned anew in every round of the lane: a wall clock that is set forward, or a machine
that slept, costs one round. Where the wall clock is set back, retries are brought forward by as
much: how long they wait was never meant to depend on it. A `send_at` is an instant, and stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clarion.actors.lane_writes import LaneWrites
from clarion.actors.messages import Internal
from clarion.actors.runtime import Context, TimerHandle
from clarion.domain.notification import Job
from clarion.policies.timer_heap import TimerHeap
from clarion.policies.wall_clock import WallClockWatch

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

    def __init__(
        self, heap: TimerHeap, writes: LaneWrites, context: Context, watch: WallClockWatch
    ) -> None:
        self._heap = heap
        self._writes = writes
        self._context = context
        self._wake: TimerHandle | None = None
        self._wakes_at = math.inf
        """Monotonic; when the alarm goes off."""
        self._watch = watch
        self._loading = 0
        self._outdated = 0
        """How many of the answers to come were read before the due times were changed."""

    def plan(self) -> None:
        """Set the alarm to the earliest instant, unless it is set earlier still."""
        at, clock = self._heap.wakes_at(TIMERS_AHEAD_S), self._context.clock
        if at is None:
            return
        delay_s = max(0.0, at - clock.now())
        wakes_at = clock.monotonic() + delay_s
        if self._wakes_at <= wakes_at:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wakes_at = wakes_at
        self._wake = self._context.later(delay_s, TimersDue())

    def follow_clock(self) -> None:
        """Plan by what the wall clock says now, which may have been set."""
        back_s = self._watch.set_back_s()
        if back_s:
            now = self._context.clock.now()
            self._heap.bring_forward(back_s, now)
            self._writes.bring_forward(back_s)
            self._outdated = self._loading
        self.plan()

    def due(self) -> list[Job]:
        """Take out what is due."""
        self._wake, self._wakes_at = None, math.inf
        return self._heap.due(self._context.clock.now())

    def look_ahead(self) -> None:
        """Ask the disk for what comes near, behind the news of what was due."""
        now = self._context.clock.now()
        if self._heap.must_load(now, TIMERS_AHEAD_S):
            self._heap.next_unknown_at = None
            self._loading += 1
            self._writes.load_timers(now + TIMERS_HORIZON_S, TIMERS_IN_MEMORY)
        self.plan()

    def look_again(self) -> None:
        """Ask the disk for what comes near, since another node has left some of it."""
        if not self._loading:
            self._heap.leave(self._context.clock.now())
            self.look_ahead()

    def loaded(self, jobs: Sequence[Job], next_timer_at: float | None) -> None:
        """Take in what the disk had."""
        self._loading -= 1
        if self._outdated:
            self._outdated -= 1
            self._heap.next_unknown_at = self._context.clock.now()
            self.plan()
            return
        self._heap.load(jobs, next_timer_at, self._context.clock.now() + TIMERS_AHEAD_S)
        self.plan()
