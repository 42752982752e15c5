"""Which providers of a route are offered to its lane, and why the others are not."""

from __future__ import annotations

import pytest

from clarion.domain.outcome import Answer, Outcome
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.policies.routing import RoutePlan, Wants, place

NOW = 1000.0
ORDERED = RoutePlan("email", ("a", "b", "c"), spill_after_s=1.0)
FRESH = Wants(fresh=True)
ALL = Wants(fresh=True, walking=frozenset("abc"))


def gate(name="a", *, per_second=0.0, slots=2, taken=0, **fields):
    bucket = TokenBucket(per_second, 1, lambda: NOW)
    made = Gate(name, slots, bucket, is_known=True, moved_at=NOW)
    for number in range(taken):
        made.in_flight[f"{name}{number}", 1] = False
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def gates(**made):
    return {name: made.get(name) or gate(name) for name in "abc"}


def offers(plan, made, wants=ALL, now=NOW):
    return [
        (offer.provider, offer.n, offer.is_probe, offer.is_fallback_only)
        for offer in place(plan, made, wants, now).offers
    ]


def test_new_work_goes_to_the_first_and_the_others_are_for_fallback():
    """Ordered routes: a later provider is offered to those alone that tried the earlier ones."""
    assert offers(ORDERED, gates()) == [
        ("a", 2, False, False),
        ("b", 2, False, True),
        ("c", 2, False, True),
    ]


@pytest.mark.parametrize(
    "shut",
    [
        {"is_known": False},
        {"is_alive": False},
        {"is_enabled": False},
        {"circuit": "forced_open"},
        {"circuit": "open", "retry_at": NOW + 5.0},
        {"throttled_until": NOW + 5.0},
        {"misconfigured_until": NOW + 5.0},
    ],
)
def test_new_work_passes_a_shut_gate_with_its_reason(shut):
    """The next one takes its turn, and the timeline can say why."""
    placement = place(ORDERED, gates(a=gate("a", **shut)), FRESH, NOW)

    assert [(each.provider, each.is_fallback_only) for each in placement.offers] == [("b", False)]
    assert placement.offers[0].why == "next in the route; earlier ones were passed over"
    assert [name for name, why in placement.passed_over if why] == ["a"]


def test_a_ramping_provider_shares_new_work_with_the_next():
    """After its recovery it gets what its window allows; the rest does not wait for it."""
    assert offers(ORDERED, gates(a=gate("a", window=1)), FRESH) == [
        ("a", 1, False, False),
        ("b", 2, False, False),
    ]
    full = gate("a", window=1, taken=1)
    assert offers(ORDERED, gates(a=full), FRESH) == [("b", 2, False, False)]


def test_a_probe_does_not_keep_new_work_waiting():
    """One job finds out; the others go to the next provider."""
    probed = gate("a", circuit="half_open")

    assert offers(ORDERED, gates(a=probed), FRESH) == [
        ("a", 1, True, False),
        ("b", 2, False, False),
    ]


def test_new_work_waits_for_a_slot_until_the_provider_is_stalled():
    """Full is normal; full and silent for `spill_after` is not."""
    full = gate("a", taken=2)
    early = place(ORDERED, gates(a=full), FRESH, NOW + 0.9)
    late = place(ORDERED, gates(a=full), FRESH, NOW + 1.0)

    assert early.offers == ()
    assert early.passed_over == (("a", "all 2 slots are taken"),)
    assert early.next_at == NOW + 1.0
    assert [each.provider for each in late.offers] == ["b"]
    assert late.passed_over == (("a", "stalled: all 2 slots are taken and none settled for 1 s"),)


def test_a_settled_call_ends_the_stall():
    """`spill_after` counts from the last movement of a slot."""
    full = gate("a", taken=2)
    full.free(("a0", 1), Answer(Outcome.ACCEPTED, "ok"), NOW + 1.5)
    full.in_flight["a2", 1] = False
    made = gates(a=full)

    assert place(ORDERED, made, FRESH, NOW + 2.0).offers == ()
    assert place(ORDERED, made, FRESH, NOW + 2.0).next_at == NOW + 2.5


def test_new_work_waits_for_a_token():
    """A rate limit is no trouble of the provider: its turn stays its own."""
    limited = gate("a", per_second=10.0)
    limited.reserve(1, 1, is_probe=False, now=NOW)
    limited.reserved.clear()
    placement = place(ORDERED, gates(a=limited), FRESH, NOW)

    assert placement.offers == ()
    assert placement.passed_over == (("a", "its rate limit is reached"),)
    assert placement.next_at == pytest.approx(NOW + 0.1)


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        (Wants(), []),
        (Wants(fresh=True), ["a"]),
        (Wants(walking=frozenset("b")), ["b"]),
        (Wants(fresh=True, walking=frozenset("c")), ["a", "c"]),
    ],
)
def test_only_what_the_lane_can_use_is_offered(wants, expected):
    """What nobody takes would be offered again and again, in a circle."""
    assert [name for name, *_ in offers(ORDERED, gates(), wants)] == expected


def test_weighted_routes_offer_every_open_gate():
    """Each job draws among them; none waits for another's turn."""
    plan = RoutePlan("email", ("a", "b", "c"), is_weighted=True, weights={"a": 7, "b": 3})
    full = gate("b", taken=2)

    assert offers(plan, gates(b=full), FRESH) == [("a", 2, False, False), ("c", 2, False, False)]
    assert place(plan, gates(b=full), FRESH, NOW).offers[0].why == "drawn by weight"


def test_a_provider_of_weight_zero_stands_by_until_all_others_are_shut():
    """A full slot elsewhere is no reason to send what should take another way."""
    plan = RoutePlan("email", ("a", "b", "c"), is_weighted=True, weights={"c": 0})
    a_shut = gate("a", is_enabled=False)
    full, b_shut = gate("b", taken=2), gate("b", circuit="forced_open")

    assert offers(plan, gates(a=a_shut, b=full), FRESH) == []
    assert offers(plan, gates(a=a_shut, b=full), ALL) == [("c", 2, False, True)]
    assert offers(plan, gates(a=a_shut, b=b_shut), FRESH) == [("c", 2, False, False)]


def test_time_alone_opens_a_route_at_the_earliest_of_its_gates():
    """One timer per lane, at the first instant that can change anything."""
    made = gates(
        a=gate("a", circuit="open", retry_at=NOW + 60.0),
        b=gate("b", throttled_until=NOW + 5.0),
        c=gate("c", is_enabled=False),
    )

    assert place(ORDERED, made, FRESH, NOW).next_at == NOW + 5.0
    made["b"].is_enabled = False
    made["b"].throttled_until = 0.0
    assert place(ORDERED, made, FRESH, NOW).next_at == NOW + 60.0
    made["a"].is_alive = False
    made["a"].retry_at = None
    assert place(ORDERED, made, FRESH, NOW).next_at is None
