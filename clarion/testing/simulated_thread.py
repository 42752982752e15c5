"""Threads as a simulation has them: what would run in one waits, runs, waits, on the one loop.

`SimulatedThreads` is the `concurrent.futures.Executor` that everything blocking is given;
`SimulatedWriter` is the storage writer without its thread. Before and after what they run virtual
time passes, so that commands pile up, news arrive late, and races show.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from clarion.storage.command import Command
from clarion.storage.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


class SimulatedThreads(Executor):
    """Runs each call on the loop, after a delay; its result is seen after another one.

    `delay_s` gives the seconds of the next delay.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: Callable[[], float]) -> None:
        self.loop = loop
        self.delay_s = delay_s

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` later; the future is done later still."""
        future: Future[T] = Future()
        self.loop.call_later(self.delay_s(), self._run, future, lambda: fn(*args, **kwargs))
        return future

    def _run(self, future: Future[Any], work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except Exception as error:  # the boundary of the thread: whoever waits is told
            self.loop.call_later(self.delay_s(), future.set_exception, error)
        else:
            self.loop.call_later(self.delay_s(), future.set_result, result)


class SimulatedWriter(Writer):
    """The writer, driven by timers; its news reach the loop after a delay, in order."""

    def __init__(self, *args: Any, threads: SimulatedThreads, **options: Any) -> None:
        super().__init__(*args, **{**options, "post": self._post_late})
        self._threads = threads
        self._turn: asyncio.TimerHandle | None = None
        self._news: deque[Callable[[], None]] = deque()
        self._is_stopped = True

    def start(self) -> None:
        """Begin to take turns; there is no thread."""
        self._is_stopped = False
        self._plan()

    def submit(self, command: Command) -> None:
        """Hand a command over; its turn comes after a delay."""
        super().submit(command)
        self._plan()

    def close(self, timeout_s: float) -> bool:
        """Write what is left and stop; its news come before whoever asked goes on."""
        self.stop()
        return super().close(timeout_s)

    def stop(self) -> None:
        """Take no more turns, as a process that died."""
        self._is_stopped = True
        if self._turn is not None:
            self._turn.cancel()

    def _plan(self) -> None:
        wait_s = self.wait_s
        if self._is_stopped or wait_s is None:
            return
        at = self._threads.loop.time() + wait_s + self._threads.delay_s()
        if self._turn is not None:
            if self._turn.when() <= at:
                return
            self._turn.cancel()
        self._turn = self._threads.loop.call_at(at, self._take_turns)

    def _take_turns(self) -> None:
        self._turn = None
        self.run_once()
        self._plan()

    def _post_late(self, news: Callable[[], None]) -> None:
        # One by one from a queue: a thread tells one thing after the other.
        self._news.append(news)
        loop = self._threads.loop
        if self._is_stopped:
            for _ in range(len(self._news)):
                loop.call_soon(self._tell_next)
        else:
            loop.call_later(self._threads.delay_s(), self._tell_next)

    def _tell_next(self) -> None:
        if self._news:
            self._news.popleft()()
