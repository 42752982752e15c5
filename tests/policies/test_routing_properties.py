"""A route in any state: it never sleeps for ever, and offers what is wanted and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.policies.routing import Placement, RoutePlan, Wants, place

NOW = 1000.0
NAMES = ("a", "b", "c")
INSTANTS = st.integers(-3, 3).map(lambda s: NOW + 10 * s)
LATER_S = st.floats(0.1, 60)


@st.composite
def gates(draw: st.DrawFn) -> dict[str, Gate]:
    """Return the gates of a route in any state that time alone may change."""
    return {name: _gate(draw, name) for name in NAMES}


def _gate(draw: st.DrawFn, name: str) -> Gate:
    slots = draw(st.integers(1, 3))
    gate = Gate(
        name, slots, TokenBucket(draw(st.sampled_from([0.0, 0.3])), 1, lambda: NOW),
        is_known=True,
        is_enabled=draw(st.sampled_from([True] * 4 + [False])),
        circuit=draw(st.sampled_from(["closed"] * 6 + ["open", "half_open", "forced_open"])),
        retry_at=draw(st.none() | INSTANTS),
        throttled_until=draw(st.sampled_from([0.0] * 4 + [NOW - 5, NOW + 5])),
        window=draw(st.sampled_from([None] * 3 + [1])),
        moved_at=NOW - draw(st.sampled_from([0, 10, 20])),
    )  # fmt: skip
    n_out = draw(st.sampled_from([0, gate.limit, gate.limit]))
    gate.in_flight = {(f"{name}{number}", 1): False for number in range(n_out)}
    if draw(st.booleans()):
        gate.bucket.take(min(1, gate.bucket.available(NOW)), NOW)
    return gate


PLANS = st.builds(
    lambda is_weighted, weights: RoutePlan("email", NAMES, is_weighted, weights, spill_after_s=15),
    st.booleans(),
    st.fixed_dictionaries(dict.fromkeys(NAMES, st.sampled_from([0.0, 1.0, 3.0]))),
)
WANTS = st.builds(Wants, st.booleans(), st.frozensets(st.sampled_from(NAMES)))


def fresh_places(placement: Placement) -> set[str]:
    return {offer.provider for offer in placement.offers if not offer.is_fallback_only}


@settings(max_examples=1000)
@given(plan=PLANS, gates=gates(), wants=WANTS, later_s=LATER_S)
def test_a_route_never_sleeps_for_ever(
    plan: RoutePlan, gates: dict[str, Gate], wants: Wants, later_s: float
) -> None:
    """Where time alone brings an offer that is not there now, it names an instant in time."""
    now, later = place(plan, gates, wants, NOW), place(plan, gates, wants, NOW + later_s)

    offered = {offer.provider for offer in now.offers}
    is_news = any(offer.provider not in offered for offer in later.offers)
    if is_news or fresh_places(later) - fresh_places(now):
        assert now.next_at is not None
        assert NOW < now.next_at <= NOW + later_s


@settings(max_examples=500)
@given(plan=PLANS, gates=gates(), wants=WANTS)
def test_only_what_is_wanted_and_there_is_offered(
    plan: RoutePlan, gates: dict[str, Gate], wants: Wants
) -> None:
    """Else the same places would be offered and come back, again and again."""
    placement = place(plan, gates, wants, NOW)

    passed_over = dict(placement.passed_over)
    for offer in placement.offers:
        assert 0 < offer.n <= gates[offer.provider].opening(NOW).n
        assert offer.provider in wants.walking or (wants.fresh and not offer.is_fallback_only)
        assert offer.why
        assert offer.provider not in passed_over
    for name, gate in gates.items():
        assert (name in passed_over) == (gate.opening(NOW).n == 0)
    assert all(passed_over.values())


@settings(max_examples=500)
@given(plan=PLANS, gates=gates())
def test_new_work_has_a_turn_wherever_some_gate_of_the_route_could_take_it(
    plan: RoutePlan, gates: dict[str, Gate]
) -> None:
    """A gate that is open is kept from new work only by one before it that it waits for."""
    placement = place(plan, gates, Wants(True, frozenset(NAMES)), NOW)

    for offer in placement.offers:
        if offer.is_fallback_only:
            before = NAMES if plan.is_weighted else NAMES[: NAMES.index(offer.provider)]
            assert any(not gates[name].opening(NOW).is_shut for name in before)


def test_a_stall_is_looked_for_in_time() -> None:
    """No event tells that nothing happens: the next provider takes over at `spill_after`."""
    gates = {name: Gate(name, 1, TokenBucket(0.0, 1, lambda: NOW), is_known=True) for name in NAMES}
    gates["a"].in_flight["n1", 1] = False
    gates["a"].moved_at = NOW - 5
    plan = RoutePlan("email", NAMES, spill_after_s=15)

    now = place(plan, gates, Wants(fresh=True), NOW)
    then = place(plan, gates, Wants(fresh=True), NOW + 10)

    assert (now.offers, now.next_at) == ((), NOW + 10)
    assert fresh_places(then) == {"b"}
