"""Whose turn it is: flows inside a priority, and priorities among each other."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.notification import Priority
from clarion.policies.fairness import MAX_IDLE_FLOWS, FairClock, PriorityShare

CRITICAL, HIGH, NORMAL, LOW = Priority


def turns(n: int, *waiting: Priority) -> list[Priority]:
    share = PriorityShare()
    chosen = [share.choose(waiting) for _ in range(n)]
    assert None not in chosen
    return [each for each in chosen if each is not None]


# --- priorities ----------------------------------------------------------------------------------


def test_high_normal_and_low_share_by_eight_four_and_one() -> None:
    """In every round of thirteen, so that nobody waits for a whole burst of the others."""
    chosen = turns(13 * 50, HIGH, NORMAL, LOW)

    for start in range(0, len(chosen), 13):
        assert Counter(chosen[start : start + 13]) == {HIGH: 8, NORMAL: 4, LOW: 1}


def test_shares_are_spread_evenly() -> None:
    """Smooth: high never takes more than three turns in a row while others wait."""
    chosen = turns(130, HIGH, NORMAL, LOW)

    assert not any(set(chosen[n : n + 4]) == {HIGH} for n in range(len(chosen) - 3))


def test_an_absent_priority_leaves_its_share_to_the_others() -> None:
    """Two of them share as they stand to each other."""
    assert Counter(turns(90, HIGH, LOW)) == {HIGH: 80, LOW: 10}
    assert Counter(turns(9, LOW)) == {LOW: 9}


def test_critical_goes_first_but_for_one_turn_in_ten() -> None:
    """A flood of critical ones starves nobody."""
    chosen = turns(1000, CRITICAL, HIGH, NORMAL, LOW)

    assert chosen[:9] == [CRITICAL] * 9
    assert Counter(chosen)[CRITICAL] == 900
    assert Counter(chosen[:1000])[LOW] >= 7


def test_critical_takes_every_turn_when_nobody_else_waits() -> None:
    """The cap is for the others' sake alone."""
    assert turns(100, CRITICAL) == [CRITICAL] * 100


def test_a_critical_one_that_arrives_passes_everything_that_waits() -> None:
    """Whatever turns the others have had before."""
    share = PriorityShare()
    for _ in range(37):
        share.choose((HIGH, NORMAL, LOW))

    assert share.choose((CRITICAL, HIGH, NORMAL, LOW)) is CRITICAL


def test_it_is_nobodys_turn_where_nobody_waits() -> None:
    """And the next one does not pay for it."""
    share = PriorityShare()

    assert share.choose(()) is None
    assert share.choose((LOW,)) is LOW


@given(waiting=st.lists(st.sets(st.sampled_from(Priority), min_size=1), min_size=20, max_size=300))
def test_whoever_is_chosen_waits_and_critical_is_capped(waiting: list[set[Priority]]) -> None:
    """For any arrivals: never ten critical ones in a row beside somebody else."""
    share = PriorityShare()

    in_a_row = 0
    for among in waiting:
        chosen = share.choose(among)
        assert chosen in among
        in_a_row = in_a_row + 1 if chosen is CRITICAL and len(among) > 1 else 0
        assert in_a_row <= 9


# --- flows ---------------------------------------------------------------------------------------


def test_flows_that_wait_alternate() -> None:
    """Each gets the same, however much one has piled up before the other came."""
    clock = FairClock()
    piled = [clock.stamp("piled") for _ in range(1000)]
    clock.took(piled[0])

    late = [clock.stamp("late") for _ in range(10)]

    assert late == piled[1:11]


def test_a_flow_that_was_idle_saves_up_no_turns() -> None:
    """It starts where the line is now, not where it left."""
    clock = FairClock()
    clock.stamp("idle")
    for _ in range(100):
        clock.took(clock.stamp("busy"))

    assert clock.stamp("idle") == clock.virtual_at + 1.0


def test_a_heavier_flow_gets_more_and_a_dearer_message_costs_more() -> None:
    """Cost over weight is the distance to the next stamp."""
    clock = FairClock()

    assert [clock.stamp("heavy", weight=4.0) for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [clock.stamp("dear", cost=10.0) for _ in range(2)] == [10.0, 20.0]


def test_time_never_goes_back() -> None:
    """A job that returns to the head with an old stamp gives nobody an earlier turn."""
    clock = FairClock()
    clock.took(50.0)

    clock.took(3.0)

    assert clock.stamp("any") == 51.0


def test_it_goes_on_after_a_restart_where_it_was() -> None:
    """The last stamps come from the disk, V from the first one that waits."""
    clock = FairClock()
    clock.restore({"flood": 100_000.0}, virtual_at=40.0)

    assert clock.stamp("flood") == 100_001.0
    assert clock.stamp("single") == 41.0


def test_memory_holds_no_flow_that_would_start_at_the_front_anyway() -> None:
    """A million tenants with one message each are not remembered for ever."""
    clock = FairClock()
    waiting = [clock.stamp("waiting") for _ in range(20 * MAX_IDLE_FLOWS)][-1]
    for number in range(10 * MAX_IDLE_FLOWS):
        clock.took(clock.stamp(f"tenant-{number}"))

    assert len(clock._last) <= 2 * MAX_IDLE_FLOWS + 1
    assert clock.stamp("waiting") == waiting + 1.0


@given(steps=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=400))
def test_no_flow_gets_ahead_of_another_that_waits(steps: list[tuple[str, bool]]) -> None:
    """Between two takes of a waiting flow every other flow is served twice at most."""
    clock = FairClock()
    line: list[tuple[float, int, str]] = []
    served_since: dict[str, Counter[str]] = {}

    for number, (flow, is_arrival) in enumerate(steps):
        if is_arrival:
            line.append((clock.stamp(flow), number, flow))
            served_since.setdefault(flow, Counter())
        elif line:
            first = min(line)
            line.remove(first)
            clock.took(first[0])
            taken = first[2]
            served_since[taken] = Counter()
            for waiting in {each[2] for each in line} - {taken}:
                served_since[waiting][taken] += 1
                assert served_since[waiting][taken] <= 2
            for gone in served_since.keys() - {each[2] for each in line}:
                served_since[gone] = Counter()


def test_many_waiting_flows_are_not_looked_at_with_each_take() -> None:
    """100,000 tenants with a message each: a take costs the same as with one."""
    clock, looks = FairClock(), 0
    for number in range(100_000):
        clock.stamp(f"flow-{number}")
        clock.stamp(f"flow-{number}")

    before = clock._last
    for _ in range(1000):
        clock.took(1.0)
        looks += clock._last is not before
        before = clock._last

    assert looks <= 1
