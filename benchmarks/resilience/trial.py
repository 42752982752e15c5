"""The figures of one trial with real processes: what customers and operators would have noticed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.load import percentile
from benchmarks.resilience.stage import FIRST, SECOND, Record
from benchmarks.resilience.trace import Trouble

FULL_SHARE = 0.95
"""Of the deliveries: a preferred provider that gets so much has all its traffic."""
WINDOW_S = 0.5
"""For how long it has to have it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trouble, in seconds and milliseconds of the machine's clocks."""

    trouble: Trouble
    first_failure_s: float | None
    """From the onset to the first failed call; None: none failed."""
    fallback_s: float | None
    """From the onset to the first delivery by the other provider; None: there was none."""
    kept: float
    """Deliveries per second while it is sick, by those before."""
    silence_ms: float
    """The longest time without a delivery, while it is sick."""
    well_p50_ms: float
    well_p99_ms: float
    """From acceptance to delivery, of the messages before the onset."""
    sick_p50_ms: float
    sick_p99_ms: float
    """The same, of the messages of the sick time."""
    full_s: float | None
    """From the recovery until the provider has all its traffic again; None: not seen."""
    failed_calls: int
    lost: int
    """Accepted and never delivered: has to be 0."""
    doubled: int
    """Delivered more than once."""
    unmarked: int
    """Of these, not marked as possibly doubled: has to be 0."""

    @property
    def failover_ms(self) -> float | None:
        """From the first failed call to the first delivery by the other; below 0: before it."""
        if self.first_failure_s is None or self.fallback_s is None:
            return None
        return (self.fallback_s - self.first_failure_s) * 1000.0


def trial_of(trouble: Trouble, record: Record) -> Trial:
    """Read the figures."""
    taken = sorted(record.taken)
    times = [at for at, _, _ in taken]
    by_id = Counter(id for _, _, id in taken)
    doubled = {id for id, n in by_id.items() if n > 1}
    onset, recovery = record.onset_at, record.recovery_at
    after = [at for at, provider, _ in taken if provider == SECOND and at >= onset]
    before_rate = _count(times, record.began_at, onset) / (onset - record.began_at)
    sick_rate = _count(times, onset, recovery) / (recovery - onset)
    well = _delays_ms(record, record.began_at, onset)
    sick = _delays_ms(record, onset, recovery)
    return Trial(
        trouble=trouble,
        first_failure_s=record.failed_at[0] - onset if record.failed_at else None,
        fallback_s=after[0] - onset if after else None,
        kept=sick_rate / before_rate if before_rate else 0.0,
        silence_ms=_silence_s(times, onset, recovery) * 1000.0,
        well_p50_ms=percentile(well, 0.5),
        well_p99_ms=percentile(well, 0.99),
        sick_p50_ms=percentile(sick, 0.5),
        sick_p99_ms=percentile(sick, 0.99),
        full_s=_full_after_s(record),
        failed_calls=len(record.failed_at),
        lost=record.accepted - len(by_id),
        doubled=len(doubled),
        unmarked=len(doubled - record.marked),
    )


def _count(times: list[float], since: float, until: float) -> int:
    return bisect_left(times, until) - bisect_left(times, since)


def _silence_s(times: list[float], since: float, until: float) -> float:
    within = times[bisect_left(times, since) : bisect_left(times, until)]
    return max(later - at for at, later in pairwise([since, *within, until]))


def _delays_ms(record: Record, since: float, until: float) -> list[float]:
    """Return how long the messages of a time took to their first delivery, in order."""
    first_at: dict[str, float] = {}
    for at, _, id in sorted(record.taken):
        first_at.setdefault(id, at)
    return sorted(
        (first_at[id] - at) * 1000.0
        for id, at in record.created_at.items()
        if since <= at < until and id in first_at
    )


def _full_after_s(record: Record) -> float | None:
    """Return from when on the first provider has its traffic, for a whole window."""
    taken = sorted((at, provider) for at, provider, _ in record.taken if at >= record.recovery_at)
    for n, (since, provider) in enumerate(taken):
        if since + WINDOW_S > record.ended_at:
            return None
        if provider == FIRST:
            window = [name for at, name in taken[n:] if at < since + WINDOW_S]
            if window.count(FIRST) >= FULL_SHARE * len(window):
                return since - record.recovery_at
    return None
