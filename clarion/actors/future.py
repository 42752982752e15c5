"""The reply to an ask: awaitable on any loop, `.get()`-able from any thread, settled once.

::

    pending ──set──────────────> answered
       ├─────set_exception─────> failed
       ├─────deadline──────────> failed with AskTimeout
       └─────last waiter left──> abandoned: a later answer is dropped without a word

A pykka future underneath, so that pykka's own `ActorRef` works with it. Two differences, both
on purpose: a second `set` is dropped (pykka raises), because whoever answers cannot know that
the asker gave up; and awaiting it does not block the loop.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, TypeAlias

import pykka

from clarion.errors import ActorDead, AskTimeout, WouldDeadlock

ExcInfo: TypeAlias = tuple[Any, Any, Any]

CLOCK_GRAIN_S = 0.001
"""Loops fire timers up to one clock tick early (uvloop counts milliseconds)."""

_settling = threading.Lock()
"""One lock for all replies: it is held for a few instructions, so one each would cost more."""


class Died(ActorDead, pykka.ActorDeadError):
    """`ActorDead` that pykka's own code recognises too."""


class TimedOut(AskTimeout, pykka.Timeout):
    """`AskTimeout` that pykka's own code recognises too."""


class Reply(pykka.Future[Any]):
    """The answer that an actor owes; it may travel inside a message to whoever can give it.

    `timeout_s` is the time for the answer in seconds, counted from the ask (for a reply made by
    hand, from the first wait); None waits for as long as it takes.
    """

    # Slots without defaults of the class: asks are hot, and a default beside an attribute of the
    # instance keeps the interpreter from its fast ways to read either.
    __slots__ = (
        "_callbacks", "_error", "_hook", "_traceback", "_value",
        "deadline", "done", "question", "timeout_s",
    )  # fmt: skip

    def __init__(
        self, timeout_s: float | None = None, question: tuple[str, type] | None = None
    ) -> None:
        """`question` is (name of the actor, type of the message), for the error texts."""
        self.timeout_s = timeout_s
        self.question = question
        self.deadline: float | None = None
        """Loop time at which the reply fails; None until it is known, or when there is none."""
        self.done = False
        """Whether nothing can change the outcome any more; to be read only."""
        self._value: Any = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._callbacks: list[Callable[[], None]] | None = None
        self._hook: Callable[[float | None], Any] | None = None

    def __repr__(self) -> str:
        return f"<Reply {'done' if self.done else 'pending'}>"

    def set(self, value: Any = None) -> None:
        """Answer, from any thread; dropped if the reply is done, expired or abandoned."""
        self._settle(value, None)

    def set_exception(self, exc_info: BaseException | ExcInfo | None = None) -> None:
        """Fail, from any thread, with an exception (or an `exc_info`; None: the current one)."""
        self._settle(None, _exception(sys.exc_info() if exc_info is None else exc_info))

    def _settle(self, value: Any, error: BaseException | None) -> None:
        with _settling:
            if self.done:
                return
            self._value, self._error, self.done = value, error, True
            if error is not None:
                self._traceback = error.__traceback__
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    def expire(self) -> None:
        """Fail with `AskTimeout` unless there is an answer."""
        if not self.done:
            self._settle(None, self._timed_out(self.timeout_s))

    def _timed_out(self, limit_s: float | None) -> TimedOut:
        limit = "in time" if limit_s is None else f"within {limit_s:g} s"
        if self.question is None:
            return TimedOut(f"no answer {limit}")
        name, message_type = self.question
        return TimedOut(f"{name} did not answer {message_type.__name__} {limit}")

    def is_void(self, now: float) -> bool:
        """Say whether nobody waits any more at loop time `now`; a passed deadline expires it."""
        if not self.done and self.deadline is not None and self.deadline <= now:
            self.expire()
        return self.done

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` once done, in the thread that settles; at once if done already."""
        with _settling:
            if not self.done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def forward_to(self, other: Reply) -> None:
        """Let `other` have the same outcome, now or later (a deferred reply)."""
        self.add_done_callback(lambda: other._settle(self._value, self._error))

    def _outcome(self) -> Any:
        if self._error is not None:
            # Every raise adds its frames to the traceback: each waiter starts from the first.
            raise self._error.with_traceback(self._traceback)
        return self._value

    # --- waiting on a loop -------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the answer; cancelling the last waiter abandons the reply."""
        if self._hook is not None:
            # A composed future (pykka's map, join, stop ...) can only be waited for by blocking.
            loop = asyncio.get_running_loop()
            return (yield from loop.run_in_executor(None, self.get))
        if not self.done:
            loop = asyncio.get_running_loop()
            woken: asyncio.Future[None] = loop.create_future()
            wake = partial(_wake, woken, loop, get_ident())
            self.add_done_callback(wake)
            timer = self._start_timer(loop)
            try:
                yield from woken
            except asyncio.CancelledError:
                self._leave(wake, abandon=True)
                raise
            finally:
                if timer is not None:
                    timer.cancel()
        return self._outcome()

    __iter__ = __await__

    def _start_timer(self, loop: asyncio.AbstractEventLoop) -> asyncio.TimerHandle | None:
        # Asks are watched by their runtime (`Deadlines`); only a reply made by hand needs this.
        if self.deadline is not None or self.timeout_s is None:
            return None
        return loop.call_later(self.timeout_s, self.expire)

    def _leave(self, callback: Callable[[], None], *, abandon: bool) -> None:
        with _settling:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)
            is_last = not self.done and not self._callbacks
        if abandon and is_last:
            self._settle(None, TimedOut("the reply was abandoned by its last waiter"))

    # --- waiting in a thread -----------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """Block the calling thread for the answer, at most `timeout` seconds.

        After a shorter `timeout` than the reply's own, `get` may be tried again.

        Raises: AskTimeout; WouldDeadlock on a thread that runs an event loop; whatever the
        actor answered with.
        """
        if self._hook is not None and not self.done:
            self._settle(self._hook(timeout), None)
        if not self.done:
            self._block(timeout)
        return self._outcome()

    def _block(self, timeout_s: float | None) -> None:
        if _is_on_a_loop():
            raise WouldDeadlock("this thread runs an event loop; await the reply instead")
        is_final = self.timeout_s is not None and (timeout_s is None or timeout_s >= self.timeout_s)
        limit_s = self.timeout_s if is_final else timeout_s
        answered = threading.Event()
        self.add_done_callback(answered.set)
        if answered.wait(limit_s):
            return
        if is_final:
            self.expire()
        elif not self.done:
            self._leave(answered.set, abandon=False)
            raise self._timed_out(limit_s)

    def set_get_hook(self, func: Callable[[float | None], Any]) -> None:
        """Let `func` produce the value when it is asked for (pykka's composed futures)."""
        self._hook = func


def _exception(found: BaseException | ExcInfo) -> BaseException:
    """Return the exception itself; of a triple it may still have to be made, as pykka allows."""
    if isinstance(found, BaseException):
        return found
    kind, error, _traceback = found
    if error is None and kind is not None:
        error = kind()
    return error or RuntimeError("set_exception() without an exception")


def _wake(woken: asyncio.Future[None], loop: asyncio.AbstractEventLoop, thread: int) -> None:
    """Wake one waiter on its own loop, which runs in `thread`, whoever settles the reply."""
    if get_ident() != thread:
        # RuntimeError: the waiter's loop is closed, nobody is left to wake.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_wake, woken, loop, thread)
    elif not woken.done():
        woken.set_result(None)


async def forward(future: pykka.Future[Any], reply: Reply) -> None:
    """Pass on another kind of pykka future; its wait blocks, so it is kept off the loop."""
    try:
        reply.set(await asyncio.to_thread(future.get, timeout=reply.timeout_s))
    except Exception as error:  # the task boundary: it is the answer
        reply.set_exception(error)


class Deadlines:
    """Fails overdue asks with one timer per time limit in use, not one per ask.

    Asks with the same limit fall due in the order in which they were made, so a plain queue per
    limit will do. Lives on one loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._time = loop.time
        self._queues: dict[float, deque[Reply]] = {}

    def watch(self, reply: Reply, latest: float | None = None) -> None:
        """Start the reply's time; `latest` is a loop time that it must not exceed."""
        timeout_s = reply.timeout_s
        if timeout_s is None:
            return
        now = self._time()
        if latest is not None and latest < now + timeout_s:
            timeout_s = max(0.0, latest - now)
        reply.deadline = now + timeout_s
        queue = self._queues.get(timeout_s)
        if queue is None:
            queue = self._queues[timeout_s] = deque()
            self._loop.call_later(timeout_s, self._expire, timeout_s)
        else:
            while queue and queue[0].done:
                queue.popleft()
        queue.append(reply)

    def _expire(self, timeout_s: float) -> None:
        queue = self._queues[timeout_s]
        due = self._loop.time() + CLOCK_GRAIN_S
        while queue and (queue[0].done or (queue[0].deadline or 0.0) <= due):
            queue.popleft().expire()
        if queue:
            self._loop.call_at(queue[0].deadline or due, self._expire, timeout_s)
        else:
            del self._queues[timeout_s]


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
