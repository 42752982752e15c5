"""Restart budgets: sliding, inclusive, with a back-off that is really exponential."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.restart import CALM_S, FIRST_DELAY_S, MAX_DELAY_S, RestartBudget


def budget(draw: float = 1.0, limit: int = 10, period_s: float = 60.0) -> RestartBudget:
    return RestartBudget(limit, period_s, rng=lambda: draw)


def test_it_is_over_at_more_than_the_limit() -> None:
    """Ten crashes in a minute are allowed, the eleventh is not."""
    child = budget()

    decisions = [child.record(float(n)).is_over for n in range(11)]

    assert decisions == [False] * 10 + [True]


def test_the_period_slides_and_its_end_still_counts() -> None:
    """A crash exactly a period ago counts; a moment later it does not."""
    at_the_end, after_it = budget(limit=1), budget(limit=1)
    at_the_end.record(0.0)
    after_it.record(0.0)

    assert at_the_end.record(60.0).is_over
    assert not after_it.record(60.001).is_over


def test_it_does_not_tumble_from_the_first_crash() -> None:
    """Bursts on both sides of a period's edge are one burst."""
    child = budget(limit=3)

    instants = [0.0, 58.0, 59.0, 61.0, 62.0]
    decisions = [child.record(at).is_over for at in instants]

    assert decisions == [False, False, False, False, True]


def test_the_back_off_doubles_to_its_maximum() -> None:
    """50 ms, 100 ms, ... at most 5 s: exponential, not linear."""
    child = budget(limit=100)

    delays = [child.record(n * 0.1).delay_s for n in range(9)]

    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, MAX_DELAY_S, MAX_DELAY_S]


@given(draw=st.floats(0, 1, exclude_max=True), crashes=st.integers(1, 2000))
def test_a_delay_is_drawn_between_nothing_and_the_ceiling(draw: float, crashes: int) -> None:
    """Full jitter; any number of crashes in a row is safe."""
    child = budget(draw, limit=5)

    for n in range(crashes):
        decision = child.record(n * 0.01)

    ceiling = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(crashes - 1, 50))
    assert decision.delay_s == draw * ceiling
    assert decision.number == crashes


def test_a_calm_time_starts_the_back_off_over_but_not_the_budget() -> None:
    """Ten seconds without a crash: short delays again, the crashes still count."""
    child = budget(limit=3)
    for at in (0.0, 1.0, 2.0):
        child.record(at)

    decision = child.record(2.0 + CALM_S)

    assert (decision.number, decision.delay_s) == (1, FIRST_DELAY_S)
    assert decision.is_over


def test_a_crash_before_the_calm_goes_on_counting() -> None:
    """A moment short of ten seconds is no calm."""
    child = budget()
    child.record(0.0)

    assert child.record(CALM_S - 0.001).number == 2


def test_it_remembers_no_more_crashes_than_it_needs() -> None:
    """Memory is bounded however long a child crashes."""
    child = budget(limit=10)

    for n in range(10_000):
        child.record(n * 0.001)

    assert len(child._crashes) == 11
