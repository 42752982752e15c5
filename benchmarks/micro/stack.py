"""Resilience around an async function that does nothing: breaker, retry, and all of it at once.

pybreaker does not see the failures of async functions: its case calls a plain one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiobreaker
import circuitbreaker
import hyx.bulkhead
import hyx.circuitbreaker
import hyx.retry
import hyx.timeout
import purgatory
import pybreaker
import stamina
import tenacity

import clarion
from benchmarks.micro.case import OURS, Case, Group, Repeat, awaiting

FAILURES = 5
OPEN_S = 60.0
ATTEMPTS = 3
SLOTS = 32
TIMEOUT_S = 10.0

Call = Callable[[], Awaitable[object]]


class Passing(Exception):
    """An error that the next attempt does not have."""


async def work() -> int:
    """Do nothing, asynchronously."""
    return 1


def plain_work() -> int:
    """Do nothing."""
    return 1


def flaky() -> Call:
    """Return a function whose every other call fails: each is done at the second attempt."""
    calls = 0

    async def attempt() -> int:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise Passing
        return calls

    return attempt


async def no_wait(_seconds: float) -> None:
    """Wait for nothing: the code around the wait is what is measured."""


def our_breaker() -> clarion.Breaker:
    """Return a closed circuit of ours."""
    return clarion.Breaker("bench", failure_threshold=FAILURES, timeout=OPEN_S)


def their_breaker() -> aiobreaker.CircuitBreaker:
    """Return a closed circuit of aiobreaker's."""
    return aiobreaker.CircuitBreaker(FAILURES, timedelta(seconds=OPEN_S))


def limited(call: Call) -> Call:
    """Return it behind a semaphore and a time-out, as the standard library has them."""
    slots = asyncio.Semaphore(SLOTS)

    async def guarded() -> object:
        async with slots, asyncio.timeout(TIMEOUT_S):
            return await call()

    return guarded


# --- breakers --------------------------------------------------------------------------------


def _our_circuit() -> Call:
    breaker = our_breaker()
    return lambda: breaker.call(work)


def _aiobreaker() -> Call:
    breaker = their_breaker()
    return lambda: breaker.call_async(work)


def _circuitbreaker() -> Call:
    decorated: Call = circuitbreaker.circuit(FAILURES, OPEN_S)(work)
    return decorated


@asynccontextmanager
async def _purgatory() -> AsyncIterator[Repeat]:
    factory = purgatory.AsyncCircuitBreakerFactory(FAILURES, OPEN_S)
    await factory.initialize()
    breaker = await factory.get_breaker("bench")

    async def repeat(count: int) -> None:
        for _ in range(count):
            async with breaker:
                await work()

    yield repeat


@asynccontextmanager
async def _pybreaker() -> AsyncIterator[Repeat]:
    breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=int(OPEN_S))

    async def repeat(count: int) -> None:
        for _ in range(count):
            breaker.call(plain_work)

    yield repeat


# --- retries ---------------------------------------------------------------------------------


def _our_retry(call: Call) -> Call:
    return clarion.retry(max_attempts=ATTEMPTS, retry_on=Passing, sleep=no_wait)(call)


def _stamina(call: Call) -> Call:
    decorated: Call = stamina.retry(
        on=Passing, attempts=ATTEMPTS, wait_initial=0, wait_jitter=0, wait_max=0
    )(call)
    return decorated


def _tenacity(call: Call) -> Call:
    decorated: Call = tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        retry=tenacity.retry_if_exception_type(Passing),
        sleep=no_wait,
        reraise=True,
    )(call)
    return decorated


# --- all of it -------------------------------------------------------------------------------


def _our_stack() -> Call:
    guarded = limited(work)
    return clarion.retry(max_attempts=ATTEMPTS, breaker=our_breaker())(guarded)


def _assembled_stack() -> Call:
    breaker, guarded = their_breaker(), limited(work)

    async def attempt() -> object:
        return await breaker.call_async(guarded)

    return _tenacity(attempt)


def _hyx_stack() -> Call:
    call: Any = hyx.timeout.timeout(TIMEOUT_S)(work)
    call = hyx.bulkhead.bulkhead(SLOTS, SLOTS * 2)(call)
    call = hyx.circuitbreaker.consecutive_breaker(
        exceptions=(Passing,), failure_threshold=FAILURES, recovery_time_secs=OPEN_S,
        recovery_threshold=2,
    )(call)  # fmt: skip
    stacked: Call = hyx.retry.retry(on=Passing, attempts=ATTEMPTS)(call)
    return stacked


GROUPS = (
    Group(
        "one call through a closed breaker",
        (
            awaiting(OURS, _our_circuit),
            awaiting("aiobreaker", _aiobreaker),
            awaiting("circuitbreaker", _circuitbreaker),
            Case("purgatory", _purgatory),
            Case("pybreaker (not async)", _pybreaker),
            awaiting("none at all", lambda: work),
        ),
    ),
    Group(
        "one retried call that succeeds at once",
        (
            awaiting(OURS, lambda: _our_retry(work)),
            awaiting("stamina", lambda: _stamina(work)),
            awaiting("tenacity", lambda: _tenacity(work)),
        ),
    ),
    Group(
        "one retried call that succeeds at the second attempt, without the wait",
        (
            awaiting(OURS, lambda: _our_retry(flaky())),
            awaiting("stamina", lambda: _stamina(flaky())),
            awaiting("tenacity", lambda: _tenacity(flaky())),
        ),
    ),
    Group(
        "retry, breaker, bulkhead and time-out around one call",
        (
            awaiting(OURS, _our_stack),
            awaiting("tenacity + aiobreaker", _assembled_stack),
            awaiting("hyx", _hyx_stack),
        ),
    ),
)
