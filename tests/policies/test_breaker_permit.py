"""Permits settle once, and listeners hear of changes that were made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from clarion.errors import CircuitOpen
from clarion.policies.breaker import Breaker, Permit
from clarion.testing import ManualClock

TIMEOUT_S = 60.0

Make = Callable[..., Breaker]


def state(breaker: Breaker) -> str:
    return breaker.snapshot().state


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.acquire().failure()


def half_open(breaker: Breaker, clock: ManualClock) -> Permit:
    """Fail it open, wait, and return its first probe."""
    fail(breaker, breaker.settings.failure_threshold)
    clock.advance(TIMEOUT_S)
    return breaker.acquire()


def throw(error: BaseException | None) -> None:
    if error is not None:
        raise error


# --- permits -------------------------------------------------------------------------------------


def test_a_permit_settles_once(make: Make) -> None:
    """Later calls change nothing."""
    breaker = make(failure_threshold=2)
    permit = breaker.acquire()

    counted = [permit.success(), permit.failure(), permit.failure(), permit.release()]

    assert counted == [True, False, False, False]
    assert breaker.snapshot().failures == 0


def test_a_permit_of_another_circuit_changes_nothing(make: Make) -> None:
    """After a crash the old instance's calls still end; they are late for the new one."""
    old, new = make(failure_threshold=1), make(failure_threshold=1)

    counted = new.settle(old.acquire(), "failure")

    assert not counted
    assert (state(old), state(new)) == ("closed", "closed")


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (None, 0),
        (OSError(), 1),
        (CircuitOpen("inner", 1.0), 0),
        (asyncio.CancelledError(), 0),
        (KeyboardInterrupt(), 0),
        (SystemExit(), 0),
    ],
)
def test_a_block_settles_its_permit(make: Make, error: BaseException | None, failures: int) -> None:
    """Errors count, cancellation and exits do not; all of them pass through."""
    breaker = make()
    passed: BaseException | None = None

    try:
        with breaker.acquire() as permit:
            throw(error)
    except BaseException as caught:
        passed = caught

    assert passed is error
    assert breaker.snapshot().failures == failures
    assert not permit.failure()


def test_cancellations_never_open_it(make: Make) -> None:
    """A caller that gives up says nothing about the service."""
    breaker = make(failure_threshold=3)

    for _ in range(10):
        with pytest.raises(asyncio.CancelledError), breaker.acquire():
            raise asyncio.CancelledError

    assert state(breaker) == "closed"


# --- listeners -----------------------------------------------------------------------------------


def test_listeners_hear_each_change_once_after_it_was_made(make: Make, clock: ManualClock) -> None:
    """What a listener sees is the state it was told of."""
    heard: list[tuple[str, str, str]] = []
    breaker: Breaker = make(
        success_threshold=1,
        on_change=lambda old, new: heard.append((old, new, state(breaker))),
    )

    half_open(breaker, clock).success()
    breaker.reset()

    assert heard == [
        ("closed", "open", "open"),
        ("open", "half_open", "half_open"),
        ("half_open", "closed", "closed"),
    ]


def test_a_listener_that_raises_does_no_harm(make: Make) -> None:
    """Neither to the state nor to the caller."""

    def burst(_old: str, _new: str) -> None:
        raise RuntimeError("a bug of the listener")

    breaker = make(failure_threshold=1, on_change=burst)

    fail(breaker)

    assert state(breaker) == "open"


def test_a_listener_that_moves_the_circuit_does_not_corrupt_it(
    make: Make, clock: ManualClock
) -> None:
    """It acts on a finished transition; a probe that it overtakes is late."""
    breaker: Breaker

    def veto(_old: str, new: str) -> None:
        if new == "half_open":
            breaker.force_open()

    breaker = make(success_threshold=1, on_change=veto)

    counted = half_open(breaker, clock).success()

    assert not counted
    assert state(breaker) == "forced_open"
