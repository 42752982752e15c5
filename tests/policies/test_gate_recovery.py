"""What a gate makes of late, lost and repeated news."""

from __future__ import annotations

import pytest

from clarion.domain.outcome import Answer, Outcome
from clarion.policies.gate import HEALTH_PATIENCE_S, Gate
from clarion.policies.rate_limit import TokenBucket

NOW = 1000.0


def make_gate(slots=2, per_second=0.0):
    return Gate("p", slots, TokenBucket(per_second, 1, lambda: NOW), is_known=True)


def take(gate, n, *, demand=1, now=NOW):
    """Take `n` slots in one Demand."""
    gate.reserve(demand, n, is_probe=False, now=now)
    keys = [(f"{demand}-{number}", 1) for number in range(n)]
    assert all(gate.occupy(demand, key, now=now) for key in keys)
    gate.release(demand, now)
    return keys


def test_a_probe_takes_no_slot_that_is_not_there():
    """Calls from before the circuit opened may still hang: the bulkhead holds for probes too."""
    gate = make_gate()
    keys = take(gate, 2)
    gate.set_circuit("half_open", None)

    full = gate.opening(NOW)
    gate.free(keys[0], Answer(Outcome.UNKNOWN, "timeout"), NOW)
    opening = gate.opening(NOW)

    assert (full.n, full.is_shut, full.why) == (0, True, "its slots are taken by calls of before")
    assert (opening.n, opening.is_probe) == (1, True)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_call_that_never_left_gives_its_token_back(outcome):
    """The provider counts all others."""
    gate = make_gate(per_second=0.001)
    (key,) = take(gate, 1)

    gate.free(key, Answer(outcome, "x"), NOW)

    never_left = outcome in (Outcome.REFUSED, Outcome.RECALLED)
    assert gate.bucket.available(NOW) == int(never_left)


def test_slots_that_fill_one_by_one_stall_from_the_last_one_on():
    """A provider that hangs is silent from the start, but full only then."""
    gate = make_gate(slots=3)
    for number in range(3):
        assert gate.stalls_at(1.0) is None
        take(gate, 1, demand=number, now=NOW + number)

    assert gate.stalls_at(1.0) == NOW + 3.0


def test_rebuilt_slots_do_not_count_as_stalled_at_once():
    """A new Supervisor does not know how long its providers have been silent."""
    gate = make_gate(slots=1)

    gate.rebuild(("x", 1), is_probe=False, now=NOW)

    assert gate.stalls_at(1.0) == NOW + 1.0


def test_a_late_report_does_not_bring_a_put_off_probe_forward():
    """The breaker tells with each call that ends what it knew before the health probe."""
    gate = make_gate()
    gate.set_misconfigured(NOW, "bad key")
    gate.health_asked(NOW)
    gate.put_off_misconfigured(NOW + 300.0, "still bad")

    gate.set_misconfigured(NOW, "bad key")

    assert gate.opening(NOW + 1.0).why == "misconfigured: still bad"
    assert not gate.needs_health_probe(NOW + 299.0)


def test_a_failed_real_send_puts_the_next_health_probe_off():
    """A good health probe is good for one send."""
    gate = make_gate()
    gate.set_misconfigured(NOW, "bad key")
    gate.is_health_good = True

    gate.set_misconfigured(NOW + 300.0, "bad again")

    assert not gate.is_health_good
    assert gate.opens_at(NOW) == NOW + 300.0


def test_a_health_probe_that_got_lost_is_asked_again():
    """Its provider crashed over it: time alone leads out."""
    gate = make_gate()
    gate.set_misconfigured(NOW, "bad key")
    gate.health_asked(NOW)

    at = gate.opens_at(NOW)

    assert at == NOW + HEALTH_PATIENCE_S
    assert not gate.needs_health_probe(at - 1.0)
    assert gate.needs_health_probe(at)
