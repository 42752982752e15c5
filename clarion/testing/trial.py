"""What the conformance suite runs on: an adapter before its look-alike, watched from outside.

An adapter under test may do anything: block its event loop, go on though it was cancelled, answer
with something else. So each test runs on a loop in a thread of its own, which another one watches,
and what an adapter gives back is looked at before it is believed. What is wrong is told in words
that its author can act on.
"""

from __future__ import annotations

import asyncio
import functools
import re
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from clarion.domain.outcome import Answer, Health, Outcome
from clarion.providers.base import Adapter, Outgoing, Wire, answer_for_exception
from clarion.testing.ledger import SeenRequest
from clarion.testing.steerable import Steerable

BOUND_S = 20.0
"""How long one test may take before it fails, in seconds."""
BLOCKED_S = 3.0
"""For how long an event loop may do nothing else before it counts as blocked."""
CANCEL_S = 3.0
"""How long a call may go on that was cancelled."""
BEAT_S = 0.05

_FILES = Path("/dev/fd")
_REASON = re.compile(r"[a-z0-9][\w.:-]*")

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Trial:
    """One adapter, open, before its look-alike."""

    adapter: Adapter
    server: Steerable

    @property
    def sends(self) -> list[SeenRequest]:
        """Requests for a message to be sent that reached the provider."""
        return [each for each in self.server.requests if each.is_send]

    async def send(self, outgoing: Outgoing, wire: Wire | None = None) -> Answer:
        """Send, and look at what is given back. Raises AssertionError."""
        wire = wire or Wire()
        try:
            answer = await self.adapter.send(outgoing, wire)
        except Exception as error:
            raise _raised("send", error) from error
        _check(answer, outgoing, wire)
        return answer

    async def probe(self) -> Health:
        """Probe, and look at what is given back. Raises AssertionError."""
        try:
            health = await self.adapter.probe()
        except Exception as error:
            raise _raised("probe", error) from error
        assert isinstance(health, Health), _other_type("probe", health, Health)
        return health

    async def cut_off(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Cancel a send whose message the provider has taken; return what the call came to."""
        task = asyncio.create_task(self.send(outgoing, wire))
        is_taken = asyncio.create_task(self.server.wait_for(self.server.deliveries.total() + 1))
        await asyncio.wait({task, is_taken}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            is_taken.cancel()
            raise AssertionError(
                f"`send` came back before the provider answered, with {task.result()}"
            )
        await cancelled(task)
        assert is_taken.exception() is None, "`send` never got the message to the provider"
        if task.cancelled():
            return answer_for_exception(TimeoutError(), wire)
        return task.result()


async def cancelled(*tasks: asyncio.Task[Answer]) -> None:
    """Cancel calls as the time limit does, and wait for their end. Raises AssertionError."""
    for task in tasks:
        task.cancel()
    _, running = await asyncio.wait(tasks, timeout=CANCEL_S)
    assert not running, (
        "`send` goes on though it was cancelled: let CancelledError out, "
        "or Clarion's time limit has no effect"
    )


def open_files() -> int:
    """Return how many files and sockets this process has open; 0 where that cannot be told."""
    return len(list(_FILES.iterdir())) if _FILES.is_dir() else 0


async def all_closed(before: int) -> None:
    """Wait for the last closed connections to be gone, but not for ever."""
    until = time.monotonic() + CANCEL_S
    # Nobody tells when a file is closed.
    while open_files() > before and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(BEAT_S)


def on_a_loop(test: Callable[[S], Awaitable[None]]) -> Callable[[S], None]:
    """Run an async test without a plugin, within its bound, and watched."""

    @functools.wraps(test)
    def run(self: S) -> None:
        _Watched(lambda: test(self)).run()

    del run.__wrapped__  # plugins would take it for a coroutine
    return run


class _Watched:
    """One scenario on an event loop in a thread of its own."""

    def __init__(self, scenario: Callable[[], Awaitable[None]]) -> None:
        self._scenario = scenario
        self._ended: Future[None] = Future()
        self._beat_at = time.monotonic()
        # A daemon: what cannot be stopped must not keep pytest from ending.
        self._thread = threading.Thread(target=self._in_thread, name="conformance", daemon=True)

    def run(self) -> None:
        """Wait for the end; raise what the scenario raised, or AssertionError."""
        self._thread.start()
        while not wait({self._ended}, timeout=BEAT_S).done:
            if time.monotonic() - self._beat_at > BLOCKED_S:
                raise AssertionError(
                    f"the adapter blocks the event loop for more than {BLOCKED_S:.0f} s: await "
                    "there, or set `is_blocking = True` and write plain methods. It is at\n"
                    + self._place()
                )
        self._ended.result()
        self._thread.join(CANCEL_S)
        assert not self._thread.is_alive(), (
            f"a task or thread of the adapter still runs {CANCEL_S:.0f} s after its close"
        )

    def _in_thread(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.timeout(BOUND_S):
                await self._scenario()
        except BaseException as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def _place(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - documented, for this
        return "".join(traceback.format_stack(frame)[-8:]) if frame else "(it has just gone on)"


def _check(answer: object, outgoing: Outgoing, wire: Wire) -> None:
    assert isinstance(answer, Answer), _other_type("send", answer, Answer)
    assert isinstance(answer.outcome, Outcome), _other_type("outcome", answer.outcome, Outcome)
    assert answer.outcome not in (Outcome.REFUSED, Outcome.RECALLED), (
        f"{answer.outcome} is Clarion's own word: an adapter does not say it"
    )
    assert _REASON.fullmatch(answer.reason), (
        f"the reason {answer.reason!r} is no short code: small letters, digits and _ . : -"
    )
    assert outgoing.content.to not in answer.detail, (
        f"the detail shows the whole address, and stands in logs: {answer.detail!r}"
    )
    if answer.outcome is Outcome.ACCEPTED:
        assert not answer.surely_not_accepted, "ACCEPTED cannot be `surely_not_accepted`"
        assert wire.is_written, (
            "the message is ACCEPTED, but `wire.is_written` was never set: set it before the "
            "first byte leaves by which the provider could take the message"
        )


def _raised(method: str, error: Exception) -> AssertionError:
    return AssertionError(
        f"`{method}` raised {type(error).__name__}: {error}. What a provider or a network does is "
        "answered, never raised: see answer_for_exception in clarion.providers.base"
    )


def _other_type(what: str, found: object, wanted: type) -> str:
    return f"`{what}` gave {type(found).__name__} ({found!r}) and owes {wanted.__name__}"
