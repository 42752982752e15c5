"""The bucket of what is given: when it asks, what it lets through, when it goes on alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.grant import (
    AGAIN_S,
    CHUNK_S,
    FORSAKEN_S,
    LATENESS_S,
    MAX_ASKED,
    TAKE_S,
    Grant,
    GrantedBucket,
    Limit,
    spread,
)

NOW = 1000.0


def bucket(per_second: float = 100.0, burst: int = 20) -> GrantedBucket:
    return GrantedBucket(Limit(per_second, burst), lambda: NOW - 60.0)


def given_at_once(n: int, now: float = NOW, **more) -> Grant:
    return Grant((now,) * n, **more)


# --- what a limit means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_second", "burst", "slack_s", "guard_s"),
    [
        (100.0, 1, 0.0, LATENESS_S),
        (100.0, 4, 0.0, LATENESS_S - 0.03),
        (100.0, 7, 0.0, 0.0),
        (100.0, 21, 0.2 - LATENESS_S, 0.0),
        (1.0, 1, 0.0, LATENESS_S),
        (1.0, 2, 1.0 - LATENESS_S, 0.0),
    ],
)
def test_lateness_comes_out_of_the_burst_or_parts_the_nodes(per_second, burst, slack_s, guard_s):
    limit = Limit(per_second, burst)

    assert limit.slack_s == pytest.approx(slack_s)
    assert limit.guard_s == pytest.approx(guard_s)


@pytest.mark.parametrize(
    ("per_second", "nodes", "most"),
    [(100.0, 1, 100), (100.0, 4, 25), (0.1, 3, 1), (1e6, 1, MAX_ASKED), (10.0, 0, 10)],
)
def test_nodes_take_a_second_s_worth_at_once_all_together(per_second, nodes, most):
    assert CHUNK_S == 1.0
    assert Limit(per_second, 1).most(nodes) == most


def test_places_of_the_burst_are_at_once_and_the_others_a_gap_apart():
    assert spread(9.8, 4, 0.1, not_before=10.0) == pytest.approx([10.0, 10.0, 10.0, 10.1])


# --- using what was given ----------------------------------------------------------------------


def test_it_starts_with_nothing():
    assert bucket().available(NOW) == 0


def test_what_was_given_is_there_from_its_instant_on_and_for_a_short_while():
    """Neither before nor long after: others count on both."""
    it = bucket()
    it.give(Grant((NOW + 1.0,)), NOW)

    assert it.available(NOW + 0.999) == 0
    assert it.next_at(NOW) == NOW + 1.0
    assert it.available(NOW + 1.0) == 1
    assert it.available(NOW + 1.0 + TAKE_S) == 1
    assert it.available(NOW + 1.0 + 2 * TAKE_S) == 0


def test_each_place_is_taken_once():
    it = bucket()
    it.give(given_at_once(3), NOW)

    it.take(2, NOW)

    assert it.available(NOW) == 1


def test_what_was_not_used_comes_back_as_long_as_it_is_of_use():
    it = bucket()
    it.give(given_at_once(3), NOW)
    it.take(3, NOW)

    it.give_back(2)

    assert it.available(NOW + 0.01) == 2
    assert it.available(NOW + 2 * TAKE_S) == 0


def test_late_calls_of_its_own_are_kept_apart_by_its_own_bucket():
    """Four places within what they may be late: a burst of one lets one through."""
    it = bucket(per_second=100.0, burst=1)
    it.give(Grant(tuple(NOW + k * 0.01 for k in range(4))), NOW)

    assert it.available(NOW + 0.03) == 1
    it.take(1, NOW + 0.03)
    assert it.available(NOW + 0.03) == 0
    assert it.next_at(NOW + 0.03) == pytest.approx(NOW + 0.04)


# --- asking ------------------------------------------------------------------------------------


def test_it_asks_for_one_and_for_more_as_long_as_all_was_used():
    it, asked = bucket(per_second=1e6, burst=1000), []

    for n in range(5):
        now = NOW + n * 1e-3
        asked.append(it.asks_for(now))
        it.give(given_at_once(asked[-1], now), now)
        it.take(asked[-1], now)

    assert asked == [1, 3, 7, 15, 31]


def test_it_asks_for_little_more_than_it_used():
    it = bucket()
    it.give(given_at_once(10), NOW)
    it.take(4, NOW)

    assert it.asks_for(NOW + 2 * TAKE_S) == 5


def test_it_asks_ahead_of_need_and_not_before():
    it = bucket()
    it.give(given_at_once(10), NOW)

    it.take(4, NOW)
    assert it.asks_for(NOW) == 0
    it.take(1, NOW)
    assert it.asks_for(NOW) > 0


def test_one_question_is_out_at_a_time_and_a_lost_one_is_asked_again():
    it = bucket()

    assert it.asks_for(NOW) == 1
    assert it.asks_for(NOW + AGAIN_S / 2) == 0
    assert it.next_at(NOW) == NOW + AGAIN_S
    assert it.asks_for(NOW + AGAIN_S) == 1


def test_whoever_is_given_nothing_waits_as_long_as_it_was_told():
    it = bucket()
    it.asks_for(NOW)

    it.give(Grant(again_at=NOW + 7.0), NOW)

    assert it.next_at(NOW) == NOW + 7.0
    assert it.asks_for(NOW + 6.9) == 0
    assert it.asks_for(NOW + 7.0) == 1


def test_it_says_why_it_is_empty():
    """And nothing where nobody wanted anything: an idle provider is not limited."""
    it, told = bucket(), []

    told.append(it.why_empty(NOW))
    it.asks_for(NOW)
    told.append(it.why_empty(NOW))
    it.give(Grant(again_at=NOW + 1.0), NOW)
    told.append(it.why_empty(NOW))
    it.go_alone(2, NOW)
    told.append(it.why_empty(NOW))

    assert told == [
        "",
        "its rate limit is shared, and the answer is on its way",
        "its rate limit is reached, by all nodes together",
        "its rate limit is reached, of which this node has a part by itself",
    ]


# --- alone -------------------------------------------------------------------------------------


def test_alone_it_goes_on_by_time_at_its_part_from_an_empty_bucket():
    it = bucket(per_second=10.0, burst=4)

    it.go_alone(2, NOW + 3.0)

    assert it.is_alone
    assert it.available(NOW + 3.1) == 0
    assert it.available(NOW + 3.2) == 1  # five a second
    assert it.available(NOW + 60.0) == 2  # and half of the burst


def test_what_was_given_before_is_used_before_it_goes_on_alone():
    it = bucket(per_second=10.0, burst=4)
    it.give(Grant((NOW + 0.5,)), NOW)

    it.go_alone(2, NOW + 3.0)
    it.take(it.available(NOW + 0.5), NOW + 0.5)

    assert it.available(NOW + 0.5) == 0
    assert it.available(NOW + 3.2) == 1


def test_to_be_told_again_that_it_is_alone_changes_nothing():
    """Or a server that stays away would keep its bucket empty."""
    it = bucket(per_second=10.0, burst=4)
    it.go_alone(2, NOW)

    it.go_alone(2, NOW + 5.0)

    assert it.available(NOW + 5.0) == 2


def test_alone_it_asks_nobody_until_it_rejoins_and_then_at_once():
    it = bucket(per_second=10.0, burst=4)
    it.go_alone(2, NOW)

    assert it.asks_for(NOW + 60.0) == 0
    it.rejoin(NOW + 60.0)
    assert not it.is_alone
    assert it.available(NOW + 60.0) == 0
    assert it.asks_for(NOW + 60.0) == 1


def test_what_it_used_alone_is_unseen_until_it_is_answered():
    """Whoever gives has to know, or would give it once more."""
    it = bucket()
    assert not it.has_used_unseen

    it.go_alone(2, NOW)
    it.rejoin(NOW + 1.0)
    it.asks_for(NOW + 1.0)
    assert it.has_used_unseen
    it.give(Grant(again_at=NOW + 2.0), NOW + 1.0)
    assert not it.has_used_unseen


def test_who_gets_no_answer_at_all_goes_on_alone():
    """The actor that asks for it may be broken: a provider must not stand still for that."""
    it = bucket(per_second=10.0, burst=1)
    at = NOW
    while not it.is_alone:
        it.asks_for(at)
        woken_at = it.next_at(at)
        assert woken_at is not None
        at = woken_at

    assert at == pytest.approx(NOW + FORSAKEN_S + AGAIN_S, abs=AGAIN_S)
    assert it.available(at + 0.1) == 1


def test_whoever_is_forsaken_divides_by_the_nodes_that_it_was_told_of():
    it = bucket(per_second=10.0, burst=4)
    it.give(Grant(again_at=NOW, nodes=2), NOW)
    at = NOW
    while not it.is_alone:
        at += AGAIN_S
        it.asks_for(at)

    assert it.available(at + 0.1) == 0
    assert it.available(at + 60.0) == 2


def test_a_smaller_share_makes_its_own_bucket_smaller_and_empty():
    """What a node that is cut off sends unseen is kept aside for it."""
    it = bucket(per_second=10.0, burst=4)

    it.give(given_at_once(4, share=0.5), NOW)

    assert it.available(NOW) == 0
    assert it.available(NOW + 0.01) == 0


@given(
    st.lists(
        st.tuples(st.floats(0.0, 0.2), st.sampled_from(["give", "take", "back", "alone", "ask"])),
        max_size=60,
    )
)
def test_it_never_lets_more_through_than_was_given_or_than_its_own_bucket_has(steps):
    """Whatever comes in whatever order, calls are covered by places or, alone, by time."""
    it = bucket(per_second=20.0, burst=3)
    now, calls, given_n, alone_since = NOW, 0, 0, None
    for wait_s, what in steps:
        now += wait_s
        match what:
            case "give":
                it.give(given_at_once(2, now), now)
                given_n += 2
            case "take":
                n = it.available(now)
                it.take(n, now)
                calls += n
            case "back":
                n = min(1, calls)
                it.give_back(n)
                calls -= n
            case "alone":
                it.go_alone(2, now)
                alone_since = alone_since or now
            case "ask":
                it.asks_for(now)
        assert it.available(now) >= 0
        by_time = 0.0 if alone_since is None else 1 + 10.0 * (now - alone_since)
        assert calls <= given_n + by_time + 1
