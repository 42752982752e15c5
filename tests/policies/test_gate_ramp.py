"""Slow start: after its recovery a provider is not met by a stampede."""

from __future__ import annotations

from typing import Any

import pytest

from clarion.domain.outcome import Answer, Outcome
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket

NOW = 1000.0


def make_gate(*, slots: int = 4, **fields: Any) -> Gate:
    return Gate("p", slots, TokenBucket(0.0, 1, lambda: NOW), is_known=True, **fields)


def test_after_its_recovery_it_starts_with_one_call_and_grows_by_one_with_each_success() -> None:
    """Never by the clock; at all its slots the ramp is over."""
    gate = make_gate(circuit="half_open", slots=4)
    gate.set_circuit("closed", None)

    limits = []
    for number in range(4):
        limits.append((gate.limit, gate.opening(NOW + 1e6).n))
        gate.in_flight["n", number] = False
        gate.free(("n", number), Answer(Outcome.ACCEPTED, "ok"), NOW)

    assert limits == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert not gate.is_ramping


@pytest.mark.parametrize(
    ("outcome", "window"),
    [
        (Outcome.ACCEPTED, 6),
        (Outcome.RECIPIENT, 6),
        (Outcome.PERMANENT, 6),
        (Outcome.TRANSIENT, 2),
        (Outcome.UNKNOWN, 2),
        (Outcome.THROTTLED, 5),
        (Outcome.MISCONFIGURED, 5),
        (Outcome.REFUSED, 5),
        (Outcome.RECALLED, 5),
    ],
)
def test_each_outcome_moves_the_ramp_as_it_moves_the_breaker(outcome: Outcome, window: int) -> None:
    """Plus one, half, or nothing."""
    gate = make_gate(slots=32, window=5, in_flight={("n1", 1): False})

    gate.free(("n1", 1), Answer(outcome, "test"), NOW)

    assert gate.window == window


def test_failures_leave_one_place_at_least() -> None:
    """Otherwise it would never see a success again."""
    gate = make_gate(window=1, in_flight={("n1", 1): False})

    gate.free(("n1", 1), Answer(Outcome.TRANSIENT, "500"), NOW)

    assert gate.window == 1


@pytest.mark.parametrize(("old", "new"), [("closed", "disabled"), ("disabled", "closed")])
def test_a_circuit_that_let_everything_through_before_does_not_ramp(old: str, new: str) -> None:
    """Switching a breaker off or on again is no recovery."""
    gate = make_gate(circuit=old)

    gate.set_circuit(new, None)

    assert not gate.is_ramping


def test_a_provider_of_one_slot_has_nothing_to_ramp() -> None:
    """Its only slot is the first step."""
    gate = make_gate(slots=1, circuit="open")

    gate.set_circuit("closed", None)

    assert not gate.is_ramping
