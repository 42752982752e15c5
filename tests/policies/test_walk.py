"""Walks that lead nowhere, and waits that are not a notification's own."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Call, Reason, Status
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.retry import RetrySettings
from clarion.policies.routing import RouteState
from clarion.policies.verdict import Again, End, Rules, begin_anew, judge, worn_out

NOW = 1000.0
RULES = Rules(RetrySettings(max_attempts=3, initial_delay=8.0, jitter=False), 30.0, lambda: 0.5)
A_UP, A_DOWN = RouteState("a", "closed"), RouteState("a", "open")
B_UP, B_DOWN = RouteState("b", "closed"), RouteState("b", "open")
B_THROTTLED = RouteState("b", "closed", is_throttled=True)


@pytest.mark.parametrize(
    ("walk", "route", "attempt"),
    [
        ({"is_walk_burning": True}, (A_UP, B_DOWN), 2),
        ({"is_walk_burning": True}, (A_DOWN, B_THROTTLED), 2),
        ({"is_walk_burning": True}, (A_DOWN, B_DOWN), 1),
        ({"is_walk_unknown": True}, (A_DOWN, B_DOWN), 2),
        ({}, (A_UP, B_THROTTLED), 1),
    ],
)
def test_a_walk_whose_last_provider_shuts_ends_by_the_rule_of_an_answer(
    make_job, walk, route, attempt
):
    """It waited for a slot of `b`; what it has come to burns an attempt, or does not."""
    job = make_job(tried=("a",), attempt=1, **walk)

    assert worn_out(job, route, RULES) is None
    begin_anew(job, route)

    assert (job.tried, job.attempt) == ((), attempt)
    assert not job.is_walk_burning
    assert not job.is_walk_unknown


@pytest.mark.parametrize(
    ("is_doubtful", "status"), [(False, Status.FAILED), (True, Status.UNKNOWN)]
)
def test_a_walk_that_led_nowhere_may_have_been_the_last(make_job, is_doubtful, status):
    """`max_attempts` holds here as well."""
    job = make_job(tried=("a",), attempt=2, is_walk_burning=True, is_doubtful=is_doubtful)

    assert worn_out(job, (A_UP, B_DOWN), RULES) == End(status, Reason.EXHAUSTED)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.MISCONFIGURED])
def test_a_closed_gate_is_waited_for_in_the_lane(make_job, outcome):
    """No timer of its own, whatever Retry-After says: the gate decides when."""
    answer = Answer(outcome, "x", surely_not_accepted=True, retry_after_s=900.0)

    assert judge(Call(make_job(), 1, "a"), answer, (A_UP,), RULES, NOW) == Again(None, (), 0)


def test_the_wish_of_a_throttled_provider_does_not_hold_up_the_others(make_job):
    """The walk failed at `a`, and `b` is throttled for an hour: `a` is tried after its pause."""
    job = make_job(tried=("a",), is_walk_burning=True)
    answer = Answer(Outcome.THROTTLED, "x", surely_not_accepted=True, retry_after_s=3600.0)

    again = judge(Call(job, 2, "b"), answer, (A_UP, B_UP), RULES, NOW)

    assert (again.due_at, again.attempt) == (NOW + 8.0, 1)
