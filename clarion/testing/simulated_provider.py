"""A provider in virtual time: an account in the simulated world, with moods and a ledger.

The account outlives every process of Clarion. It takes a message at some instant of a call, which
may be after Clarion gave the call up, or died; the ledger counts what it took, whatever it said.
What it may expect of its client is in its `Contract`; what it tells later, in its `ReceiptHabit`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Protocol, assert_never

from clarion.domain.notification import Channel
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.domain.receipt import Receipt
from clarion.providers.base import Outgoing, Wire, answer_for_exception
from clarion.settings import ProviderSettings
from clarion.testing.contract import Contract, Ending
from clarion.testing.simulated_receipt import ReceiptHabit

FOREVER_S = 1e9


class World(Protocol):
    """What surrounds an account."""

    def now(self) -> float:
        """Return the virtual seconds."""
        ...

    def note(self, event: str) -> None:
        """Write a line of the trace."""
        ...

    def accuse(self, violation: str) -> None:
        """Note that a promise was broken."""
        ...

    def wall_now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        ...

    def expect(self, after_s: float, receipt: Receipt) -> None:
        """Let a receipt come to whichever process lives then."""
        ...

    def knows_taken(self, id: str) -> bool:
        """Whether Clarion answered for a receipt, before now, which says that somebody took it."""
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
    def ending(self) -> Ending:
        """How the circuit has to take a call that ends so."""
        if self.error is not None:
            return "failure"
        match self.outcome:
            case Outcome.ACCEPTED | Outcome.RECIPIENT | Outcome.PERMANENT:
                return "success"
            case Outcome.TRANSIENT | Outcome.UNKNOWN | None:
                return "failure"
            case Outcome.THROTTLED | Outcome.MISCONFIGURED | Outcome.REFUSED | Outcome.RECALLED:
                return "ignored"
            case _:
                assert_never(self.outcome)

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
        Mood("tardy", latency_s=(0.8, 1.9)),
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


class Account:
    """One account at a simulated sender."""

    def __init__(self, name: str, settings: ProviderSettings, world: World, rng: Random) -> None:
        self.name = name
        self.contract = Contract(settings, self._accuse)
        self.moods: tuple[Mood, ...] = (HEALTHY,)
        """Each call meets one of these; one that stands there twice is met twice as often."""
        self.habit = ReceiptHabit()
        self.taken: dict[str, int] = {}
        """Notification id -> how often the account accepted it."""
        self.begun: list[Beginning] = []
        self.calls = 0
        self.most_in_flight = 0
        self._world = world
        self._rng = rng
        # Of its own: what is told later changes nothing of what is answered now.
        self._later = Random(rng.getrandbits(64))  # noqa: S311  # chances, not secrets
        self._open: dict[int, Exchange] = {}

    def _accuse(self, violation: str) -> None:
        self._world.accuse(f"{self.name}: {violation}")

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

    async def answer(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Take part in one exchange."""
        mood = self._rng.choice(self.moods)
        with self._exchange(outgoing, mood) as exchange:
            latency_s = self._rng.uniform(*mood.latency_s)
            written, taken = sorted((self._rng.random(), self._rng.random()))
            await asyncio.sleep(latency_s * written)
            exchange.is_written = wire.is_written = mood.is_written
            await asyncio.sleep(latency_s * (taken - written))
            self._decide(exchange, mood.share_taken)
            # A receipt may overtake the answer.
            await asyncio.sleep(latency_s * (1 - taken))
            if mood.outcome is None:
                await asyncio.sleep(FOREVER_S)
            if mood.error is not None:
                raise mood.error(mood.name)
            return self._say(exchange)

    def _say(self, exchange: Exchange) -> Answer:
        mood = exchange.mood
        assert mood.outcome is not None
        if mood.retry_after_s is not None:
            self.contract.asked_to_wait(self._world.now(), mood.retry_after_s)
        return Answer(
            mood.outcome,
            mood.name,
            f"the account {self.name} is in this mood: {mood.name}",
            surely_not_accepted=mood.surely_not_accepted,
            retry_after_s=mood.retry_after_s,
            provider_message_id=self._message_id(exchange) if exchange.is_taken else None,
        )

    def _message_id(self, exchange: Exchange) -> str:
        return f"{self.name} {exchange.outgoing.notification_id}/{exchange.outgoing.call}"

    @contextmanager
    def _exchange(self, outgoing: Outgoing, mood: Mood) -> Iterator[Exchange]:
        self.calls += 1
        key, exchange = self.calls, Exchange(outgoing, mood)
        self._open[key] = exchange
        self.most_in_flight = max(self.most_in_flight, len(self._open))
        self._note(outgoing, mood)
        out = self.contract.began(self._world.now())
        ending = mood.ending
        try:
            yield exchange
        except asyncio.CancelledError:
            ending = "failure"
            if key in self._open and not exchange.is_taken:
                self._decide(exchange, 0.3)
            raise
        finally:
            self._open.pop(key, None)
            self.contract.ended(out, ending, self._world.now())

    def _note(self, outgoing: Outgoing, mood: Mood) -> None:
        id, number = outgoing.notification_id, outgoing.call
        now, wall_now = self._world.now(), self._world.wall_now()
        self.begun.append(Beginning(now, wall_now, self.name, id, number, outgoing.channel))
        self._world.note(f"{self.name} < {id}/{number} {mood.name}")
        if self._world.knows_taken(id):
            self._accuse(f"{id} is sent again after a receipt told of it")

    def _decide(self, exchange: Exchange, share: float) -> None:
        if not exchange.is_written or exchange.is_taken or exchange.mood.surely_not_accepted:
            return
        if self._rng.random() < share:
            exchange.is_taken = True
            id, call = exchange.outgoing.notification_id, exchange.outgoing.call
            self.taken[id] = self.taken.get(id, 0) + 1
            self._world.note(f"{self.name} took {id}/{call}")
            self._tell_later(exchange)

    def _tell_later(self, exchange: Exchange) -> None:
        receipt = Receipt(
            exchange.outgoing.notification_id,
            self.name,
            "",
            "",
            self._world.wall_now(),
            call=exchange.outgoing.call,
            provider_message_id=self._message_id(exchange),
        )
        for after_s, each in self.habit.draw(receipt, self._later):
            self._world.expect(after_s, each)


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
