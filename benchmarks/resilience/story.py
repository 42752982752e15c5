"""What became of a trace, whoever went through it, and the figures that are read from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import percentile
from benchmarks.resilience.trace import SICK, Trace

LATE_S = 10.0
"""What a person who waits for a code no longer calls quick."""
RUN = 40
"""Calls in a row whose shares are looked at."""
LEFT_SHARE = 0.1
"""Of the calls: a provider that gets no more has been left."""
BACK_SHARE = 0.4
"""Of the calls: with half as its rest, a provider that gets so much is back."""


@dataclass(frozen=True, order=True, slots=True)
class Call:
    """One call to a provider, at its beginning."""

    at: float
    provider: str
    is_accepted: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `delivered_at` None: not within the story."""

    created_at: float
    delivered_at: float | None


@dataclass(frozen=True, slots=True)
class Story:
    """Calls in order, and messages."""

    calls: Sequence[Call]
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a trace came to; seconds of virtual time."""

    failed_calls: int
    left_after_s: float | None
    """From the onset until the sick provider gets next to no calls; None: never."""
    back_after_s: float | None
    """From its recovery until it has its share again; None: not within the story."""
    delay_p50_s: float
    """From the request to the provider's acceptance, of the messages of the bad time."""
    delay_p99_s: float
    late_share: float
    """Of them: how many took longer than `LATE_S`."""
    undelivered: int


def figures(story: Story, trace: Trace) -> Figures:
    """Read the figures."""
    bad = [each for each in story.messages if trace.onset_s <= each.created_at < trace.recovery_s]
    delays = sorted(
        each.delivered_at - each.created_at for each in bad if each.delivered_at is not None
    )
    undelivered = len(bad) - len(delays)
    late = sum(delay > LATE_S for delay in delays) + undelivered
    return Figures(
        failed_calls=sum(not each.is_accepted for each in story.calls),
        left_after_s=_run_after(
            story.calls, trace.onset_s, trace.recovery_s, lambda share: share <= LEFT_SHARE
        ),
        back_after_s=_run_after(
            story.calls, trace.recovery_s, float("inf"), lambda share: share >= BACK_SHARE
        ),
        delay_p50_s=percentile(delays, 0.5),
        delay_p99_s=percentile(delays, 0.99),
        late_share=late / max(len(bad), 1),
        undelivered=undelivered,
    )


def _run_after(
    calls: Sequence[Call], since: float, until: float, is_so: Callable[[float], bool]
) -> float | None:
    """Return from when on a run of calls has such a share of the sick provider's."""
    found = [each for each in calls if since <= each.at < until]
    for first in range(len(found) - RUN + 1):
        run = found[first : first + RUN]
        if is_so(sum(each.provider == SICK for each in run) / RUN):
            return run[0].at - since
    return None
