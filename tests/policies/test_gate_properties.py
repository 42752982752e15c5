"""A gate in any state: it never sleeps for ever, and never lets more through than its slots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.policies.standby import Standby

NOW = 1000.0
SPILL_S = 1.0
RATES = st.sampled_from([0.0, 0.3, 1.0, 7.0])
INSTANTS = st.integers(-3, 3).map(lambda s: NOW + 10 * s)
LATER_S = st.floats(0.1, 60)


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    """Return a gate in any state that reports and answers could bring it to."""
    slots = draw(st.integers(1, 4))
    gate = Gate(
        "p", slots,
        TokenBucket(draw(RATES), draw(st.integers(1, 3)), lambda: NOW),
        is_known=True,  # What only an event can mend hides what time can.
        circuit=draw(st.sampled_from(["closed", "open", "half_open", "disabled"])),
        retry_at=draw(st.none() | INSTANTS),
        throttled_until=draw(st.just(0.0) | INSTANTS),
        misconfigured_until=draw(st.none() | INSTANTS),
        is_health_good=True,
        window=draw(st.none() | st.integers(1, slots)),
        in_flight={(f"n{number}", 1): False for number in range(draw(st.integers(0, slots)))},
        standby=Standby(draw(st.integers(0, slots)), pace=draw(st.integers(0, 2 * slots))),
        moved_at=draw(st.floats(NOW - 100, NOW)),
    )  # fmt: skip
    for demand in range(draw(st.integers(0, 3))):
        n = min(draw(st.integers(1, 2)), gate.limit - gate.taken, gate.bucket.available(NOW))
        gate.reserve(demand, n, is_probe=False, now=NOW)
    return gate


@given(gate=gates(), later_s=LATER_S)
def test_it_never_sleeps_for_ever(gate: Gate, later_s: float) -> None:
    """Where time alone opens it, it names an instant that is not too late."""
    later = NOW + later_s

    at = gate.opens_at(NOW)

    if gate.opening(NOW).n == 0 and gate.opening(later).n > 0:
        assert at is not None
        assert NOW < at <= later


@given(gate=gates(), later_s=LATER_S)
def test_a_stall_is_foretold(gate: Gate, later_s: float) -> None:
    """Where time alone makes it stalled, `stalls_at` says when."""
    later = NOW + later_s

    at = gate.stalls_at(SPILL_S)

    if not gate.is_stalled(NOW, SPILL_S) and gate.is_stalled(later, SPILL_S):
        assert at is not None
        assert NOW < at <= later


@given(gate=gates())
def test_following_its_instants_always_comes_to_an_end(gate: Gate) -> None:
    """A timer set to the instant it names is not set to that instant again and again."""
    now, steps = NOW, 0

    while (at := gate.opens_at(now)) is not None and gate.opening(now).n == 0:
        assert at > now
        now, steps = at, steps + 1

    assert steps <= 4


@given(gate=gates())
def test_it_never_lets_more_through_than_its_slots(gate: Gate) -> None:
    """The bulkhead, whatever the ramp, the tokens and the demands say."""
    taken = gate.taken

    opening = gate.opening(NOW)

    if not opening.is_probe:
        into_slots = opening.n - opening.ahead
        assert into_slots == 0 or taken + into_slots <= gate.limit <= gate.max_concurrent
    assert not opening.is_probe or opening.n == 1
    assert (opening.n == 0) == bool(opening.why)


@given(gate=gates())
def test_nobody_stands_by_at_a_gate_that_is_not_plainly_open(gate: Gate) -> None:
    """Nor more than may; a probe never does."""
    opening = gate.opening(NOW)

    assert 0 <= opening.ahead <= min(opening.n, gate.standby.most)
    if opening.ahead:
        assert not opening.is_probe
        assert not opening.is_shut
        assert gate.state(NOW) == "ok"
