"""@retry around functions of one's own: what is tried again, when, what is raised in the end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

import clarion
from clarion.resilience import Breaker, RetryPlanned, retry
from clarion.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Sleeps:
    """A sleep that lets the clock pass instead, and remembers."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._clock.advance(seconds)


class Service:
    """Fails with the given errors, one a call, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.fixture
def sleeps(clock: ManualClock) -> Sleeps:
    return Sleeps(clock)


@pytest.fixture
def again(clock: ManualClock, sleeps: Sleeps) -> Callable[..., Any]:
    """Return `retry` without jitter, on the manual clock."""
    return functools.partial(
        retry, jitter=False, sleep=sleeps, clock=clock.monotonic, rng=lambda: 0.5
    )


async def test_it_tries_until_it_works(again: Any, sleeps: Sleeps) -> None:
    """Waits grow in between."""
    service = Service(ConnectionResetError(), TimeoutError())

    assert await again()(service)() == "done"
    assert service.calls == 3
    assert sleeps.seconds == [1.0, 2.0]


async def test_attempts_include_the_first(again: Any) -> None:
    """And the last original error is raised in the end, not a wrapper."""
    errors = [TimeoutError(str(n)) for n in range(5)]
    service = Service(*errors)

    with pytest.raises(TimeoutError) as caught:
        await again(max_attempts=3)(service)()

    assert service.calls == 3
    assert caught.value is errors[2]


async def test_what_will_not_pass_is_not_tried_again(again: Any) -> None:
    """A bug is raised at once."""
    service = Service(TypeError("a bug"))

    with pytest.raises(TypeError):
        await again()(service)()

    assert service.calls == 1


async def test_a_cancelled_call_is_never_retried(again: Any) -> None:
    """Not even where `retry_on` says yes to everything: a time-out must stop it."""
    service = Service(asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        await again(retry_on=lambda _error: True)(service)()

    assert service.calls == 1


@pytest.mark.parametrize("retry_on", [KeyError, (KeyError, OSError)], ids=["one", "several"])
async def test_classes_of_errors_may_be_named(again: Any, retry_on: Any) -> None:
    """A class is no predicate that says yes to everything."""
    asked_for, other = Service(KeyError()), Service(TypeError())

    assert await again(retry_on=retry_on)(asked_for)() == "done"
    with pytest.raises(TypeError):
        await again(retry_on=retry_on)(other)()


async def test_a_wish_of_the_server_is_honoured_within_its_cap(again: Any, sleeps: Sleeps) -> None:
    """`retry_after` of the exception is a floor, believed up to `retry_after_max`."""

    class Busy(ConnectionError):
        def __init__(self, retry_after: float) -> None:
            super().__init__()
            self.retry_after = retry_after

    service = Service(Busy(7.0), Busy(0.1), Busy(1e9))

    await again(max_attempts=4, retry_after_max=30.0)(service)()

    assert sleeps.seconds == [7.0, 2.0, 30.0]


async def test_it_does_not_sleep_towards_a_deadline_it_would_miss(
    again: Any, sleeps: Sleeps
) -> None:
    """The total `timeout` is looked at before sleeping, a server's wish included."""
    service = Service(*(TimeoutError(str(n)) for n in range(9)))

    with pytest.raises(TimeoutError, match="2"):
        await again(max_attempts=9, timeout=7.0)(service)()

    assert sleeps.seconds == [1.0, 2.0]


async def test_an_open_circuit_ends_the_retrying(again: Any) -> None:
    """It is not retried in place; the error that opened it is its cause."""
    errors = [TimeoutError(str(n)) for n in range(5)]
    service = Service(*errors)
    breaker = Breaker("retried", failure_threshold=2)

    with pytest.raises(clarion.CircuitOpen) as caught:
        await again(max_attempts=5, breaker=breaker, retry_on=lambda _error: True)(service)()

    assert service.calls == 2
    assert caught.value.__cause__ is errors[1]


async def test_each_attempt_is_one_call_to_the_circuit(again: Any) -> None:
    """Not the whole of them: two failures are two."""
    breaker = Breaker("attempted")
    service = Service(*(TimeoutError() for _ in range(2)))

    with pytest.raises(TimeoutError):
        await again(breaker=breaker, max_attempts=2)(service)()
    after_failures = breaker.snapshot().failures
    await again(breaker=breaker)(service)()

    assert (after_failures, breaker.snapshot().failures) == (2, 0)


async def test_listeners_hear_of_each_wait_and_may_raise(again: Any) -> None:
    """What they raise is logged."""
    heard: list[RetryPlanned] = []
    error = TimeoutError()

    def hear(planned: RetryPlanned) -> None:
        heard.append(planned)
        raise RuntimeError("a bug of the listener")

    async def charge() -> str:
        return await service()

    service = Service(error)
    result = await again(on_retry=hear)(charge)()

    assert result == "done"
    assert [(h.attempt, h.error, h.delay_s) for h in heard] == [(1, error, 1.0)]
    assert heard[0].function.endswith("charge")


async def test_concurrent_calls_share_no_back_off(again: Any, sleeps: Sleeps) -> None:
    """Each call begins with the first delay."""
    services = [Service(TimeoutError(), TimeoutError()) for _ in range(3)]

    @again()
    async def run(service: Service) -> str:
        return await service()

    results = await asyncio.gather(*(run(each) for each in services))

    assert results == ["done"] * 3
    assert sorted(sleeps.seconds) == [1.0] * 3 + [2.0] * 3


async def test_jitter_is_the_default(sleeps: Sleeps, clock: ManualClock) -> None:
    """Waits are drawn from all of 0 to the ceiling."""
    service = Service(TimeoutError(), TimeoutError())
    tried = retry(sleep=sleeps, clock=clock.monotonic, rng=lambda: 0.25)

    await tried(service)()

    assert sleeps.seconds == [0.25, 0.5]


def test_a_function_keeps_its_name_and_docstring() -> None:
    """A decorated function is still found in tracebacks and help."""

    @retry()
    async def charge() -> None:
        """Charge a card."""

    assert charge.__name__ == "charge"
    assert charge.__doc__ == "Charge a card."


def test_a_function_that_is_not_async_is_refused_when_decorated() -> None:
    """It would block the loop while it waits, or not be retried at all."""
    with pytest.raises(TypeError, match=r"charge must be an async function"):

        @retry()  # type: ignore[arg-type]
        def charge() -> None: ...


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"multiplier": 0.5}, {"initial_delay": -1}, {"timeout": 0}]
)
def test_a_wrong_setting_of_retry_is_refused_when_decorated(wrong: dict[str, Any]) -> None:
    """Not at the first failure, weeks later."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        retry(**wrong)
