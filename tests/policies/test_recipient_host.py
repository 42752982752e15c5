"""A webhook's host is its recipient's: what it does is felt by its own messages alone."""

from __future__ import annotations

from typing import Any

import pytest

from clarion.domain.notification import (
    Call,
    Content,
    Delivery,
    Draft,
    Job,
    JobState,
    Priority,
    Reason,
    Status,
)
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.admission import admit
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.policies.retry import RetrySettings
from clarion.policies.routing import RouteState
from clarion.policies.verdict import Again, End, Rules, judge
from clarion.testing import ManualClock

NOW = 1000.0
RULES = Rules(
    RetrySettings(max_attempts=3, initial_delay=1.0, multiplier=2.0, jitter=False),
    unknown_grace_s=30.0,
    rng=lambda: 0.5,
)
ROUTE = (RouteState("first", "closed"), RouteState("second", "closed"))
BUSY = Answer(
    Outcome.THROTTLED, "host_busy", surely_not_accepted=True, is_host_only=True
)  # fmt: skip
DEAD = Answer(
    Outcome.TRANSIENT, "connect_failed", surely_not_accepted=True, is_host_only=True
)  # fmt: skip


def draft(to: str, channel: str = "webhook", tenant: str | None = None) -> Draft:
    return Draft(channel, Content(to, text="Hi"), tenant=tenant)


def flow(of: Draft) -> str:
    """Return the flow that a draft is stamped in."""
    return admit(
        of, id="n1", now=NOW, stamp=lambda _priority, _flow: 0.0,
        delivery=Delivery.AT_LEAST_ONCE, expires_after_s=60.0,
    ).flow  # fmt: skip


def call(**fields: Any) -> Call:
    job = Job(
        "n1", "webhook", Content("https://h.example/", text="Hi"), Priority.NORMAL, "", 0.0,
        JobState.SENDING, created_at=0.0, expires_at=1e12, delivery=Delivery.AT_LEAST_ONCE,
        **fields,
    )  # fmt: skip
    return Call(job, 1, "first")


def again(answer: Answer, **fields: Any) -> Again:
    verdict = judge(call(**fields), answer, ROUTE, RULES, NOW)
    assert isinstance(verdict, Again)
    return verdict


def test_a_full_host_costs_no_attempt_and_lets_its_message_step_back() -> None:
    """Though another provider stands open, it would meet the same host."""
    verdict = again(BUSY)

    assert (verdict.due_at, verdict.waiting) == (NOW + 1.0, "retry")
    assert (verdict.attempt, verdict.tried, verdict.probes) == (0, (), 1)


def test_a_message_steps_back_further_each_time() -> None:
    """A long queue for one host must not come back all at once, again and again."""
    waits = [again(BUSY, probes=times).due_at for times in range(5)]

    assert waits == [NOW + wait for wait in (1.0, 2.0, 4.0, 8.0, 16.0)]


def test_a_host_that_names_its_time_is_believed() -> None:
    """Retry-After is a floor for the messages of that host."""
    wish = Answer(Outcome.THROTTLED, "host_throttled", "", True, 90.0, is_host_only=True)

    assert again(wish).due_at == NOW + 90.0


def test_a_failure_of_a_host_burns_an_attempt_and_tries_no_other_provider() -> None:
    """It backs off as usual, and ends as exhausted in the end."""
    first = again(DEAD)
    last = judge(call(attempt=2), DEAD, ROUTE, RULES, NOW)

    assert (first.attempt, first.due_at, first.tried) == (1, NOW + 1.0, ())
    assert last == End(Status.FAILED, Reason.EXHAUSTED)


def test_a_lost_answer_of_a_host_waits_for_its_grace() -> None:
    """It may have the message; that it is marked does not depend on whose host it is."""
    verdict = again(Answer(Outcome.UNKNOWN, "timeout", is_host_only=True))

    assert (verdict.due_at, verdict.waiting, verdict.is_doubtful) == (NOW + 30.0, "receipt", True)


def test_a_failure_of_the_provider_itself_goes_on_to_the_next() -> None:
    """The walk along the route is for providers, as ever."""
    verdict = again(Answer(Outcome.TRANSIENT, "bug", surely_not_accepted=True))

    assert (verdict.due_at, verdict.tried) == (None, ("first",))


def test_what_tells_of_one_recipient_goes_on_to_the_next_provider() -> None:
    """A greylisting server is no reason to wait where another one may take the mail at once."""
    grey = Answer(Outcome.TRANSIENT, "smtp_451_4.7.1", "", True, 300.0, is_recipient_only=True)

    verdict = again(grey)

    assert (verdict.due_at, verdict.tried) == (None, ("first",))


@pytest.mark.parametrize(("is_host_only", "window"), [(True, 4), (False, 2)])
def test_a_failure_of_a_host_does_not_slow_a_recovering_provider_down(
    is_host_only: bool, window: int
) -> None:
    """The slow start measures the provider."""
    gate = Gate("p", 8, TokenBucket(0.0, 1, ManualClock().monotonic), is_known=True, window=4)
    gate.in_flight[("n1", 1)] = False

    gate.free(("n1", 1), Answer(Outcome.UNKNOWN, "timeout", is_host_only=is_host_only), NOW)

    assert gate.window == window


def test_a_full_host_uses_no_token_of_the_rate_limit() -> None:
    """Its messages come back before the wire; those of other hosts need the tokens."""
    clock = ManualClock()
    gate = Gate("p", 8, TokenBucket(1.0, 1, clock.monotonic), is_known=True)
    gate.reserve(1, 1, is_probe=False, now=clock.monotonic())
    assert gate.occupy(1, ("n1", 1), now=clock.monotonic())
    used_up = gate.opening(clock.monotonic()).n

    gate.free(("n1", 1), BUSY, clock.monotonic())

    assert (used_up, gate.opening(clock.monotonic()).n) == (0, 1)


def test_messages_to_one_host_are_one_flow_of_their_tenant() -> None:
    """A long queue for a slow host does not stand before the tenant's other messages."""
    one = flow(draft("https://a.example/x", tenant="acme"))

    assert flow(draft("https://A.example:443/y", tenant="acme")) == one
    assert flow(draft("https://b.example/x", tenant="acme")) != one
    assert flow(draft("https://a.example/x", tenant="other")) != one
    assert flow(draft("https://a.example/x")) != one


def test_the_flow_of_every_other_channel_is_its_tenant() -> None:
    """Addresses of mail and phones are no unit of fairness."""
    assert flow(draft("ada@example.com", "email", "acme")) == "acme"
    assert flow(draft("+15551234567", "sms")) == ""
