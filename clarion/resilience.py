"""Resilience for code of your own, with nothing else of Clarion running.

::

    breakers = BreakerRegistry()
    stripe = breakers.get("stripe", failure_threshold=5, timeout=60)

    @retry(max_attempts=3, breaker=stripe)          # retry ── breaker ── your time-out ── the call
    async def charge(order): ...

    await stripe.call(charge_once, order)            # or without retries
    with stripe.acquire() as permit: ...             # or around any block

Each attempt is one call to the circuit, and an open circuit ends the retrying: falling back is the
caller's next step. The state machine is `policies.breaker`; here it feeds the metrics.

A breaker decides between two awaits and takes no lock: use one from one event loop (or thread).
Only `BreakerRegistry.get` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import structlog

from clarion.errors import CircuitOpen
from clarion.policies import breaker as circuit
from clarion.policies.breaker import CircuitState, OnChange, Permit, Result
from clarion.policies.breaker_settings import BreakerSettings
from clarion.policies.clock import SystemClock
from clarion.policies.requirement import require_count, require_seconds
from clarion.policies.retry import RetrySettings, delay_s
from clarion.policies.transient import is_transient
from clarion.telemetry import metrics

__all__ = ["Breaker", "BreakerRegistry", "Permit", "RetryPlanned", "is_transient", "retry"]

log = structlog.get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

_clock = SystemClock.monotonic
_rng = random.Random().random  # noqa: S311 - spreads waits, keeps no secrets
_STATE_NUMBER: dict[CircuitState, int] = {
    "closed": 0, "disabled": 0, "half_open": 1, "open": 2, "forced_open": 2,
}  # fmt: skip


class Breaker(circuit.Breaker):
    """A circuit around something that fails; `settings` are those of `[providers.NAME.breaker]`.

    `probes` calls may be out while half-open. `clock` gives monotonic seconds, `rng` numbers in
    [0, 1). `on_change(old, new)` hears of each change of state after it was made; what it raises is
    logged. `ignore(error)` names exceptions that say nothing about the service: an invalid request,
    say. Cancellation and the rejections of other circuits never do. `name` is the label of its
    metrics, so names must not come from input. Raises: ValueError for settings that cannot work.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Callable[[], float] = _clock,
        rng: Callable[[], float] = _rng,
        on_change: Callable[[str, str], object] | None = None,
        ignore: Callable[[Exception], bool] | None = None,
        **settings: Any,
    ) -> None:
        hear = _hearing(name, on_change)
        super().__init__(name, BreakerSettings(**settings), clock=clock, rng=rng, on_change=hear)
        self._ignore = ignore
        metrics.circuit_state(name, _STATE_NUMBER["closed"])

    def _on_rejected(self) -> None:
        metrics.circuit_rejected(self.name)

    def _on_counted(self, result: Result) -> None:
        if result == "success":
            metrics.circuit_succeeded(self.name)
        elif result == "failure":
            metrics.circuit_failed(self.name)

    def result_of(self, error: BaseException | None) -> Result:
        """Say what a call that ended with `error` (None: plainly) came to."""
        result = super().result_of(error)
        if result == "failure" and isinstance(error, Exception) and self._ignores(error):
            return "ignored"
        return result

    def _ignores(self, error: Exception) -> bool:
        try:
            return self._ignore is not None and self._ignore(error)
        except Exception:  # the boundary to the predicate: its bug must not hide `error`
            log.exception("breaker_predicate_failed", breaker=self.name)
            return False

    async def call(
        self,
        func: Callable[..., Awaitable[T] | T],
        /,
        *args: Any,
        failure_if: Callable[[T], bool] | None = None,
        **kwargs: Any,
    ) -> T:
        """Await `func(*args, **kwargs)` under the circuit and return its result.

        An exception is a failure, and so is a result for which `failure_if` is true (it is returned
        all the same). A time-out that is to count belongs inside `func`: one around this call is
        the caller's cancellation. Raises: CircuitOpen, before `func` is called; what `func` raises.
        """
        permit = self.acquire()
        try:
            result = func(*args, **kwargs)
            value: T = await result if inspect.isawaitable(result) else result
            is_failure = failure_if is not None and failure_if(value)
        except BaseException as error:  # whatever ends the call: its permit is settled
            self.settle(permit, self.result_of(error))
            raise
        self.settle(permit, "failure" if is_failure else "success")
        return value


def _hearing(name: str, on_change: Callable[[str, str], object] | None) -> OnChange:
    def changed(old: CircuitState, new: CircuitState) -> None:
        metrics.circuit_state(name, _STATE_NUMBER[new])
        if on_change is None:
            return
        try:
            on_change(old, new)
        except Exception:  # the boundary to the listener: its bug is not the circuit's
            log.exception("breaker_listener_failed", breaker=name, old=old, new=new)

    return changed


class BreakerRegistry:
    """The breakers of a process by name, each made at its first use.

    `limit` bounds their number: names belong to configuration, and one that carries input would
    fill memory and metrics. `on_change(name, old, new)` hears of every breaker's changes.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = _clock,
        rng: Callable[[], float] = _rng,
        on_change: Callable[[str, str, str], object] | None = None,
        limit: int = 1000,
    ) -> None:
        require_count("limit", limit)
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._limit = limit
        self._breakers: dict[str, Breaker] = {}
        self._lock = Lock()

    def get(self, name: str, **settings: Any) -> Breaker:
        """Return the breaker of that name, made with `settings` if there is none.

        Raises: ValueError for settings that cannot work or that differ from those it was made
        with (the ones not named may be anything), and when there are `limit` breakers already.
        """
        with self._lock:
            breaker = self._breakers.get(name)
            if breaker is None:
                breaker = self._breakers[name] = self._make(name, settings)
        self._require_same(breaker, settings)
        return breaker

    def _make(self, name: str, settings: dict[str, Any]) -> Breaker:
        if len(self._breakers) >= self._limit:
            raise ValueError(f"there are {self._limit} breakers already, none is left for {name!r}")
        hear = None if self._on_change is None else functools.partial(self._on_change, name)
        return Breaker(name, clock=self._clock, rng=self._rng, on_change=hear, **settings)

    def _require_same(self, breaker: Breaker, settings: dict[str, Any]) -> None:
        made_with = asdict(breaker.settings)
        asked_for = asdict(BreakerSettings(**{**made_with, **settings}))
        for key, value in asked_for.items():
            if value != made_with[key]:
                raise ValueError(
                    f"the breaker {breaker.name!r} was made with {key}={made_with[key]!r}, not"
                    f" {value!r}: use another name, or the same settings everywhere"
                )

    def __contains__(self, name: object) -> bool:
        return name in self._breakers

    def __iter__(self) -> Iterator[Breaker]:
        return iter(list(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)


@dataclass(frozen=True, slots=True)
class RetryPlanned:
    """What `on_retry` hears before each wait."""

    function: str
    attempt: int
    """The attempt that failed; 1 is the first."""
    error: Exception
    delay_s: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the calls of one decorated function share: nothing that changes."""

    settings: RetrySettings
    timeout_s: float | None
    breaker: Breaker | None
    retry_on: Callable[[Exception], bool]
    on_retry: Callable[[RetryPlanned], object] | None
    sleep: Callable[[float], Awaitable[object]]
    clock: Callable[[], float]
    rng: Callable[[], float]


def retry(
    *,
    max_attempts: int = 3,
    initial_delay: float = 1.0,
    multiplier: float = 2.0,
    jitter: bool = True,
    max_delay: float = 60.0,
    retry_after_max: float = 60.0,
    timeout: float | None = None,
    breaker: Breaker | None = None,
    retry_on: Callable[[Exception], bool] | type[Exception] | tuple[type[Exception], ...] = (
        is_transient
    ),
    on_retry: Callable[[RetryPlanned], object] | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    clock: Callable[[], float] = _clock,
    rng: Callable[[], float] = _rng,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Call an async function again when it fails in a way that may pass.

    `max_attempts` includes the first. The wait after attempt k is drawn from 0 to
    min(max_delay, initial_delay * multiplier**(k-1)) seconds (`jitter` false: exactly that), and is
    at least the exception's `retry_after` (seconds, believed up to `retry_after_max`). No attempt
    begins `timeout` seconds after the call (None: no limit); a running one is not cut off, which is
    for a time-out inside the function. `retry_on` is a predicate, an exception class or several;
    cancellation and an open circuit are never retried. Each attempt passes `breaker`, if there is
    one. `on_retry` hears a `RetryPlanned`; what it raises is logged.

    The last original exception is raised in the end, CircuitOpen where the breaker refuses. Raises
    at once: TypeError for a function that is not async, ValueError for settings that cannot work.
    """
    if timeout is not None:
        require_seconds("timeout", timeout)
    settings = RetrySettings(
        max_attempts=max_attempts, initial_delay=initial_delay, multiplier=multiplier,
        max_delay=max_delay, jitter=jitter, retry_after_max=retry_after_max,
    )  # fmt: skip
    predicate = _predicate(retry_on)
    plan = _Plan(settings, timeout, breaker, predicate, on_retry, sleep, clock, rng)

    def decorate(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        name = _require_async(func)

        @functools.wraps(func)
        async def retrying(*args: P.args, **kwargs: P.kwargs) -> T:
            return await _attempt(plan, name, functools.partial(func, *args, **kwargs))

        return retrying

    return decorate


def _predicate(
    retry_on: Callable[[Exception], bool] | type[Exception] | tuple[type[Exception], ...],
) -> Callable[[Exception], bool]:
    # A class is callable, too: taken for a predicate it would say yes to everything.
    if isinstance(retry_on, type | tuple):
        return lambda error: isinstance(error, retry_on)
    return retry_on


def _require_async(func: Callable[..., object]) -> str:
    name = getattr(func, "__qualname__", repr(func))
    if not (
        inspect.iscoroutinefunction(func)
        or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004
    ):
        raise TypeError(
            f"@retry waits without blocking, so {name} must be an async function: wrap it with"
            " asyncio.to_thread if it cannot be one"
        )
    return str(name)


async def _attempt(plan: _Plan, name: str, call: Callable[[], Awaitable[T]]) -> T:
    began = plan.clock()
    attempt, last = 1, None
    while True:
        try:
            return await (call() if plan.breaker is None else plan.breaker.call(call))
        except CircuitOpen as refusal:
            raise refusal from (refusal.__cause__ or last)
        except Exception as error:  # the boundary to the function: `retry_on` decides
            wait_s = _wait_s(plan, attempt, error, plan.clock() - began)
            if wait_s is None:
                raise
            last = error
        _tell(plan, RetryPlanned(name, attempt, last, wait_s))
        await plan.sleep(wait_s)
        attempt += 1


def _wait_s(plan: _Plan, attempt: int, error: Exception, elapsed_s: float) -> float | None:
    if attempt >= plan.settings.max_attempts or not plan.retry_on(error):
        return None
    wait_s = delay_s(plan.settings, attempt, plan.rng, _retry_after_s(error))
    if plan.timeout_s is not None and elapsed_s + wait_s >= plan.timeout_s:
        return None
    return wait_s


def _retry_after_s(error: Exception) -> float | None:
    wish = getattr(error, "retry_after", None)
    is_number = isinstance(wish, int | float) and not isinstance(wish, bool)
    return wish if is_number else None


def _tell(plan: _Plan, planned: RetryPlanned) -> None:
    if plan.on_retry is None:
        return
    try:
        plan.on_retry(planned)
    except Exception:  # the boundary to the listener: its bug must not stop the retrying
        log.exception("retry_listener_failed", function=planned.function, attempt=planned.attempt)
