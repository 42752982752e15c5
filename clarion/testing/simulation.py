"""The whole engine in virtual time, from one seed: hours of outage in a second.

A `Simulation` is the world that outlives every process of Clarion: the database file, the provider
accounts, the operators' and senders' plan, the chances. It runs one life of an `Engine` after the
other, each on a loop of its own, kills it where it is told to, and writes a trace. The same seed
gives the same trace, byte for byte. What should be true in the end is asked by `invariant`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import structlog
from structlog.typing import EventDict

from clarion.app import Engine
from clarion.domain.receipt import Receipt
from clarion.settings import Settings
from clarion.testing.simulated_life import Life, ProcessKilled
from clarion.testing.simulated_provider import Account
from clarion.testing.simulated_receipt import GOOD, ReceiptHabit, plan_receipt
from clarion.testing.simulated_store import Disk
from clarion.testing.virtual_time import VirtualTimeLoop
from clarion.testing.witness import Witness

EPOCH_AT = 1_700_000_000.0
DOWN_S = (0.2, 5.0)
"""How long a dead process stays down."""
_UNHEARD = frozenset({"event", "traceback"})
"""Not in the trace: a traceback has paths and line numbers, and is long."""
Action = Callable[["Simulation"], Coroutine[Any, Any, None] | None]


@dataclass(order=True, slots=True)
class Step:
    """One thing that somebody does at `at` (virtual seconds); `name` is for the trace.

    A stubborn one is done again where the process died before it was through.
    """

    at: float
    name: str = field(compare=False)
    act: Action = field(compare=False)
    is_stubborn: bool = field(default=False, compare=False)


def _nobody() -> None:
    """Nobody lives that could be roused."""


class Simulation:
    """One world; see the module."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.seed = seed
        self.settings = settings
        self.path: Path = settings.base_dir / settings.storage.url.removeprefix("sqlite:///")
        self.accounts = {
            name: Account(name, settings.providers[name], self, self.rng(f"account {name}"))
            for channel in settings.channels.values()
            for name in channel.providers
        }
        self.disk = Disk()
        self.steps: list[Step] = []
        self.trace: list[str] = []
        self.logs: list[MutableMapping[str, Any]] = []
        self.violations: list[str] = []
        self.promised: dict[str, Mapping[str, Any]] = {}
        """Notification id -> the request that was answered with it."""
        self.witness = Witness(self.note, self.accuse)
        self.keys: dict[str, str] = {}
        """Idempotency key -> the id that the first request with it was answered with."""
        self.sent_again: set[str] = set()
        """Ids that a person wanted to be sent again though a provider may have them."""
        self.taken_on_trust: set[str] = set()
        """Ids of which a person said that somebody has them."""
        self.receipts: list[tuple[float, Receipt, str]] = []
        """(instant, receipt, verdict) of what was answered for."""
        self.wished: list[tuple[float, str]] = []
        """(virtual second, words) of what operators and senders asked for."""
        self.granted: list[tuple[float, str]] = []
        """The same, of what they were told is done."""
        self.steered: set[str] = set()
        """Providers whose circuits an operator has moved."""
        self.was_clock_set = False
        self.has_to_end = False
        """From now on all is well, and everything has to come to an end."""
        self.is_over = False
        """Nothing is left to do: the process may stop before its time."""
        self.crashes = 0
        self.deaths = 0
        self.is_dead = False
        self.engine: Engine | None = None
        self.rouse: Callable[[], None] = _nobody
        """Lets the process that lives look at the plan again."""
        self._lives = self.rng("engine")
        self._delays = self.rng("delays")
        self._now_s = 0.0
        self._wall_lead_s = 0.0
        self._loop: VirtualTimeLoop | None = None
        self._kill_at: str | None = None
        self._is_stopping = False
        self._told_good_at: dict[str, float] = {}

    def rng(self, purpose: str) -> Random:
        """Return a source of chances of its own: one more draw here changes nothing there."""
        return Random(f"{self.seed} {purpose}")  # noqa: S311  # chances, not secrets

    # --- the world -------------------------------------------------------------------------

    def now(self) -> float:
        """Return the virtual seconds since the beginning of the world."""
        return self._now_s if self._loop is None else self._loop.time()

    def wall_now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        return EPOCH_AT + self._wall_lead_s + self.now()

    def set_clock(self, by_s: float) -> None:
        """Set the wall clock forward (as a machine that slept does), or, below 0, back."""
        self.note(f"clock set by {by_s:g} s")
        self._wall_lead_s += by_s
        self.was_clock_set = True

    def correct_clock(self) -> None:
        """Set the wall clock right."""
        if self._wall_lead_s:
            self.set_clock(-self._wall_lead_s)

    def end(self) -> None:
        """Let this life be the last one: nothing is left to do."""
        self.note("all has ended")
        self.is_over = True
        self.stop()

    def note(self, event: str) -> None:
        """Write a line of the trace."""
        self.trace.append(f"{self.now():.6f} {event}")

    def accuse(self, violation: str) -> None:
        """Note that a promise was broken."""
        self.note(f"VIOLATION {violation}")
        self.violations.append(f"at {self.now():.3f} s: {violation}")

    def promise(self, id: str, request: Mapping[str, Any]) -> None:
        """Remember that a request was answered with this id."""
        self.note(f"promised {id}")
        self.promised[id] = request

    def wish(self, words: str) -> None:
        """Remember that somebody asks for something."""
        self.wished.append((self.now(), words))

    def grant(self, words: str) -> None:
        """Remember that somebody was told that it is done."""
        self.granted.append((self.now(), words))

    def let_tell(self, habit: ReceiptHabit) -> None:
        """Let all accounts send receipts."""
        for account in self.accounts.values():
            account.habit = habit

    def expect(self, after_s: float, receipt: Receipt) -> None:
        """Let a receipt come to whichever process lives then."""
        plan_receipt(self, self.now() + after_s, receipt)

    def told(self, receipt: Receipt, verdict: str) -> None:
        """Remember that a receipt was answered for."""
        # A known gap: what a call in the air was sent by is forgotten when a receipt of another
        # one ends the notification, so that its own receipt is a stranger's until it has ended.
        status = self.witness.statuses.get(receipt.notification_id)
        if verdict == "unknown" and status is not None and not status.is_live:
            return
        self.receipts.append((self.now(), receipt, verdict))
        if receipt.status in GOOD:
            self._told_good_at.setdefault(receipt.notification_id, self.now())

    def knows_taken(self, id: str) -> bool:
        """Whether Clarion answered for a receipt, before now, which says that somebody took it."""
        return self._told_good_at.get(id, self.now()) < self.now()

    def crashed(self, actor: str) -> None:
        """Let the accounts know what a crash makes Clarion forget."""
        self.crashes += 1
        kind, _, name = actor.partition(":")
        if kind == "breaker":
            self.accounts[name].contract.breaker_crashed(self.now())

    def plan(self, at: float, name: str, act: Action, *, is_stubborn: bool = False) -> None:
        """Let somebody do something at `at` seconds, or as soon as the process is up again."""
        insort(self.steps, Step(at, name, act, is_stubborn))
        self.rouse()

    def kill(self, where: str = "anywhere") -> None:
        """Kill the process where it stands. Raises: ProcessKilled."""
        self.note(f"killed {where}")
        self.deaths += 1
        self.is_dead = True
        for account in self.accounts.values():
            account.cut_off()
        raise ProcessKilled(where)

    def kill_before(self, n: int) -> None:
        """Kill the process before the n-th next callback of its loop: between any two awaits."""
        assert self._loop is not None
        self._loop.call_before(n, lambda: self.kill(f"before callback {n}"))

    def kill_at(self, where: str) -> None:
        """Kill the process when it next comes to one of the kill points of `SimulatedStore`."""
        self._kill_at = where

    def forget_kill(self) -> None:
        """Let a planned death not come."""
        self._kill_at = None

    def kill_point(self, where: str) -> None:
        """Die here if that was planned. Raises: ProcessKilled."""
        if self._kill_at == where:
            self._kill_at = None
            self.kill(where)

    def stop(self) -> None:
        """Stop the process as SIGTERM does: drain, flush, end; it is started again."""
        self._is_stopping = True
        self.rouse()

    # --- lives -----------------------------------------------------------------------------

    def run(self, until_s: float) -> None:
        """Live through the plan until `until_s`, in as many lives as it takes, then stop."""
        with self._listening():
            while self._live(until_s) or (self.now() < until_s and not self.is_over):
                self._now_s += self._lives.uniform(*DOWN_S)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        with structlog.testing.capture_logs(processors=[self._hear]) as logs:
            self.logs = logs
            yield

    def _hear(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        if self.is_dead:
            # A dead process says nothing, and its tasks are taken down in no order.
            raise structlog.DropEvent
        words = " ".join(f"{key}={event[key]}" for key in event if key not in _UNHEARD)
        self.note(f"log {event['event']} {words}")
        self._learn(event)
        return event

    def _learn(self, event: EventDict) -> None:
        match event["event"]:
            case "breaker_changed":
                contract = self.accounts[event["provider"]].contract
                contract.circuit_changed(event["old"], event["new"], self.now())
            case "actor_crashed":
                self.crashed(event["actor"])

    def _live(self, until_s: float) -> bool:
        """Run one life; return whether the process died."""
        self.is_dead = False
        loop = self._loop = VirtualTimeLoop(self._now_s)
        for account in self.accounts.values():
            account.contract.process_started(self.now())
        try:
            return Life(self, loop).live(until_s)
        finally:
            self._now_s = loop.time()
            for account in self.accounts.values():
                account.cut_off()
            self._loop = self.engine = None
            self.rouse = _nobody

    def due_step(self) -> Step | None:
        """Take what is planned for now, or was while nobody lived; None when nothing is."""
        if self.is_dead or not self.steps or self.steps[0].at > self.now():
            return None
        return self.steps.pop(0)

    @property
    def is_stopping(self) -> bool:
        """Whether the process was asked to stop; asking resets it."""
        is_stopping, self._is_stopping = self._is_stopping, False
        return is_stopping

    def delay_s(self) -> float:
        """Draw how long a thread takes to get its turn; mostly short, now and then long."""
        draw = self._delays.random()
        return draw * 0.002 if draw < 0.97 else draw * 0.2

    def chances(self) -> Random:
        """Return the engine's own source of chances."""
        return self._lives
