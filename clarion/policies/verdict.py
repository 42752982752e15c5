"""What an answer means for its notification: the end, or another try, and when.

An *attempt* is one walk along the route. A call that fails lets the walk go on with the next
provider that only a slot stands before; where none is left the walk ends, `tried` is emptied, and
it costs an attempt if some circuit of the route is still closed and not every call was THROTTLED
or MISCONFIGURED, and always if one of its calls was UNKNOWN. So an outage of everything costs none.

An answer that tells of the recipient's host alone ends the walk: another provider would meet the
same host. The notification steps back, further each time, and nobody else's waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from clarion.domain.notification import Call, Delivery, Job, Reason, Status
from clarion.domain.outcome import Answer, Outcome
from clarion.domain.value import value_class
from clarion.policies.allotment import still_tried
from clarion.policies.retry import RetrySettings, delay_s
from clarion.policies.routing import RouteState

POISON_BUGS = 3
"""The same job met our own bug so often: it ends as poison."""


@value_class
class End:
    """The notification ends."""

    status: Status
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The notification goes on."""

    due_at: float | None
    """None: at once, at the head of the lane."""
    tried: tuple[str, ...]
    attempt: int
    waiting: str | None = None
    is_doubtful: bool = False
    is_walk_unknown: bool = False
    is_walk_burning: bool = False
    probes: int = 0
    bugs: int = 0


Verdict = End | Again


@dataclass(frozen=True, slots=True)
class Rules:
    """What a verdict depends on besides the job: the channel's settings."""

    retry: RetrySettings
    unknown_grace_s: float
    rng: Callable[[], float]


def judge(
    call: Call, answer: Answer, route: Sequence[RouteState], rules: Rules, now: float
) -> Verdict:
    """Decide what becomes of a job after one of its calls ended."""
    job = call.job
    match answer.outcome:
        case Outcome.ACCEPTED:
            return End(Status.SENT)
        case Outcome.RECIPIENT:
            return dead(job, Reason.RECIPIENT)
        case Outcome.PERMANENT:
            return dead(job, Reason.PERMANENT)
        case Outcome.REFUSED | Outcome.RECALLED:
            return given_up(job, now) or _unchanged(job)
        case Outcome.THROTTLED | Outcome.TRANSIENT | Outcome.UNKNOWN | Outcome.MISCONFIGURED:
            return _failed(call, answer, route, rules, now)
        case _:
            assert_never(answer.outcome)


def dead(job: Job, reason: Reason) -> End:
    """End as `failed`, or as `unknown` where some provider may have it after all."""
    return End(Status.UNKNOWN if job.is_doubtful else Status.FAILED, reason)


def given_up(job: Job, now: float) -> End | None:
    """Return the end of a job that nobody wants any more, if that is so."""
    if job.cancel_requested:
        return End(Status.UNKNOWN if job.is_doubtful else Status.CANCELLED, Reason.CANCELLED)
    if now >= job.expires_at:
        return End(Status.UNKNOWN if job.is_doubtful else Status.EXPIRED, Reason.EXPIRED)
    return None


def worn_out(job: Job, route: Sequence[RouteState], rules: Rules) -> End | None:
    """Return the end of a job whose walk led nowhere, where that was its last attempt."""
    if still_tried(route, job) == job.tried:
        return None
    is_burnt = _is_burnt(route, job.is_walk_unknown, job.is_walk_burning)
    is_last = job.attempt + is_burnt >= rules.retry.max_attempts
    return dead(job, Reason.EXHAUSTED) if is_last else None


def begin_anew(job: Job, route: Sequence[RouteState]) -> None:
    """Let a job whose walk led nowhere start over.

    Only once a call's intent is durable, so that its end writes it down: a job that waits stands
    in the lane as its row does, or it is lost when it is left to the disk.
    """
    job.attempt += _is_burnt(route, job.is_walk_unknown, job.is_walk_burning)
    job.tried = ()
    job.is_walk_unknown = job.is_walk_burning = False


def _is_burnt(route: Sequence[RouteState], is_unknown: bool, is_burning: bool) -> bool:
    """Whether a walk that ends now costs an attempt."""
    return is_unknown or (is_burning and any(state.is_closed for state in route))


def _unchanged(job: Job) -> Again:
    return Again(
        None, job.tried, job.attempt,
        is_doubtful=job.is_doubtful, is_walk_unknown=job.is_walk_unknown,
        is_walk_burning=job.is_walk_burning, probes=job.probes, bugs=job.bugs,
    )  # fmt: skip


def _failed(
    call: Call, answer: Answer, route: Sequence[RouteState], rules: Rules, now: float
) -> Verdict:
    job = call.job
    is_unknown = answer.outcome is Outcome.UNKNOWN
    if job.delivery is Delivery.AT_MOST_ONCE and not answer.surely_not_accepted:
        return End(Status.UNKNOWN, Reason.UNKNOWN_OUTCOME)
    job.is_doubtful = job.is_doubtful or is_unknown
    bugs = job.bugs + answer.is_bug
    if bugs >= POISON_BUGS:
        return dead(job, Reason.POISON)
    end = given_up(job, now)
    if end is not None:
        return end
    step = Again(
        None, (*job.tried, call.provider), job.attempt,
        is_doubtful=job.is_doubtful,
        is_walk_unknown=job.is_walk_unknown or is_unknown,
        is_walk_burning=job.is_walk_burning or _is_burning(answer.outcome),
        probes=job.probes + (call.is_probe or answer.is_host_only), bugs=bugs,
    )  # fmt: skip
    if not answer.is_host_only and _has_next(step, route):
        return _wait(step, now + rules.unknown_grace_s, "receipt") if is_unknown else step
    return _end_walk(job, call, answer, step, route, rules, now)


def _has_next(step: Again, route: Sequence[RouteState]) -> bool:
    return any(state.can_take and state.provider not in step.tried for state in route)


def _is_burning(outcome: Outcome) -> bool:
    return outcome in (Outcome.TRANSIENT, Outcome.UNKNOWN)


def _end_walk(
    job: Job, call: Call, answer: Answer, step: Again,
    route: Sequence[RouteState], rules: Rules, now: float,
) -> Verdict:  # fmt: skip
    is_burnt = _is_burnt(route, step.is_walk_unknown, step.is_walk_burning)
    attempt = job.attempt + is_burnt
    if attempt >= rules.retry.max_attempts:
        return dead(job, Reason.EXHAUSTED)
    over = Again(
        None, (), attempt,
        is_doubtful=step.is_doubtful, probes=step.probes, bugs=step.bugs,
    )  # fmt: skip
    if is_burnt or answer.is_bug:
        # A throttled provider's wish is its gate's business; the others need not wait for it.
        is_wish = answer.outcome is not Outcome.THROTTLED or answer.is_host_only
        floor = answer.retry_after_s if is_wish else None
        delay = delay_s(rules.retry, max(1, attempt), rules.rng, floor)
    elif answer.is_host_only:
        delay = delay_s(rules.retry, step.probes, rules.rng, answer.retry_after_s)
    elif call.is_probe:
        # The next probe should be another notification, so this one steps back.
        delay = delay_s(rules.retry, step.probes, rules.rng)
    else:
        return over
    if answer.outcome is Outcome.UNKNOWN:
        return _wait(over, now + max(delay, rules.unknown_grace_s), "receipt")
    return _wait(over, now + delay, "retry")


def _wait(step: Again, due_at: float, waiting: str) -> Again:
    return Again(
        due_at, step.tried, step.attempt, waiting,
        is_doubtful=step.is_doubtful, is_walk_unknown=step.is_walk_unknown,
        is_walk_burning=step.is_walk_burning, probes=step.probes, bugs=step.bugs,
    )  # fmt: skip
