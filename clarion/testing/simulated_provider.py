"""A provider in virtual time: an account in the simulated world, with moods and a ledger.

The account outlives every process of Clarion. It takes a message at some instant of a call, which
may be after Clarion gave the call up, or died; the ledger counts what it took, whatever it said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Protocol

from clarion.domain.notification import Channel
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.providers.base import Outgoing, Wire, answer_for_exception

FOREVER_S = 1e9


class World(Protocol):
    """What surrounds an account."""

    def now(self) -> float:
        """Return the virtual seconds."""
        ...

    def wall_now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        ...

    def note(self, event: str) -> None:
        """Write a line of the trace."""
        ...

    def accuse(self, violation: str) -> None:
        """Note that a promise was broken."""
        ...


@dataclass(frozen=True, slots=True)
class Mood:
    """How an account behaves for a while; durations are virtual seconds.

    An `outcome` of None means that no answer comes. `takes` is the share of the calls that the
    account accepts although it does not say so.
    """

    name: str
    outcome: Outcome | None = Outcome.ACCEPTED
    latency_s: tuple[float, float] = (0.02, 0.3)
    is_written: bool = True
    takes: float = 0.0
    surely_not_accepted: bool = False
    retry_after_s: float | None = None
    error: type[Exception] | None = None
    """Raised instead of an answer."""

    @property
    def share_taken(self) -> float:
        """The share of calls that the account accepts."""
        is_taking = self.outcome is Outcome.ACCEPTED and self.error is None
        return 1.0 if is_taking else self.takes


HEALTHY = Mood("healthy")
MOODS = {
    mood.name: mood
    for mood in (
        HEALTHY,
        Mood("slow", latency_s=(2.0, 9.0)),
        Mood("answers_500", Outcome.TRANSIENT, surely_not_accepted=True),
        Mood("answers_503_in_doubt", Outcome.TRANSIENT),
        Mood("proxy_502", Outcome.UNKNOWN, takes=0.5),
        Mood("refuses_connections", Outcome.TRANSIENT, is_written=False, surely_not_accepted=True),
        Mood("hangs_before_the_wire", None, is_written=False),
        Mood("hangs", None, takes=0.1),
        Mood("accepts_then_hangs", None, takes=1.0),
        Mood("resets", takes=0.5, error=ConnectionResetError),
        Mood("has_a_bug", is_written=False, error=KeyError),
        Mood("has_a_late_bug", takes=0.5, error=KeyError),
        Mood("throttles", Outcome.THROTTLED, surely_not_accepted=True),
        Mood("throttles_for_15_s", Outcome.THROTTLED, surely_not_accepted=True, retry_after_s=15.0),
        Mood("misconfigured", Outcome.MISCONFIGURED, surely_not_accepted=True),
        Mood("bad_recipients", Outcome.RECIPIENT, surely_not_accepted=True),
        Mood("bad_messages", Outcome.PERMANENT, surely_not_accepted=True),
    )
}


@dataclass(frozen=True, order=True, slots=True)
class Beginning:
    """When a call began, as the account has it; `at` in virtual seconds."""

    at: float
    wall_at: float
    account: str
    id: str
    number: int
    channel: str


@dataclass(slots=True)
class Exchange:
    """One call, as the account has it."""

    outgoing: Outgoing
    mood: Mood
    is_written: bool = False
    is_taken: bool = False


@dataclass(slots=True)
class Account:
    """One account at a simulated sender; `max_concurrent` is the promise that it checks."""

    name: str
    max_concurrent: int
    world: World
    rng: Random
    moods: tuple[Mood, ...] = (HEALTHY,)
    """Each call meets one of these."""
    taken: dict[str, int] = field(default_factory=dict)
    """Notification id -> how often the account accepted it."""
    begun: list[Beginning] = field(default_factory=list)
    calls: int = 0
    most_in_flight: int = 0
    asked_at: float = 0.0
    silent_until: float = 0.0
    """From the one to the other it wants to be left alone (Retry-After)."""
    _open: dict[int, Exchange] = field(default_factory=dict)

    def adapter(self) -> SimulatedAdapter:
        """Make an adapter that uses this account."""
        return SimulatedAdapter(self)

    def calm(self) -> None:
        """Be well from now on."""
        self.moods = (HEALTHY,)

    def cut_off(self) -> None:
        """The client's machine dies: what was on the wire may still arrive."""
        for exchange in self._open.values():
            self._decide(exchange, 0.5)
        self._open.clear()
        self.forget_silence()

    def forget_silence(self) -> None:
        """Expect calls again: whoever was asked to wait has died or was told otherwise."""
        self.silent_until = 0.0

    async def answer(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Take part in one exchange."""
        mood = self.rng.choice(self.moods)
        with self._exchange(outgoing, mood) as exchange:
            latency_s = self.rng.uniform(*mood.latency_s)
            share = self.rng.random()
            await asyncio.sleep(latency_s * share)
            exchange.is_written = wire.is_written = mood.is_written
            await asyncio.sleep(latency_s * (1 - share))
            self._decide(exchange, mood.share_taken)
            if mood.outcome is None:
                await asyncio.sleep(FOREVER_S)
            if mood.error is not None:
                raise mood.error(mood.name)
            return self._say(mood)

    def _say(self, mood: Mood) -> Answer:
        assert mood.outcome is not None
        if mood.retry_after_s is not None:
            self.asked_at = self.world.now()
            self.silent_until = self.asked_at + mood.retry_after_s
        return Answer(
            mood.outcome,
            mood.name,
            f"the account {self.name} is in this mood: {mood.name}",
            surely_not_accepted=mood.surely_not_accepted,
            retry_after_s=mood.retry_after_s,
        )

    @contextmanager
    def _exchange(self, outgoing: Outgoing, mood: Mood) -> Iterator[Exchange]:
        self.calls += 1
        key, exchange = self.calls, Exchange(outgoing, mood)
        self._open[key] = exchange
        self._look(outgoing, mood)
        try:
            yield exchange
        except asyncio.CancelledError:
            if key in self._open and not exchange.is_taken:
                self._decide(exchange, 0.3)
            raise
        finally:
            self._open.pop(key, None)

    def _look(self, outgoing: Outgoing, mood: Mood) -> None:
        n = len(self._open)
        self.most_in_flight = max(self.most_in_flight, n)
        id, number = outgoing.notification_id, outgoing.call
        now, wall_now = self.world.now(), self.world.wall_now()
        self.begun.append(Beginning(now, wall_now, self.name, id, number, outgoing.channel))
        self.world.note(f"{self.name} < {outgoing.notification_id}/{outgoing.call} {mood.name}")
        if n > self.max_concurrent:
            self.world.accuse(f"{self.name}: {n} calls in flight, {self.max_concurrent} allowed")
        if self.asked_at < self.world.now() < self.silent_until:
            self.world.accuse(f"{self.name} was called before its Retry-After was over")

    def _decide(self, exchange: Exchange, share: float) -> None:
        if not exchange.is_written or exchange.is_taken or exchange.mood.surely_not_accepted:
            return
        if self.rng.random() < share:
            exchange.is_taken = True
            id = exchange.outgoing.notification_id
            self.taken[id] = self.taken.get(id, 0) + 1
            self.world.note(f"{self.name} took {id}/{exchange.outgoing.call}")


class SimulatedAdapter:
    """Implements `providers.base.Adapter` on an account."""

    kind: ClassVar[str] = "simulated"
    channels: ClassVar[frozenset[str]] = frozenset(Channel)

    def __init__(self, account: Account) -> None:
        self.account = account

    async def open(self) -> None:
        """Need nothing."""

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Make one call to the account."""
        try:
            return await self.account.answer(outgoing, wire)
        except OSError as error:
            return answer_for_exception(error, wire)

    async def probe(self) -> Health:
        """Say whether the account would take a message."""
        is_misconfigured = any(mood.outcome is Outcome.MISCONFIGURED for mood in self.account.moods)
        return Health(not is_misconfigured, "simulated", is_misconfigured)

    async def close(self) -> None:
        """Hold nothing."""
