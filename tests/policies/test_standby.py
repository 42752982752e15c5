"""Calls that stand by: how many are asked for, when they go, and when they had better not wait."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Call, Delivery
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.policies.standby import Standby

NOW = 1000.0
SPILL_S = 1.0
OK = Answer(Outcome.ACCEPTED, "ok")


def busy_gate(*, slots=4, most=4, ended=2, per_second=0.0, burst=1):
    """Return a gate with all slots taken, of which `ended` moved while a demand was out."""
    bucket = TokenBucket(per_second, burst, lambda: NOW)
    gate = Gate("p", slots, bucket, is_known=True, standby=Standby(most))
    gate.reserve(1, slots, is_probe=False, now=NOW)
    for n in range(slots):
        assert gate.occupy(1, (f"old{n}", 1), now=NOW)
    for n in range(ended):
        gate.free((f"old{n}", 1), OK, NOW)
        gate.rebuild((f"new{n}", 1), is_probe=False, now=NOW)
    gate.release(1, NOW)
    return gate


def stand_by(gate, make_job, n):
    gate.reserve(2, n, is_probe=False, now=NOW)
    calls = [Call(make_job(id=f"j{number}"), 1, "p") for number in range(n)]
    assert all(gate.stand_by(2, call, now=NOW) for call in calls)
    gate.release(2, NOW)
    return calls


def test_as_many_are_asked_ahead_as_ended_during_the_last_demand():
    """Those are the slots that would stand idle until the next intents are on disk."""
    opening = busy_gate(ended=3).opening(NOW)

    assert (opening.n, opening.ahead) == (3, 3)


def test_a_provider_slower_than_the_disk_has_nobody_stand_by():
    """Its slots do not wait for the disk; what stood by would wait for them, and go stale."""
    opening = busy_gate(ended=0).opening(NOW)

    assert opening.n == 0
    assert "4 slots are taken" in opening.why


def test_where_lanes_share_a_provider_nobody_stands_by():
    """The other lanes would never get a slot."""
    assert busy_gate(most=0).opening(NOW).n == 0


def test_free_slots_and_standby_are_offered_together():
    """One demand, one transaction for both."""
    gate = busy_gate(ended=2)
    gate.free(("old3", 1), OK, NOW)

    opening = gate.opening(NOW)

    assert (opening.n, opening.ahead) == (3, 2)


def test_more_are_asked_only_when_half_of_them_have_gone(make_job):
    """Batches are cheaper than one after the other."""
    gate = busy_gate(ended=4)
    stand_by(gate, make_job, 3)

    assert gate.opening(NOW).n == 0
    gate.standby.calls.popleft()
    gate.standby.calls.popleft()
    assert gate.opening(NOW).ahead == 2


def test_no_token_is_spent_ahead_of_what_the_rate_allows():
    """Standby is no way round the rate limit."""
    gate = busy_gate(slots=4, ended=4, per_second=1.0, burst=5)

    assert gate.opening(NOW).n == 1


def test_who_stands_by_takes_the_next_free_slots_in_order(make_job):
    """First come, first served, and never more than there are slots."""
    gate = busy_gate(ended=3)
    first, second, third = stand_by(gate, make_job, 3)
    assert gate.let_in(NOW) == []

    gate.free(("old3", 1), OK, NOW)
    gate.free(("new0", 1), OK, NOW)

    assert gate.let_in(NOW) == [first, second]
    assert gate.busy == gate.max_concurrent
    assert list(gate.standby.calls) == [third]


@pytest.mark.parametrize(
    "field",
    [
        {"is_alive": False},
        {"is_enabled": False},
        {"circuit": "open", "retry_at": NOW + 5.0},
        {"circuit": "half_open"},
        {"throttled_until": NOW + 5.0},
        {"window": 1},
        {"moved_at": NOW - SPILL_S},
    ],
)
def test_who_stands_by_does_not_wait_for_a_gate_that_is_in_trouble(field):
    """Shut, probed, ramping or stalled: another provider may take it, or its lane keeps it."""
    gate = busy_gate()
    assert not gate.is_closed_to_standby(NOW, SPILL_S)

    for name, value in field.items():
        setattr(gate, name, value)

    assert gate.is_closed_to_standby(NOW, SPILL_S)


def test_who_is_dismissed_gives_back_its_token_and_is_not_asked_for_again(make_job):
    """Else a stalled provider would be asked, and dismissed, in a circle."""
    gate = busy_gate(slots=4, ended=4, per_second=1.0, burst=8)
    calls = stand_by(gate, make_job, 2)
    left = gate.bucket.available(NOW)

    assert gate.dismiss() == calls

    assert gate.bucket.available(NOW) == left + 2
    assert gate.opening(NOW).n == 0


def test_a_job_that_may_go_out_once_is_sent_back_rather_than_stand_by(make_job):
    """Whoever offered it the place: a death of the process would park it, though nobody sent it."""
    gate = busy_gate()
    gate.reserve(2, 1, is_probe=False, now=NOW)

    careful = Call(make_job(delivery=Delivery.AT_MOST_ONCE), 1, "p")

    assert not gate.stand_by(2, careful, now=NOW)
    assert not gate.standby.calls


def test_nobody_stands_by_once_the_gate_asks_for_a_probe(make_job):
    """What finds out whether a provider works again is one call, in a slot."""
    gate = busy_gate()
    gate.reserve(2, 1, is_probe=True, now=NOW)
    gate.set_circuit("half_open", None)

    assert not gate.stand_by(2, Call(make_job(), 1, "p"), now=NOW)
