"""An event loop whose time is its own: idle, it jumps to its next timer instead of waiting.

Hours pass in the time that the callbacks take, and the same callbacks run in the same order each
time. For one thread alone: what would run in another one is run on the loop (`SimulatedThreads`).
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STANDSTILL = 100_000
"""Turns of the loop at one instant after which it counts as a livelock."""


class TimeStandsStill(RuntimeError):
    """The loop can never go on, or never gets to its next instant."""


class _Numbered(deque[asyncio.Handle]):
    """The callbacks of a loop that ends before the n-th next one."""

    def __init__(self, ready: deque[asyncio.Handle], n: int, on_end: Callable[[], object]) -> None:
        super().__init__(ready)
        self._left = n
        self._on_end = on_end

    def popleft(self) -> asyncio.Handle:
        self._left -= 1
        if self._left == 0:
            self._on_end()
        return super().popleft()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at `start_s` seconds; `time()` moves only from timer to timer."""

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]
    _timer_cancelled_count: int

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__()
        self._now = start_s
        self._turns = 0

    def time(self) -> float:
        """Return the virtual seconds."""
        return self._now

    def call_before(self, n: int, end: Callable[[], object]) -> None:
        """Call `end`, which raises, before the n-th next callback: between any two awaits."""
        self._ready = _Numbered(self._ready, n, end)

    def call_no_more(self) -> None:
        """Forget what `call_before` was told."""
        self._ready = deque(self._ready)

    def die(self) -> None:
        """Drop every callback and timer but asyncio's own, by which tasks can be taken down."""
        self._ready = deque(handle for handle in self._ready if _is_of_asyncio(handle))
        for timer in self._scheduled:
            timer._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001
        self._scheduled.clear()
        self._timer_cancelled_count = 0

    def _run_once(self) -> None:
        if not self._ready:
            self._jump()
        # The base runs timers that much early, and none without it: the least there is, or a timer
        # in less than it would run before its time, set itself again, and so on.
        self._clock_resolution = math.ulp(self._now)
        self._turns += 1
        if self._turns > STANDSTILL:
            raise TimeStandsStill(f"{STANDSTILL} turns of the loop at {self._now} s")
        super()._run_once()  # type: ignore[misc]

    def _jump(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            handle = heapq.heappop(self._scheduled)
            # What the base does when it meets one.
            handle._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001
            self._timer_cancelled_count -= 1
        if self._scheduled:
            at = self._scheduled[0].when()
            if at > self._now:
                self._now, self._turns = at, 0
        elif not self._stopping:  # type: ignore[attr-defined]
            raise TimeStandsStill(f"nothing is left to happen after {self._now} s")

    def _write_to_self(self) -> None:
        """Wake nobody: there is no other thread, and a pipe would add turns of its own."""


def _is_of_asyncio(handle: asyncio.Handle) -> bool:
    callback = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    is_bound = isinstance(getattr(callback, "__self__", None), asyncio.Future)
    return is_bound or (getattr(callback, "__module__", None) or "").startswith("asyncio")


class VirtualClock:
    """Implements `policies.clock.Clock` on the time of a loop.

    `epoch_at` is the wall clock (seconds since the Unix epoch) at loop time 0.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch_at: float = 1_700_000_000.0) -> None:
        self._loop = loop
        self._epoch_at = epoch_at

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        return self._epoch_at + self._loop.time()


def run_virtual(main: Coroutine[Any, Any, T], *, start_s: float = 0.0) -> T:
    """Run `main` on a fresh loop with virtual time, as `asyncio.run` does on a real one."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start_s)) as runner:
        return runner.run(main)
