"""Breaker and BreakerRegistry around functions of one's own."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import clarion
from clarion.resilience import Breaker, BreakerRegistry, retry
from clarion.telemetry.metrics import Metrics
from clarion.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock, request: pytest.FixtureRequest) -> Callable[..., Breaker]:
    """Return what makes a breaker with metrics of its own: named after the test."""

    def build(**wishes: Any) -> Breaker:
        return Breaker(
            request.node.name, clock=clock.monotonic, rng=lambda: 0.0, **{"jitter": 0.0, **wishes}
        )

    return build


async def fine(word: str = "fine") -> str:
    return word


async def reset() -> str:
    raise ConnectionResetError("reset by peer")


async def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionResetError):
            await breaker.call(reset)


def shown(name: str, breaker: Breaker) -> float:
    """Return a metric of the breaker as `/metrics` would show it."""
    text = Metrics().render()[0].decode()
    start = f'circuit_breaker_{name}{{name="{breaker.name}"}} '
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(start))


# --- Breaker -------------------------------------------------------------------------------------


def test_the_names_are_public() -> None:
    """`import clarion` is enough."""
    assert clarion.Breaker is Breaker
    assert clarion.BreakerRegistry is BreakerRegistry
    assert clarion.retry is retry
    assert clarion.is_transient(TimeoutError())
    assert clarion.metrics.__name__ == "clarion.telemetry.metrics"


async def test_a_call_returns_what_the_function_returns(make: Callable[..., Breaker]) -> None:
    """Arguments go through, those by keyword, too."""
    breaker = make()

    assert await breaker.call(fine, "one") == "one"
    assert await breaker.call(fine, word="two") == "two"


async def test_async_failures_do_open_it(make: Callable[..., Breaker]) -> None:
    """The coroutine is awaited under the circuit, not merely created."""
    breaker = make(failure_threshold=3)
    calls = 0

    async def count() -> None:
        nonlocal calls
        calls += 1

    await fail(breaker, 3)
    with pytest.raises(clarion.CircuitOpen) as caught:
        await breaker.call(count)

    assert caught.value.retry_after == pytest.approx(60.0)
    assert calls == 0


@pytest.mark.parametrize(
    "func",
    [lambda: fine("made"), functools.partial(fine, "made"), lambda: "made"],
    ids=["returns a coroutine", "partial", "plain"],
)
async def test_whatever_can_be_called_is_called(
    make: Callable[..., Breaker], func: Callable[[], Awaitable[str]]
) -> None:
    """Async functions, functions that return an awaitable, and plain ones."""
    assert await make().call(func) == "made"


async def test_a_result_can_count_as_a_failure(make: Callable[..., Breaker]) -> None:
    """`failure_if` judges the result, which is returned all the same."""
    breaker = make(failure_threshold=1)

    result = await breaker.call(fine, "503", failure_if=lambda word: word == "503")

    assert result == "503"
    assert breaker.snapshot().state == "open"


async def test_a_judgement_that_raises_counts_as_a_failure(make: Callable[..., Breaker]) -> None:
    """What `failure_if` raises is raised, and the permit is settled all the same."""

    def judge(_word: str) -> bool:
        raise ValueError("not an answer of this service")

    breaker = make()

    with pytest.raises(ValueError, match="not an answer"):
        await breaker.call(fine, failure_if=judge)

    assert breaker.snapshot().failures == 1


async def test_what_is_ignored_says_nothing(make: Callable[..., Breaker]) -> None:
    """An invalid request is not the service's failure; a bug in the predicate hides nothing."""

    def is_ours(error: Exception) -> bool:
        if isinstance(error, ConnectionResetError):
            raise RuntimeError("a bug of the predicate")
        return isinstance(error, ValueError)

    async def refuse() -> None:
        raise ValueError("no such card")

    breaker = make(ignore=is_ours)
    with pytest.raises(ValueError, match="no such card"):
        await breaker.call(refuse)
    before = breaker.snapshot().failures
    await fail(breaker, 1)

    assert (before, breaker.snapshot().failures) == (0, 1)


async def test_a_cancelled_probe_does_not_close_it(
    make: Callable[..., Breaker], clock: ManualClock
) -> None:
    """The caller gave up: the slot is free again, and nothing was learnt."""
    breaker = make(failure_threshold=1, success_threshold=1)
    await fail(breaker, 1)
    clock.advance(60.0)
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    probe = asyncio.create_task(breaker.call(hang))
    await began.wait()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    after_cancel = breaker.snapshot().state
    await breaker.call(fine)

    assert (after_cancel, breaker.snapshot().state) == ("half_open", "closed")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_exit_passes_through_and_counts_for_nothing(
    make: Callable[..., Breaker], error: type[BaseException]
) -> None:
    """The process ends; its services are not to blame."""
    breaker = make(failure_threshold=1)

    with pytest.raises(error), breaker.acquire():
        raise error

    assert breaker.snapshot().state == "closed"


async def test_calls_are_not_serialised(make: Callable[..., Breaker]) -> None:
    """Nothing is held while the function runs: six calls meet inside it."""
    breaker = make()
    together = asyncio.Barrier(6)

    async with asyncio.timeout(10):
        await asyncio.gather(*(breaker.call(together.wait) for _ in range(6)))

    assert breaker.snapshot().state == "closed"


async def test_it_feeds_the_metrics(make: Callable[..., Breaker], clock: ManualClock) -> None:
    """Rejected, succeeded, failed, and the state; second and late results are not counted."""
    breaker = make(failure_threshold=2, success_threshold=1)
    at_first = [shown(name, breaker) for name in ("open_total", "failure_total", "state")]

    await breaker.call(fine)
    late = breaker.acquire()
    await fail(breaker, 2)
    with pytest.raises(clarion.CircuitOpen):
        await breaker.call(fine)
    late.failure()
    late.success()
    while_open = shown("state", breaker)
    clock.advance(60.0)
    probe = breaker.acquire()
    half_open = shown("state", breaker)
    probe.success()

    assert at_first == [0, 0, 0]
    assert (while_open, half_open, shown("state", breaker)) == (2, 1, 0)
    assert shown("open_total", breaker) == 1
    assert shown("success_total", breaker) == 2
    assert shown("failure_total", breaker) == 2


async def test_a_failing_listener_is_logged_and_does_no_harm(
    make: Callable[..., Breaker],
) -> None:
    """The gauge is set all the same."""

    def burst(_old: str, _new: str) -> None:
        raise RuntimeError("a bug of the listener")

    breaker = make(failure_threshold=1, on_change=burst)

    await fail(breaker, 1)

    assert breaker.snapshot().state == "open"
    assert shown("state", breaker) == 2


def test_a_wrong_setting_is_refused_at_once() -> None:
    """By name and value; an unknown one as Python does."""
    with pytest.raises(ValueError, match=r"failure_threshold must be .* not 0"):
        Breaker("wrong", failure_threshold=0)
    with pytest.raises(TypeError, match="treshold"):
        Breaker("wrong", failure_treshold=5)


# --- BreakerRegistry -----------------------------------------------------------------------------


def test_one_name_is_one_breaker() -> None:
    """With the same settings or with none; also listed and counted."""
    registry = BreakerRegistry()

    first = registry.get("stripe", failure_threshold=3)

    assert registry.get("stripe") is first
    assert registry.get("stripe", failure_threshold=3) is first
    assert "stripe" in registry and "adyen" not in registry
    assert list(registry) == [first]
    assert len(registry) == 1


def test_other_settings_for_a_known_name_are_an_error() -> None:
    """One of two callers would otherwise not get what it asked for."""
    registry = BreakerRegistry()
    registry.get("stripe", failure_threshold=3)

    with pytest.raises(ValueError, match="'stripe' was made with failure_threshold=3, not 5"):
        registry.get("stripe", failure_threshold=5)


def test_a_registry_does_not_grow_without_bound() -> None:
    """A name made of input is found out before it fills memory and metrics."""
    registry = BreakerRegistry(limit=2)
    registry.get("one")
    registry.get("two")

    with pytest.raises(ValueError, match="2 breakers"):
        registry.get("three")
    assert registry.get("one").name == "one"


def test_a_refused_setting_leaves_no_breaker_behind() -> None:
    """The next one may be made as it should be."""
    registry = BreakerRegistry()
    with pytest.raises(ValueError, match="timeout"):
        registry.get("stripe", timeout=0)

    assert "stripe" not in registry


async def test_a_registry_hears_of_all_its_breakers(clock: ManualClock) -> None:
    """By name, old and new state."""
    heard: list[tuple[str, str, str]] = []
    registry = BreakerRegistry(
        clock=clock.monotonic, on_change=lambda *change: heard.append(change)
    )

    await fail(registry.get("a", failure_threshold=1), 1)
    registry.get("b").force_open()

    assert heard == [("a", "closed", "open"), ("b", "closed", "forced_open")]
