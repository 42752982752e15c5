"""Verdicts under any past, answer and route: what holds whatever happens."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.notification import (
    Call,
    Content,
    Delivery,
    Job,
    JobState,
    Priority,
    Status,
)
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.retry import RetrySettings
from clarion.policies.routing import RouteState
from clarion.policies.verdict import POISON_BUGS, Again, End, Rules, Verdict, judge

NOW = 1000.0
MAX_ATTEMPTS = 3
RULES = Rules(
    RetrySettings(max_attempts=MAX_ATTEMPTS, initial_delay=1.0, multiplier=2.0, jitter=False),
    unknown_grace_s=30.0,
    rng=lambda: 0.5,
)
NEVER_SENT = (Outcome.REFUSED, Outcome.RECALLED)


def make_job(**fields: Any) -> Job:
    return Job(
        "n1", "email", Content("ada@example.com", text="Hi"), Priority.NORMAL, "", 1.0,
        JobState.SENDING, created_at=0.0, call=1, **fields,
    )  # fmt: skip


STATES = [
    [RouteState(name, *how) for how in itertools.product(
        ("closed", "open", "half_open", "forced_open", "disabled"), *[(True, False)] * 4
    )]
    for name in ("a", "b", "c")
]  # fmt: skip
ROUTES = st.tuples(*map(st.sampled_from, STATES))
ANSWERS = st.builds(
    lambda outcome, is_sure, **fields: Answer(
        outcome, "test",
        surely_not_accepted=is_sure and outcome is not Outcome.UNKNOWN, **fields,
    ),
    st.sampled_from(Outcome),
    st.booleans(),
    retry_after_s=st.none() | st.floats(0, 100),
    is_bug=st.booleans(),
    is_host_only=st.booleans(),
    is_recipient_only=st.booleans(),
)  # fmt: skip
JOBS = st.builds(
    make_job,
    delivery=st.sampled_from(Delivery),
    attempt=st.integers(0, MAX_ATTEMPTS - 1),
    tried=st.sampled_from([(), ("b",), ("c",), ("b", "c")]),
    is_doubtful=st.booleans(),
    is_walk_unknown=st.booleans(),
    is_walk_burning=st.booleans(),
    cancel_requested=st.booleans(),
    expires_at=st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 1e6]),
    probes=st.integers(0, 5),
    bugs=st.integers(0, POISON_BUGS - 1),
)
CASES = st.tuples(JOBS, ANSWERS, ROUTES, st.booleans())


def decide(case: tuple[Job, Answer, tuple[RouteState, ...], bool]) -> Verdict:
    job, answer, route, is_probe = case
    return judge(Call(job, 1, "a", is_probe=is_probe), answer, route, RULES, NOW)


@given(case=CASES)
def test_an_unresolved_unknown_call_is_never_forgotten(case: Any) -> None:
    """Such a notification ends as sent or unknown, never as if no provider could have it."""
    job, answer, *_ = case
    may_have_it = job.is_doubtful or answer.outcome is Outcome.UNKNOWN

    verdict = decide(case)

    if may_have_it and isinstance(verdict, End):
        assert verdict.status in (Status.SENT, Status.UNKNOWN)
    if may_have_it and isinstance(verdict, Again):
        assert verdict.is_doubtful
    if not may_have_it and isinstance(verdict, Again):
        assert not verdict.is_doubtful


@given(case=CASES)
def test_at_most_once_never_goes_on_after_a_doubtful_answer(case: Any) -> None:
    """Promise 3, for every route and past."""
    job, answer, *_ = case

    verdict = decide(case)

    if (
        job.delivery is Delivery.AT_MOST_ONCE
        and answer.outcome not in NEVER_SENT
        and not answer.surely_not_accepted
    ):
        assert isinstance(verdict, End)


@given(case=CASES)
def test_attempts_never_exceed_their_maximum_and_never_fall(case: Any) -> None:
    """Each walk burns one at most."""
    job, *_ = case

    verdict = decide(case)

    if isinstance(verdict, Again):
        assert verdict.attempt - job.attempt in (0, 1)
        assert verdict.attempt < MAX_ATTEMPTS


@given(case=CASES)
def test_a_finished_walk_leaves_nothing_behind(case: Any) -> None:
    """The next attempt may use every provider, and burns for its own calls alone."""
    verdict = decide(case)

    if isinstance(verdict, Again) and not verdict.tried:
        is_walk_marked = verdict.is_walk_unknown or verdict.is_walk_burning
        assert not is_walk_marked or case[1].outcome in NEVER_SENT


@given(case=CASES)
def test_what_waits_for_time_says_for_what(case: Any) -> None:
    """A due instant and its word go together, and never lie in the past."""
    verdict = decide(case)

    if isinstance(verdict, Again):
        assert (verdict.due_at is None) == (verdict.waiting is None)
        assert verdict.due_at is None or verdict.due_at >= NOW
        if case[1].outcome is Outcome.UNKNOWN:
            assert verdict.waiting == "receipt"


@given(
    delivery=st.sampled_from(Delivery),
    answers=st.lists(st.tuples(ANSWERS, ROUTES, st.booleans()), max_size=60),
)
def test_a_notification_that_is_burnt_each_time_ends(delivery: Delivery, answers: Any) -> None:
    """A whole life of any answers: attempts, bugs and doubt only ever grow."""
    job = make_job(delivery=delivery, expires_at=1e9)

    for answer, route, is_probe in answers:
        untried = [name for name in ("a", "b", "c") if name not in job.tried]
        call = Call(job, 1, untried[0], is_probe=is_probe)
        verdict = judge(call, answer, route, RULES, NOW)
        if isinstance(verdict, End):
            return
        assert verdict.attempt >= job.attempt and verdict.bugs >= job.bugs
        assert verdict.is_doubtful >= job.is_doubtful
        assert len(verdict.tried) < 3
        for name in ("attempt", "tried", "is_doubtful", "is_walk_unknown", "is_walk_burning",
                     "probes", "bugs"):  # fmt: skip
            setattr(job, name, getattr(verdict, name))
    assert job.attempt < MAX_ATTEMPTS
    assert job.bugs < POISON_BUGS
