"""A gate whose circuit tries its provider out: one probe, and no dead end when it is lost."""

from __future__ import annotations

import pytest

from clarion.domain.outcome import Answer, Outcome
from clarion.policies.breaker import Breaker, Permit
from clarion.policies.breaker_settings import BreakerSettings
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.testing import ManualClock

KEY = ("n1", 1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    made = BreakerSettings(failure_threshold=1, jitter=0.0, timeout=60.0, half_open_timeout=30.0)
    return Breaker("p", made, clock=clock.monotonic, rng=lambda: 0.0)


@pytest.fixture
def gate(clock: ManualClock) -> Gate:
    return Gate("p", 8, TokenBucket(0.0, 1, clock.monotonic), is_known=True)


def report(breaker: Breaker, gate: Gate) -> None:
    """Tell the gate how the circuit stands, as the Breaker's report does."""
    snapshot = breaker.snapshot()
    gate.set_circuit(snapshot.state, snapshot.retry_at)


def send_probe(breaker: Breaker, gate: Gate, clock: ManualClock) -> Permit:
    """Open the circuit, wait, and let a probe through gate and breaker."""
    breaker.acquire().failure()
    report(breaker, gate)
    clock.advance(60.0)
    now = clock.monotonic()
    assert gate.opening(now).is_probe
    gate.reserve(1, 1, is_probe=True, now=now)
    assert gate.occupy(1, KEY, now=now)
    gate.release(1, now)
    permit = breaker.acquire()
    report(breaker, gate)
    return permit


def lose_probe(gate: Gate, clock: ManualClock) -> None:
    """Give its slot back, as the Queue does for a call without an answer."""
    gate.free(KEY, Answer(Outcome.UNKNOWN, "given_up"), clock.monotonic())


def test_a_lost_probe_never_leaves_the_gate_shut_for_ever(
    breaker: Breaker, gate: Gate, clock: ManualClock
) -> None:
    """Time alone opens it again, at an instant that the gate names, and the breaker agrees."""
    send_probe(breaker, gate, clock)
    lose_probe(gate, clock)

    opens_at = gate.opens_at(clock.monotonic())
    assert opens_at is not None
    clock.advance(opens_at - clock.monotonic())

    assert gate.opening(clock.monotonic()).n == 1
    breaker.acquire()


def test_a_lost_probe_is_not_followed_by_probes_that_the_breaker_refuses(
    breaker: Breaker, gate: Gate, clock: ManualClock
) -> None:
    """The slot is free, but the permit is out: each offer would come back, again and again."""
    send_probe(breaker, gate, clock)

    lose_probe(gate, clock)

    opening = gate.opening(clock.monotonic())
    assert (opening.n, opening.is_shut) == (0, True)
    assert "a probe is out" in opening.why


def test_after_a_good_probe_the_next_one_may_go(
    breaker: Breaker, gate: Gate, clock: ManualClock
) -> None:
    """Half-open with nothing out: one place, for a probe."""
    permit = send_probe(breaker, gate, clock)

    permit.success()
    report(breaker, gate)
    gate.free(KEY, Answer(Outcome.ACCEPTED, "ok"), clock.monotonic())

    opening = gate.opening(clock.monotonic())
    assert (opening.n, opening.is_probe) == (1, True)
