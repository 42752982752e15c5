"""What an answer means: every outcome under every delivery, route and past of a notification."""

from __future__ import annotations

from typing import Any

import pytest

from clarion.domain.notification import (
    Call,
    Content,
    Delivery,
    Job,
    JobState,
    Priority,
    Reason,
    Status,
)
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.retry import RetrySettings
from clarion.policies.routing import RouteState
from clarion.policies.verdict import POISON_BUGS, Again, End, Rules, Verdict, given_up, judge

NOW = 1000.0
GRACE_S = 30.0
MAX_ATTEMPTS = 3
RULES = Rules(
    RetrySettings(max_attempts=MAX_ATTEMPTS, initial_delay=1.0, multiplier=2.0, jitter=False),
    unknown_grace_s=GRACE_S,
    rng=lambda: 0.5,
)
AT_LEAST_ONCE, AT_MOST_ONCE = Delivery.AT_LEAST_ONCE, Delivery.AT_MOST_ONCE
FAILURES = (Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.UNKNOWN, Outcome.MISCONFIGURED)
NEVER_SENT = (Outcome.REFUSED, Outcome.RECALLED)

OPEN = RouteState("b", "open")
HALF_OPEN = RouteState("b", "half_open")
FORCED_OPEN = RouteState("b", "forced_open")
DISABLED = RouteState("b", "closed", is_enabled=False)
MISCONFIGURED = RouteState("b", "closed", is_misconfigured=True)
THROTTLED = RouteState("b", "closed", is_throttled=True)
DOWN = RouteState("b", "closed", is_alive=False)
CLOSED = RouteState("b", "closed")
UNBROKEN = RouteState("b", "disabled")
"""A breaker that an operator switched off lets everything through."""

CANNOT_TAKE = (OPEN, HALF_OPEN, FORCED_OPEN, DISABLED, MISCONFIGURED, THROTTLED, DOWN)
CAN_TAKE = (CLOSED, UNBROKEN)
A_UP, A_DOWN = RouteState("a", "closed"), RouteState("a", "open")


def make_job(**fields: Any) -> Job:
    values: dict[str, Any] = {
        "id": "n1",
        "channel": "email",
        "content": Content("ada@example.com", text="Hi"),
        "priority": Priority.NORMAL,
        "flow": "",
        "vt": 1.0,
        "state": JobState.SENDING,
        "created_at": 0.0,
        "expires_at": 1e9,
        "delivery": AT_LEAST_ONCE,
        "call": 1,
    }
    return Job(**(values | fields))


def make_answer(outcome: Outcome, **fields: Any) -> Answer:
    """Return an answer as adapters give it: surely not accepted, but where nobody can know."""
    values: dict[str, Any] = {"surely_not_accepted": outcome is not Outcome.UNKNOWN}
    return Answer(outcome, "test", **(values | fields))


def verdict_of(
    answer: Answer | Outcome,
    *states: RouteState,
    provider: str = "a",
    is_probe: bool = False,
    **job: Any,
) -> Verdict:
    if isinstance(answer, Outcome):
        answer = make_answer(answer)
    call = Call(make_job(**job), 1, provider, is_probe=is_probe)
    return judge(call, answer, states or (A_UP,), RULES, NOW)


def again(answer: Answer | Outcome, *states: RouteState, **rest: Any) -> Again:
    verdict = verdict_of(answer, *states, **rest)
    assert isinstance(verdict, Again)
    return verdict


# --- the ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("past", [{}, {"is_doubtful": True}, {"attempt": 2}])
@pytest.mark.parametrize("wish", [{}, {"cancel_requested": True}, {"expires_at": NOW}])
def test_accepted_always_wins(
    delivery: Delivery, past: dict[str, Any], wish: dict[str, Any]
) -> None:
    """Though it was to be cancelled, or its time was over: the provider has it."""
    verdict = verdict_of(Outcome.ACCEPTED, delivery=delivery, **past, **wish)

    assert verdict == End(Status.SENT)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.RECIPIENT, Reason.RECIPIENT), (Outcome.PERMANENT, Reason.PERMANENT)],
)
@pytest.mark.parametrize(("is_doubtful", "status"), [(False, "failed"), (True, "unknown")])
@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("wish", [{}, {"cancel_requested": True}, {"expires_at": NOW}])
def test_a_bad_address_or_message_is_dead_and_never_falls_back(
    outcome: Outcome, reason: Reason, is_doubtful: bool, status: str, delivery: Delivery,
    wish: dict[str, Any],
) -> None:  # fmt: skip
    """Another provider would say the same; `failed` only where none can have it."""
    verdict = verdict_of(outcome, A_UP, CLOSED, is_doubtful=is_doubtful, delivery=delivery, **wish)

    assert verdict == End(Status(status), reason)


@pytest.mark.parametrize("outcome", [*FAILURES, *NEVER_SENT])
@pytest.mark.parametrize("state", [CLOSED, OPEN])
@pytest.mark.parametrize(
    ("wish", "status", "reason"),
    [
        ({"cancel_requested": True}, Status.CANCELLED, Reason.CANCELLED),
        ({"expires_at": NOW}, Status.EXPIRED, Reason.EXPIRED),
        ({"cancel_requested": True, "expires_at": NOW}, Status.CANCELLED, Reason.CANCELLED),
    ],
)
@pytest.mark.parametrize("is_doubtful", [False, True])
def test_nobody_wants_it_any_more(
    outcome: Outcome, state: RouteState, wish: dict[str, Any], status: Status, reason: Reason,
    is_doubtful: bool,
) -> None:  # fmt: skip
    """A cancelled or expired one makes no further call; `unknown` where one may have it."""
    may_have_it = is_doubtful or outcome is Outcome.UNKNOWN

    verdict = verdict_of(outcome, A_UP, state, is_doubtful=is_doubtful, **wish)

    assert verdict == End(Status.UNKNOWN if may_have_it else status, reason)


def test_it_expires_at_its_instant_and_not_before() -> None:
    """`expires_at` is the first instant at which it is over."""
    assert given_up(make_job(expires_at=NOW), NOW) == End(Status.EXPIRED, Reason.EXPIRED)
    assert given_up(make_job(expires_at=NOW + 0.001), NOW) is None


@pytest.mark.parametrize("state", [*CAN_TAKE, *CANNOT_TAKE])
@pytest.mark.parametrize(
    "wish", [{}, {"cancel_requested": True}, {"expires_at": NOW}, {"is_doubtful": True}]
)
def test_at_most_once_parks_as_unknown_whatever_else_is_known(
    state: RouteState, wish: dict[str, Any]
) -> None:
    """Exactly one request ever after a lost answer, though a fallback stands open."""
    verdict = verdict_of(Outcome.UNKNOWN, A_UP, state, delivery=AT_MOST_ONCE, **wish)

    assert verdict == End(Status.UNKNOWN, Reason.UNKNOWN_OUTCOME)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.MISCONFIGURED])
def test_at_most_once_goes_on_only_where_the_provider_surely_does_not_have_it(
    outcome: Outcome,
) -> None:
    """The row of the code table decides, not the outcome alone."""
    sure = make_answer(outcome, surely_not_accepted=True)
    doubtful = make_answer(outcome, surely_not_accepted=False)

    goes_on = verdict_of(sure, A_UP, CLOSED, delivery=AT_MOST_ONCE)
    parks = verdict_of(doubtful, A_UP, CLOSED, delivery=AT_MOST_ONCE)

    assert goes_on == Again(
        None, ("a",), 0, is_walk_burning=outcome is Outcome.TRANSIENT
    )  # fmt: skip
    assert parks == End(Status.UNKNOWN, Reason.UNKNOWN_OUTCOME)


# --- the walk along the route --------------------------------------------------------------------


@pytest.mark.parametrize("state", CAN_TAKE)
@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.MISCONFIGURED])
def test_a_failed_call_goes_on_at_once_to_a_provider_that_only_a_slot_stands_before(
    outcome: Outcome, state: RouteState
) -> None:
    """Fallback within the attempt: no wait, no attempt burnt, the failed one is not tried again."""
    verdict = again(outcome, A_UP, state)

    assert (verdict.due_at, verdict.tried, verdict.attempt) == (None, ("a",), 0)


@pytest.mark.parametrize("state", CAN_TAKE)
def test_a_lost_answer_waits_for_its_receipt_before_the_next_provider(state: RouteState) -> None:
    """`at_least_once`: the grace first, then on with the same walk, marked."""
    verdict = again(Outcome.UNKNOWN, A_UP, state)

    assert (verdict.due_at, verdict.waiting) == (NOW + GRACE_S, "receipt")
    assert (verdict.tried, verdict.attempt) == (("a",), 0)
    assert verdict.is_doubtful and verdict.is_walk_unknown


@pytest.mark.parametrize("state", CANNOT_TAKE)
def test_the_walk_ends_where_every_other_provider_is_out_of_order(state: RouteState) -> None:
    """It waits for a full slot only, never for a circuit, an operator or a Retry-After."""
    verdict = again(Outcome.TRANSIENT, A_UP, state)

    assert (verdict.tried, verdict.attempt) == ((), 1)
    assert (verdict.due_at, verdict.waiting) == (NOW + 1.0, "retry")


def test_the_walk_ends_where_every_provider_was_tried() -> None:
    """The next attempt starts with the first one again, after its back-off."""
    verdict = again(Outcome.TRANSIENT, A_UP, CLOSED, provider="b", tried=("a",), attempt=1)

    assert (verdict.tried, verdict.attempt) == ((), 2)
    assert verdict.due_at == NOW + 2.0
    assert not (verdict.is_walk_burning or verdict.is_walk_unknown)


@pytest.mark.parametrize("outcome", [Outcome.TRANSIENT, Outcome.THROTTLED, Outcome.MISCONFIGURED])
@pytest.mark.parametrize("state", [OPEN, HALF_OPEN, FORCED_OPEN, DISABLED, MISCONFIGURED, DOWN])
def test_an_outage_of_everything_burns_no_attempt(outcome: Outcome, state: RouteState) -> None:
    """Nobody could have taken it; it waits at the head of a held lane."""
    verdict = again(outcome, A_DOWN, state, attempt=MAX_ATTEMPTS - 1)

    assert (verdict.due_at, verdict.tried, verdict.attempt) == (None, (), MAX_ATTEMPTS - 1)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.MISCONFIGURED])
def test_a_walk_of_throttled_and_misconfigured_calls_burns_no_attempt(outcome: Outcome) -> None:
    """The message is as good as before; it goes on once a gate opens."""
    verdict = again(outcome, A_UP, CLOSED, provider="b", tried=("a",), attempt=MAX_ATTEMPTS - 1)

    assert (verdict.due_at, verdict.tried, verdict.attempt) == (None, (), MAX_ATTEMPTS - 1)


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.MISCONFIGURED])
def test_one_failed_call_makes_the_whole_walk_burn_an_attempt(outcome: Outcome) -> None:
    """What its first call came to is remembered until the walk is over."""
    verdict = again(outcome, A_UP, CLOSED, provider="b", tried=("a",), is_walk_burning=True)

    assert verdict.attempt == 1


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_lost_answer_in_the_walk_burns_an_attempt_even_in_an_outage(outcome: Outcome) -> None:
    """Otherwise a provider that takes and hangs would get it again for ever."""
    verdict = again(outcome, A_DOWN, OPEN, provider="b", tried=("a",), is_walk_unknown=True)

    assert verdict.attempt == 1
    assert verdict.tried == ()


@pytest.mark.parametrize(("is_doubtful", "status"), [(False, "failed"), (True, "unknown")])
def test_the_last_attempt_ends_it_as_exhausted(is_doubtful: bool, status: str) -> None:
    """Attempts include the first; with a lost answer behind it nobody can say `failed`."""
    verdict = verdict_of(Outcome.TRANSIENT, attempt=MAX_ATTEMPTS - 1, is_doubtful=is_doubtful)

    assert verdict == End(Status(status), Reason.EXHAUSTED)


def test_retry_after_is_a_floor_for_the_next_attempt() -> None:
    """The provider's wish counts at the end of a walk that burnt."""
    verdict = again(make_answer(Outcome.TRANSIENT, retry_after_s=77.0))

    assert verdict.due_at == NOW + 77.0


def test_the_end_of_a_walk_by_a_lost_answer_waits_at_least_for_the_receipt() -> None:
    """The longer of the grace and the back-off."""
    short = again(Outcome.UNKNOWN)
    long = again(make_answer(Outcome.UNKNOWN, retry_after_s=2 * GRACE_S))

    assert (short.due_at, short.waiting) == (NOW + GRACE_S, "receipt")
    assert (long.due_at, long.waiting) == (NOW + 2 * GRACE_S, "receipt")


# --- calls that never left -----------------------------------------------------------------------


@pytest.mark.parametrize("outcome", NEVER_SENT)
@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("is_doubtful", [False, True])
def test_a_call_that_never_left_changes_nothing(
    outcome: Outcome, delivery: Delivery, is_doubtful: bool
) -> None:
    """Back to the head of the lane at once, as it was."""
    past: dict[str, Any] = {
        "tried": ("a",), "attempt": 2, "is_doubtful": is_doubtful, "is_walk_unknown": True,
        "is_walk_burning": True, "probes": 3, "bugs": 1,
    }  # fmt: skip

    verdict = again(outcome, A_UP, CLOSED, provider="b", delivery=delivery, **past)

    assert verdict == Again(None, past.pop("tried"), past.pop("attempt"), **past)


# --- probes and bugs -----------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.MISCONFIGURED])
@pytest.mark.parametrize(("probes", "wait_s"), [(0, 1.0), (1, 2.0), (4, 16.0)])
def test_a_failed_probe_steps_back_so_that_the_next_one_is_another(
    outcome: Outcome, probes: int, wait_s: float
) -> None:
    """Further each time; it costs no attempt while nothing stands open."""
    verdict = again(outcome, A_DOWN, OPEN, is_probe=True, probes=probes)

    assert (verdict.due_at, verdict.waiting) == (NOW + wait_s, "retry")
    assert (verdict.attempt, verdict.probes) == (0, probes + 1)


def test_a_failed_probe_goes_on_to_a_fallback_that_stands_open() -> None:
    """It need not wait for the circuit that it tried out."""
    verdict = again(Outcome.TRANSIENT, A_DOWN, CLOSED, is_probe=True)

    assert (verdict.due_at, verdict.tried, verdict.probes) == (None, ("a",), 1)


@pytest.mark.parametrize("state", [CLOSED, OPEN])
@pytest.mark.parametrize(("is_doubtful", "status"), [(False, "failed"), (True, "unknown")])
def test_a_third_bug_ends_it_as_poison(state: RouteState, is_doubtful: bool, status: str) -> None:
    """The same notification must not make our own code fail for ever."""
    bug = make_answer(Outcome.TRANSIENT, is_bug=True)

    verdict = verdict_of(bug, A_UP, state, bugs=POISON_BUGS - 1, is_doubtful=is_doubtful)

    assert verdict == End(Status(status), Reason.POISON)


def test_a_bug_waits_even_in_an_outage() -> None:
    """Otherwise it would meet the bug again at once."""
    verdict = again(make_answer(Outcome.TRANSIENT, is_bug=True), A_DOWN, OPEN)

    assert (verdict.due_at, verdict.bugs, verdict.attempt) == (NOW + 1.0, 1, 0)
