"""The circuit breaker: a state machine over outcomes, with generations, probes and growth.

::

    closed ──(threshold, or a rate in a window)──> open ──(its time is over)──> half_open
      ^                                              ^                            │   │
      └───────────(success_threshold successes)──────┼────────────────────────────┘   │
                                                     └──(one failure: longer)─────────┘

A permit belongs to the generation in which it was given: a result from before a change of state is
late, is counted, and decides nothing. States an operator set (`forced_open`, `disabled`) stay until
`reset`. `snapshot` looks and never changes anything: an open circuit whose time is over reads "open"
with `retry_after` 0 until somebody asks for a permit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from clarion.errors import CircuitOpen

T = TypeVar("T")
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """When a circuit opens and how it recovers; durations in seconds."""

    failure_threshold: int = 5
    success_threshold: int = 2
    timeout: float = 60.0
    half_open_timeout: float = 30.0
    timeout_multiplier: float = 2.0
    timeout_max: float = 600.0
    jitter: float = 0.1
    window: str = "consecutive"
    size: int = 100
    minimum_calls: int = 10
    failure_rate: float = 0.5
    slow_call: float = 0.0
    slow_rate: float = 1.0
    probes: int = 1

    def validate(self) -> None:
        """Raise ValueError naming the first setting that cannot work."""
        positive = ("failure_threshold", "success_threshold", "size", "minimum_calls", "probes")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """How a circuit stands; `retry_at` is monotonic, `retry_after` in seconds."""

    name: str
    state: str
    failures: int
    retry_after: float | None
    retry_at: float | None
    generation: int
    open_count: int
    late_results: int


class _Window:
    """What the closed state remembers of the latest calls."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._calls: deque[tuple[float, bool, bool]] = deque()
        self.failures = 0
        self._slow = 0

    def add(self, now: float, is_failure: bool, is_slow: bool) -> bool:
        """Note a call; return whether the circuit should open."""
        settings = self._settings
        if settings.window == "consecutive":
            self.failures = self.failures + 1 if is_failure else 0
            return self.failures >= settings.failure_threshold
        self._calls.append((now, is_failure, is_slow))
        self.failures += is_failure
        self._slow += is_slow
        self._forget(now)
        n = len(self._calls)
        if n < settings.minimum_calls:
            return False
        return self.failures / n >= settings.failure_rate or (
            settings.slow_call > 0 and self._slow / n >= settings.slow_rate
        )

    def _forget(self, now: float) -> None:
        settings = self._settings
        while self._calls and (
            len(self._calls) > settings.size
            if settings.window == "count"
            else now - self._calls[0][0] > settings.size
        ):
            _, is_failure, is_slow = self._calls.popleft()
            self.failures -= is_failure
            self._slow -= is_slow


class Permit:
    """Leave for one call; exactly one of its methods counts, the first."""

    __slots__ = ("_breaker", "_generation", "_is_settled", "_started_at")

    def __init__(self, breaker: Breaker, generation: int, started_at: float) -> None:
        self._breaker = breaker
        self._generation = generation
        self._started_at = started_at
        self._is_settled = False

    def success(self) -> None:
        """The call succeeded."""
        self._settle(False)

    def failure(self) -> None:
        """The call failed."""
        self._settle(True)

    def ignore(self) -> None:
        """The call ended in a way that says nothing about the service."""
        self._settle(None)

    def release(self) -> None:
        """The call was never made."""
        self._settle(None)

    def _settle(self, is_failure: bool | None) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._breaker._record(self._generation, self._started_at, is_failure)


class Breaker:
    """One circuit. `clock` gives monotonic seconds, `rng` numbers in [0, 1)."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        rng: Callable[[], float],
        on_change: Callable[[str, str], None] | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self.settings = BreakerSettings(**settings)
        self.settings.validate()
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._state = "closed"
        self._generation = 0
        self._open_count = 0
        self._retry_at = 0.0
        self._window = _Window(self.settings)
        self._probes: deque[float] = deque()
        self._successes = 0
        self._late = 0

    @classmethod
    def from_settings(
        cls,
        name: str,
        settings: BreakerSettings,
        *,
        clock: Clock,
        rng: Callable[[], float],
        on_change: Callable[[str, str], None] | None = None,
    ) -> Self:
        """Make a breaker from settings that are there already."""
        breaker = cls(name, clock=clock, rng=rng, on_change=on_change)
        breaker.settings = settings
        breaker._window = _Window(settings)
        return breaker

    def acquire(self) -> Permit:
        """Return leave for one call. Raises: CircuitOpen."""
        now = self._clock()
        if self._state == "open" and now >= self._retry_at:
            self._move("half_open")
        if self._state == "half_open":
            self._take_probe(now)
        elif self._state == "open":
            raise CircuitOpen(self.name, self._retry_at - now)
        elif self._state == "forced_open":
            raise CircuitOpen(self.name, None)
        return Permit(self, self._generation, now)

    def _take_probe(self, now: float) -> None:
        # A probe whose permit was lost must not keep the circuit half-open for ever.
        while self._probes and now - self._probes[0] >= self.settings.half_open_timeout:
            self._probes.popleft()
        if len(self._probes) >= self.settings.probes:
            raise CircuitOpen(self.name, self._probes[0] + self.settings.half_open_timeout - now)
        self._probes.append(now)

    def _record(self, generation: int, started_at: float, is_failure: bool | None) -> None:
        if generation != self._generation:
            self._late += 1
            return
        now = self._clock()
        if self._state == "half_open":
            self._record_probe(started_at, is_failure)
        elif self._state == "closed" and is_failure is not None:
            slow = self.settings.slow_call
            is_slow = 0 < slow <= now - started_at
            if self._window.add(now, is_failure, is_slow):
                self._open()

    def _record_probe(self, started_at: float, is_failure: bool | None) -> None:
        if started_at in self._probes:
            self._probes.remove(started_at)
        if is_failure:
            self._open()
        elif is_failure is not None:
            self._successes += 1
            if self._successes >= self.settings.success_threshold:
                self._open_count = 0
                self._move("closed")

    def _open(self) -> None:
        settings = self.settings
        period = min(
            settings.timeout_max,
            settings.timeout * settings.timeout_multiplier ** min(self._open_count, 64),
        )
        self._open_count += 1
        self._retry_at = self._clock() + period * (1 + settings.jitter * self._rng())
        self._move("open")

    def _move(self, state: str) -> None:
        old, self._state = self._state, state
        self._generation += 1
        self._window = _Window(self.settings)
        self._probes.clear()
        self._successes = 0
        if self._on_change is not None and old != state:
            try:
                self._on_change(old, state)
            except Exception:  # noqa: S110  # a listener's bug is not the circuit's
                pass

    def force_open(self) -> None:
        """Reject every call until `reset`."""
        self._move("forced_open")

    def disable(self) -> None:
        """Admit every call, whatever happens, until `reset`."""
        self._move("disabled")

    def reset(self) -> None:
        """Start over, closed."""
        self._open_count = 0
        self._move("closed")

    def restore(self, *, state: str, remaining_s: float, open_count: int) -> None:
        """Go on from what a forerunner reported."""
        self._open_count = open_count
        self._retry_at = self._clock() + remaining_s
        self._move("open" if state == "half_open" else state)

    def snapshot(self) -> BreakerSnapshot:
        """Show how it stands; changes nothing."""
        retry_at = self._retry_at if self._state == "open" else None
        retry_after = None if retry_at is None else max(0.0, retry_at - self._clock())
        return BreakerSnapshot(
            self.name, self._state, self._window.failures, retry_after, retry_at,
            self._generation, self._open_count, self._late,
        )  # fmt: skip

    async def call(
        self,
        func: Callable[..., Awaitable[T]],
        *args: Any,
        failure_if: Callable[[T], bool] | None = None,
        **kwargs: Any,
    ) -> T:
        """Await `func(...)` under the circuit. Raises: CircuitOpen, and what `func` raises."""
        permit = self.acquire()
        try:
            result = await func(*args, **kwargs)
        except asyncio.CancelledError:
            permit.ignore()
            raise
        except BaseException:
            permit.failure()
            raise
        if failure_if is not None and failure_if(result):
            permit.failure()
        else:
            permit.success()
        return result
