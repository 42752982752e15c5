"""What an answer means: every outcome under every policy and every state of the route."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.domain.notification import Call, Delivery, Reason, Status
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.retry import RetrySettings
from clarion.policies.routing import RouteState
from clarion.policies.verdict import Again, End, Rules, begin_anew, given_up, judge

NOW = 1000.0
GRACE_S = 30.0
RETRY = RetrySettings(max_attempts=3, initial_delay=8.0, jitter=False)
RULES = Rules(RETRY, GRACE_S, lambda: 0.5)
UP = RouteState("b", "closed")
DOWN = (
    RouteState("b", "open"),
    RouteState("b", "half_open"),
    RouteState("b", "forced_open"),
    RouteState("b", "closed", is_enabled=False),
    RouteState("b", "closed", is_misconfigured=True),
    RouteState("b", "closed", is_alive=False),
)
THROTTLED = RouteState("b", "closed", is_throttled=True)
A_UP = RouteState("a", "closed")
A_DOWN = RouteState("a", "open")

FINAL = {
    Outcome.ACCEPTED: End(Status.SENT),
    Outcome.RECIPIENT: End(Status.FAILED, Reason.RECIPIENT),
    Outcome.PERMANENT: End(Status.FAILED, Reason.PERMANENT),
}
FAILURES = (Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.UNKNOWN, Outcome.MISCONFIGURED)
BURNING = (Outcome.TRANSIENT, Outcome.UNKNOWN)
NEVER_SENT = (Outcome.REFUSED, Outcome.RECALLED)


def answer_of(outcome, **fields):
    is_sure = outcome is not Outcome.UNKNOWN
    return Answer(outcome, "x", **({"surely_not_accepted": is_sure} | fields))


def verdict(job, outcome, route, *, provider="a", is_probe=False, rules=RULES, **fields):
    call = Call(job, 1, provider, is_probe=is_probe)
    return judge(call, answer_of(outcome, **fields), route, rules, NOW)


@pytest.mark.parametrize("outcome", FINAL)
@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("wish", [{}, {"cancel_requested": True}, {"expires_at": NOW}])
def test_an_answer_that_settles_it_wins_over_everything(make_job, outcome, delivery, wish):
    """ACCEPTED is sent, and bad addresses and messages are dead, cancelled and expired or not."""
    assert verdict(make_job(delivery=delivery, **wish), outcome, (A_UP, UP)) == FINAL[outcome]


@pytest.mark.parametrize("outcome", [Outcome.RECIPIENT, Outcome.PERMANENT])
def test_a_doubtful_one_never_ends_as_failed(make_job, outcome):
    """Some provider may have it: the end is `unknown`, with the reason said."""
    end = verdict(make_job(is_doubtful=True), outcome, (A_UP, UP))

    assert end == End(Status.UNKNOWN, FINAL[outcome].reason)


@pytest.mark.parametrize("outcome", NEVER_SENT)
def test_a_call_that_never_left_changes_nothing(make_job, outcome):
    """Back to the head, with all that its walk has come to."""
    job = make_job(
        tried=("b",), attempt=2, is_doubtful=True, is_walk_unknown=True, is_walk_burning=True,
        probes=4, bugs=1,
    )  # fmt: skip

    assert verdict(job, outcome, (A_UP, UP), is_probe=True) == Again(
        None, ("b",), 2, is_doubtful=True, is_walk_unknown=True, is_walk_burning=True, probes=4,
        bugs=1,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", [*FAILURES, *NEVER_SENT])
@pytest.mark.parametrize("is_doubtful", [False, True])
@pytest.mark.parametrize(
    ("wish", "status", "reason"),
    [
        ({"cancel_requested": True}, Status.CANCELLED, Reason.CANCELLED),
        ({"expires_at": NOW}, Status.EXPIRED, Reason.EXPIRED),
    ],
)
def test_what_nobody_wants_any_more_goes_on_no_further(
    make_job, outcome, is_doubtful, wish, status, reason
):
    """Cancelled and expired ones end with their call; as `unknown` where one may have it."""
    end = verdict(make_job(is_doubtful=is_doubtful, **wish), outcome, (A_UP, UP))

    is_unknown = is_doubtful or outcome is Outcome.UNKNOWN
    assert end == End(Status.UNKNOWN if is_unknown else status, reason)


@pytest.mark.parametrize("outcome", FAILURES)
@pytest.mark.parametrize("is_sure", [False, True])
def test_at_most_once_goes_on_only_where_nobody_can_have_it(make_job, outcome, is_sure):
    """Without certainty it parks as `unknown`, even with a fallback there."""
    job = make_job(delivery=Delivery.AT_MOST_ONCE)

    result = verdict(job, outcome, (A_UP, UP), surely_not_accepted=is_sure)

    assert (
        isinstance(result, Again)
        if is_sure
        else result == End(Status.UNKNOWN, Reason.UNKNOWN_OUTCOME)
    )


@pytest.mark.parametrize("outcome", [o for o in FAILURES if o is not Outcome.UNKNOWN])
@pytest.mark.parametrize("is_probe", [False, True])
def test_a_failure_goes_on_to_the_next_provider_at_once(make_job, outcome, is_probe):
    """Fallback within the attempt: now, at the head, and no attempt burnt."""
    again = verdict(make_job(), outcome, (A_UP, UP), is_probe=is_probe)

    assert again == Again(
        None, ("a",), 0, is_walk_burning=outcome is Outcome.TRANSIENT, probes=int(is_probe)
    )


def test_an_unknown_one_waits_for_a_receipt_before_it_goes_on(make_job):
    """At least once: the grace first, then the next provider, and it is doubtful from then on."""
    again = verdict(make_job(), Outcome.UNKNOWN, (A_UP, UP))

    assert again == Again(
        NOW + GRACE_S, ("a",), 0, "receipt", is_doubtful=True, is_walk_unknown=True,
        is_walk_burning=True,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", FAILURES)
@pytest.mark.parametrize("a_state", [A_UP, A_DOWN])
@pytest.mark.parametrize("b_state", [*DOWN, THROTTLED])
@pytest.mark.parametrize("is_burning_before", [False, True])
def test_a_walk_ends_where_no_slot_is_left_to_wait_for(
    make_job, outcome, a_state, b_state, is_burning_before
):
    """It burns an attempt where something is up and failed, and always after an unknown call."""
    job = make_job(is_walk_burning=is_burning_before)

    again = verdict(job, outcome, (a_state, b_state))

    is_up = a_state is A_UP or b_state is THROTTLED
    is_burning = is_burning_before or outcome in BURNING
    is_burnt = outcome is Outcome.UNKNOWN or (is_up and is_burning)
    assert isinstance(again, Again)
    assert (again.tried, again.attempt) == ((), int(is_burnt))
    assert not again.is_walk_unknown
    assert not again.is_walk_burning
    expected = {True: NOW + 8.0, False: None}[is_burnt]
    assert again.due_at == (NOW + GRACE_S if outcome is Outcome.UNKNOWN else expected)


def test_one_provider_that_fails_is_retried_with_a_growing_pause_until_it_is_exhausted(make_job):
    """A route of one: each call is a whole attempt, the first included."""
    job, waits = make_job(), []

    while isinstance(result := verdict(job, Outcome.TRANSIENT, (A_UP,)), Again):
        waits.append(result.due_at - NOW)
        job.tried, job.attempt = result.tried, result.attempt

    assert result == End(Status.FAILED, Reason.EXHAUSTED)
    assert waits == [8.0, 16.0]


def test_an_outage_of_everything_burns_nothing(make_job):
    """However often it is the probe: it steps back, and keeps its attempts."""
    job = make_job()

    for n in range(1, 20):
        again = verdict(job, Outcome.TRANSIENT, (A_DOWN, DOWN[0]), is_probe=True)
        assert isinstance(again, Again)
        assert (again.attempt, again.probes, again.waiting) == (0, n, "retry")
        assert again.due_at == NOW + min(3600.0, 8.0 * 2 ** (n - 1))
        job.probes = again.probes


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.MISCONFIGURED])
def test_a_closed_gate_is_waited_for_in_the_lane(make_job, outcome):
    """No timer of its own, whatever Retry-After says: the gate decides when."""
    again = verdict(make_job(), outcome, (A_UP,), retry_after_s=900.0)

    assert again == Again(None, (), 0)


def test_the_wish_of_a_throttled_provider_does_not_hold_up_the_others(make_job):
    """The walk failed at `a`, and `b` is throttled for an hour: `a` is tried after its pause."""
    job = make_job(tried=("a",), is_walk_burning=True)

    again = verdict(job, Outcome.THROTTLED, (A_UP, UP), provider="b", retry_after_s=3600.0)

    assert again.due_at == NOW + 8.0


def test_retry_after_of_a_failing_provider_is_the_least_pause(make_job):
    """A 503 with Retry-After is believed up to `retry_after_max`."""
    waits = [
        verdict(make_job(), Outcome.TRANSIENT, (A_UP,), retry_after_s=wish).due_at - NOW
        for wish in (1.0, 900.0, 1e6)
    ]

    assert waits == [8.0, 900.0, 3600.0]


def test_three_bugs_of_ours_end_it_as_poison(make_job):
    """A message that our own code chokes on must not go round for ever."""
    results = [verdict(make_job(bugs=n), Outcome.TRANSIENT, (A_UP,), is_bug=True) for n in range(3)]
    doubtful = verdict(make_job(bugs=2), Outcome.UNKNOWN, (A_UP,), is_bug=True)

    assert [getattr(result, "bugs", None) for result in results] == [1, 2, None]
    assert results[2] == End(Status.FAILED, Reason.POISON)
    assert doubtful == End(Status.UNKNOWN, Reason.POISON)


def test_a_bug_in_an_outage_waits_too(make_job):
    """It burns nothing while nothing is up, and still does not go round in a hot circle."""
    again = verdict(make_job(), Outcome.TRANSIENT, (A_DOWN,), is_bug=True)

    assert (again.attempt, again.due_at) == (0, NOW + 8.0)


@pytest.mark.parametrize(
    ("job", "end"),
    [
        ({}, None),
        ({"cancel_requested": True}, End(Status.CANCELLED, Reason.CANCELLED)),
        ({"expires_at": NOW}, End(Status.EXPIRED, Reason.EXPIRED)),
        ({"expires_at": NOW, "is_doubtful": True}, End(Status.UNKNOWN, Reason.EXPIRED)),
        ({"cancel_requested": True, "is_doubtful": True}, End(Status.UNKNOWN, Reason.CANCELLED)),
    ],
)
def test_a_waiting_job_that_nobody_wants_is_not_sent(make_job, job, end):
    """Asked of each job as it leaves the lane."""
    assert given_up(make_job(**job), NOW) == end


@pytest.mark.parametrize(
    ("walk", "route", "attempt"),
    [
        ({"is_walk_burning": True}, (A_UP, DOWN[0]), 2),
        ({"is_walk_burning": True}, (A_DOWN, DOWN[0]), 1),
        ({"is_walk_unknown": True}, (A_DOWN, DOWN[0]), 2),
        ({}, (A_UP, THROTTLED), 1),
    ],
)
def test_a_walk_that_led_nowhere_begins_anew_by_the_same_rule(make_job, walk, route, attempt):
    """It waited for a provider that is shut meanwhile: the walk ends as if it had just failed."""
    job = make_job(tried=("a",), attempt=1, **walk)

    assert begin_anew(job, route, RULES) is None
    assert (job.tried, job.attempt) == ((), attempt)
    assert not job.is_walk_burning
    assert not job.is_walk_unknown


@pytest.mark.parametrize(
    ("is_doubtful", "status"), [(False, Status.FAILED), (True, Status.UNKNOWN)]
)
def test_a_walk_that_led_nowhere_may_have_been_the_last(make_job, is_doubtful, status):
    """`max_attempts` holds here as well."""
    job = make_job(tried=("a",), attempt=2, is_walk_burning=True, is_doubtful=is_doubtful)

    assert begin_anew(job, (A_UP, DOWN[0]), RULES) == End(status, Reason.EXHAUSTED)


# --- properties ----------------------------------------------------------------------------

STATES = tuple(
    RouteState("", circuit, is_enabled=enabled, is_throttled=throttled)
    for circuit, enabled, throttled in product(
        ("closed", "open", "half_open"), (True, False), (True, False)
    )
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(Outcome),
        st.booleans(),
        st.sampled_from(STATES),
        st.sampled_from(STATES),
        st.sampled_from("ab"),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


def named(state, provider):
    return RouteState(
        provider, state.circuit, is_enabled=state.is_enabled, is_throttled=state.is_throttled
    )


@settings(deadline=None, max_examples=500)
@given(steps=STEPS, delivery=st.sampled_from(Delivery), gone_after=st.integers(0, 60))
def test_whatever_comes_the_promises_hold(make_job, steps, delivery, gone_after):
    """Attempts stay in bounds, doubt stays, and at most once is at most once."""
    job = make_job(delivery=delivery)
    was_doubtful = may_be_out = False

    for n, (outcome, is_sure, a_state, b_state, provider, is_probe, is_bug) in enumerate(steps):
        job.cancel_requested = n >= gone_after
        route = (named(a_state, "a"), named(b_state, "b"))
        call = Call(job, n, provider, is_probe=is_probe)
        answer = Answer(outcome, "x", surely_not_accepted=is_sure, is_bug=is_bug)
        result = judge(call, answer, route, RULES, NOW)

        may_be_out |= outcome is Outcome.UNKNOWN
        if isinstance(result, End):
            if may_be_out:
                assert result.status in (Status.SENT, Status.UNKNOWN)
            return
        was_doubtful |= outcome is Outcome.UNKNOWN
        assert result.attempt < RETRY.max_attempts
        assert result.attempt - job.attempt in (0, 1)
        assert result.is_doubtful == was_doubtful
        assert result.bugs < 3
        if delivery is Delivery.AT_MOST_ONCE and outcome in FAILURES:
            assert is_sure
        if result.attempt > job.attempt:
            assert result.due_at is not None
            assert result.tried == ()
        job.tried, job.attempt, job.bugs = result.tried, result.attempt, result.bugs
        job.is_walk_unknown, job.is_walk_burning = result.is_walk_unknown, result.is_walk_burning
