"""What can be steered from a test: rules that say when to misbehave, and a ledger of what came.

What is misbehaved *over* (HTTP, SMTP) is with the classes that are made from this one.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from clarion.policies.clock import Clock, SystemClock
from clarion.testing.fault import Fault
from clarion.testing.ledger import Ledger, SeenRequest

Match = Callable[[SeenRequest], bool]


@dataclass(slots=True, eq=False)
class _Rule:
    fault: Fault
    times: int | None
    match: Match | None

    def applies_to(self, seen: SeenRequest) -> bool:
        if self.times is not None and not seen.is_send:
            return False
        return self.match is None or self.match(seen)


class Steerable(ABC):
    """A provider on a loopback port that misbehaves on demand.

    `port` 0 takes a free one and keeps it over `stop` and `start`. `ledger` is an NDJSON file that
    gets a line per delivery. `rng` draws for `fail_ratio`; the default is seeded.
    """

    provider: ClassVar[str]

    def __init__(
        self,
        *,
        port: int = 0,
        ledger: Path | None = None,
        clock: Clock | None = None,
        rng: Callable[[], float] | None = None,
        keep: int = 10_000,
    ) -> None:
        self.port = port
        self.latency_s = 0.0
        """Time between taking a message and answering, in seconds."""
        self.fail_ratio = 0.0
        """Share of sends that get `failure` although no rule says so."""
        self.failure = Fault.error(500)
        self.event_webhook_url = ""
        """Where signed receipts go, for a provider that has one address for all."""
        self.ledger = Ledger(self.provider, ledger, keep)
        self._clock: Clock = clock or SystemClock()
        self._rng = rng or random.Random(0).random  # noqa: S311 - draws faults, not secrets
        self._counted: list[_Rule] = []
        self._standing: list[_Rule] = []
        self._serial = int(self._clock.now() * 1e6) << 32

    @abstractmethod
    async def start(self) -> None:
        """Listen; after a `stop`, on the same port."""

    @abstractmethod
    async def stop(self) -> None:
        """Die: refuse connections and reset the open ones, whatever they wait for."""

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether it listens."""

    @abstractmethod
    def settings(self, **extra: Any) -> dict[str, Any]:
        """Return a `[providers.NAME]` table that points Clarion here."""

    def behave(self, fault: Fault, *, times: int | None = None, match: Match | None = None) -> None:
        """Misbehave from now on, or for the next `times` sends.

        Rules with `times` are used up first, in the order they were given; then the latest
        standing rule holds, for health probes as well. With `match`, which is given the request
        with its parsed payload, the body is read before any fault.
        """
        if times is not None:
            self._counted.append(_Rule(fault, times, match))
        else:
            self._standing.insert(0, _Rule(fault, None, match))

    async def report(self, id: str, event: str, **more: Any) -> int:
        """Send a signed receipt of a message, where this provider has some; else ValueError."""
        raise ValueError(f"{self.provider} sends no receipts")

    def recover(self) -> None:
        """Drop every rule and the fail ratio; what already hangs goes on hanging."""
        self._counted.clear()
        self._standing.clear()
        self.fail_ratio = 0.0

    async def wait_for(self, condition: int | Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait for that many deliveries in all, or until the callable is true; else TimeoutError.

        The callable is asked again at every arrival, delivery and end of a request.
        """
        await self.ledger.wait_for(condition, timeout_s)

    @property
    def requests(self) -> deque[SeenRequest]:
        """The latest requests, oldest first."""
        return self.ledger.requests

    @property
    def deliveries(self) -> Counter[str]:
        """How often each correlation id was delivered."""
        return self.ledger.deliveries

    def delivered(self, correlation_id: str) -> int:
        """Return how often this message was taken."""
        return self.ledger.deliveries[correlation_id]

    def duplicates(self) -> dict[str, int]:
        """Return the messages that were taken more than once, with how often."""
        return self.ledger.duplicates()

    @property
    def in_flight(self) -> int:
        """How many sends are inside now."""
        return self.ledger.in_flight

    @property
    def max_in_flight(self) -> int:
        """The most sends that were inside at once."""
        return self.ledger.max_in_flight

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def next_serial(self) -> int:
        """Return a number for the provider's own ids; it differs over restarts of the process."""
        self._serial += 1
        return self._serial

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch."""
        return self._clock.now()

    def _choose(self, seen: SeenRequest) -> Fault | None:
        """Return what goes wrong with this request; a rule that is counted is used up by it."""
        for rule in (*self._counted, *self._standing):
            if rule.applies_to(seen):
                self._use_up(rule)
                return rule.fault
        if seen.is_send and self.fail_ratio and self._rng() < self.fail_ratio:
            return self.failure
        return None

    def _use_up(self, rule: _Rule) -> None:
        if rule.times is None:
            return
        rule.times -= 1
        if rule.times <= 0:
            self._counted.remove(rule)
