"""What happens, in virtual time: when messages come, and how one of two providers behaves.

A trace knows no rule: the engine and the model of GOV.UK Notify's rules go through the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from clarion.testing.simulated_provider import MOODS, Mood

SICK, WELL = "sick", "well"
"""The two providers, each with half of the traffic while nothing is wrong."""
PROVIDERS = (SICK, WELL)

GOOD = Mood("good", latency_s=(0.05, 0.3))
SLOWER = 10.0


class Trouble(StrEnum):
    """What is wrong with one of two providers."""

    DEAD = "dead"
    """It refuses connections."""
    HUNG = "hung"
    """It takes the request and never answers."""
    SLOW = "slow x10"
    """It takes ten times as long."""
    FAILING = "30 % fail"
    """It answers three of ten calls with a 500."""


MOODS_OF: dict[Trouble, tuple[Mood, ...]] = {
    Trouble.DEAD: (replace(MOODS["refuses_connections"], latency_s=(0.001, 0.01)),),
    Trouble.HUNG: (replace(MOODS["hangs"], takes=0.0),),
    Trouble.SLOW: (replace(GOOD, name="slow", latency_s=(0.05 * SLOWER, 0.3 * SLOWER)),),
    Trouble.FAILING: (*[GOOD] * 7, *[replace(MOODS["answers_500"], latency_s=(0.05, 0.3))] * 3),
}
"""Each call meets one of these."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One story: well until `onset_s`, sick until `recovery_s`, well until `end_s`."""

    trouble: Trouble
    per_second: float
    onset_s: float = 60.0
    recovery_s: float = 660.0
    end_s: float = 1_360.0
    """A circuit is open for ten minutes at most, and some: it has to be seen to close."""
    seed: int = 1

    def arrivals(self) -> Iterator[float]:
        """Yield when messages come, independently of each other."""
        rng = self.rng("arrivals")
        at = 0.0
        while (at := at + rng.expovariate(self.per_second)) < self.end_s:
            yield at

    def moods(self, at: float) -> tuple[Mood, ...]:
        """Return how the sick provider is at an instant."""
        is_sick = self.onset_s <= at < self.recovery_s
        return MOODS_OF[self.trouble] if is_sick else (GOOD,)

    def rng(self, purpose: str) -> Random:
        """Return a source of chances of its own."""
        return Random(f"{self.seed} {purpose}")
