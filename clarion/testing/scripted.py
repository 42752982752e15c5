"""An adapter that answers from a script: the provider of the engine's own tests.

It opens no socket and never sleeps. A send waits only while it is held, and goes on when the test
says `release()`, so a test decides the order in which calls end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from clarion.domain.notification import Channel
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.policies.clock import Clock, SystemClock
from clarion.providers.base import Outgoing, Wire

ACCEPTED = Answer(Outcome.ACCEPTED, "accepted", "the scripted provider took it")


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted send, for what a bare `Answer` or exception cannot say."""

    result: Answer | BaseException = ACCEPTED
    is_written: bool = True
    """Whether the provider may have read the message before `result`."""
    is_held: bool = False
    """Whether this send waits for `release()` although the provider is not on hold."""


Line = Answer | BaseException | Step
Script = Iterable[Line] | Callable[[Outgoing], Answer]


@dataclass(slots=True)
class Sent:
    """One send as the provider saw it."""

    at: float
    """Wall clock of its start, in seconds since the epoch."""
    outgoing: Outgoing
    answer: Answer | None = None
    """None while it is out, and when it raised or was cancelled."""


class ScriptedProvider:
    """Implements `providers.base.Adapter` for every channel, with scripted answers.

    `script` is a list (used line by line, then every send is accepted) or a callable that is
    given each `Outgoing`. A line is an `Answer`, an exception to raise, or a `Step`.
    """

    kind: ClassVar[str] = "scripted"
    channels: ClassVar[frozenset[str]] = frozenset(Channel)

    def __init__(self, script: Script = (), *, clock: Clock | None = None) -> None:
        self.sends: list[Sent] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.health = Health(is_healthy=True, detail="the scripted provider is well")
        self.open_error: BaseException | None = None
        """Raised by `open` while it is set."""
        self.times_opened = 0
        self.times_closed = 0
        self.times_probed = 0
        self._lines: deque[Line] = deque()
        self._answer_by: Callable[[Outgoing], Answer] | None = None
        self.play(script)
        self._clock = clock or SystemClock()
        self._is_on_hold = False
        self._held: deque[asyncio.Future[None]] = deque()
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def play(self, script: Script) -> None:
        """Replace what is left of the script."""
        self._answer_by = script if callable(script) else None
        self._lines = deque() if callable(script) else deque(script)

    def hold(self) -> None:
        """Let every send from now on wait inside the provider until `release`."""
        self._is_on_hold = True

    def release(self, n: int | None = None) -> None:
        """Let the `n` longest held sends go on; None ends the hold and lets all of them go."""
        if n is None:
            self._is_on_hold = False
        for _ in range(len(self._held) if n is None else min(n, len(self._held))):
            held = self._held.popleft()
            if not held.done():
                held.set_result(None)

    async def wait_for(self, condition: int | Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait for that many started sends, or until the callable is true; else TimeoutError.

        The callable is asked again whenever a send starts or ends.
        """
        is_true = condition if callable(condition) else lambda: len(self.sends) >= condition
        if is_true():
            return
        waiter = (is_true, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1]
        finally:
            self._waiters.remove(waiter)

    async def open(self) -> None:
        """Count the opening, or raise `open_error`."""
        if self.open_error is not None:
            raise self.open_error
        self.times_opened += 1

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Record the send, wait while it is held, and give the next scripted result."""
        sent = Sent(self._clock.now(), outgoing)
        self.sends.append(sent)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self._look_around()
        try:
            sent.answer = await self._answer(outgoing, wire)
            return sent.answer
        finally:
            self.in_flight -= 1
            self._look_around()

    async def probe(self) -> Health:
        """Return `health`."""
        self.times_probed += 1
        return self.health

    async def close(self) -> None:
        """Count the closing."""
        self.times_closed += 1

    async def _answer(self, outgoing: Outgoing, wire: Wire) -> Answer:
        step = self._next_step(outgoing)
        wire.is_written = step.is_written
        if self._is_on_hold or step.is_held:
            held = asyncio.get_running_loop().create_future()
            self._held.append(held)
            await held
        if isinstance(step.result, BaseException):
            raise step.result
        return step.result

    def _next_step(self, outgoing: Outgoing) -> Step:
        if self._answer_by is not None:
            return Step(self._answer_by(outgoing))
        line = self._lines.popleft() if self._lines else ACCEPTED
        return line if isinstance(line, Step) else Step(line)

    def _look_around(self) -> None:
        for is_true, waiter in self._waiters:
            if not waiter.done() and is_true():
                waiter.set_result(None)
