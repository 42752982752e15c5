"""A thread that notices when the event loop does not turn, and says what holds it up.

A sync handler that blocks stalls every actor of the loop, the periodic checks included; only
another thread can see it while it lasts.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import structlog

from clarion.policies.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

STACK_DEPTH = 4
"""Innermost frames of the blocked loop that are logged."""


class LoopWatchdog(threading.Thread):
    """Measures the loop's lag a few times per threshold; logs `event_loop_blocked` beyond it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        threshold_s: float,
        describe: Callable[[asyncio.Task[Any]], str],
        clock: Clock | None = None,
    ) -> None:
        """`describe` names what a task is handling; `threshold_s` is in real seconds."""
        super().__init__(name="clarion-loop-watchdog", daemon=True)
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._threshold_s = threshold_s
        self._describe = describe
        # Real time whatever the service's clock: it watches a thread, not the simulation.
        self._clock = clock or SystemClock()
        self._ended = threading.Event()
        self._ticked = threading.Event()
        self._asked_at: float | None = None
        self._last_lag_s = 0.0

    @property
    def lag_s(self) -> float:
        """Seconds the loop last took to answer; while it is blocked, how long by now."""
        asked_at = self._asked_at
        if asked_at is None:
            return self._last_lag_s
        return max(self._last_lag_s, self._clock.monotonic() - asked_at)

    def stop(self) -> None:
        """Let the thread end, soon."""
        self._ended.set()
        self._ticked.set()

    def run(self) -> None:
        """Ask the loop for a tick, over and over."""
        while not self._ended.is_set():
            try:
                self._measure()
            except RuntimeError:  # the loop is closed: nothing is left to watch
                return
            self._ended.wait(self._threshold_s / 2)

    def _measure(self) -> None:
        self._ticked.clear()
        self._asked_at = self._clock.monotonic()
        self._loop.call_soon_threadsafe(self._tick)
        if not self._ticked.wait(self._threshold_s):
            self._report_block()
            while not self._ticked.wait(self._threshold_s):
                if self._loop.is_closed():
                    return

    def _tick(self) -> None:
        if self._asked_at is not None:
            self._last_lag_s = self._clock.monotonic() - self._asked_at
            self._asked_at = None
        self._ticked.set()

    def _report_block(self) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented, for this
        stack = "" if frame is None else "".join(traceback.format_stack(frame)[-STACK_DEPTH:])
        log.error(
            "event_loop_blocked",
            by="a callback" if task is None else self._describe(task),
            lag_s=round(self.lag_s, 3),
            stack=stack,
        )
