"""The restart budget against a model that forgets nothing."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clarion.policies.restart import CALM_S, FIRST_DELAY_S, MAX_DELAY_S, RestartBudget

STEPS = st.sampled_from([0.0, 0.25, 1.0, 5.75, 9.75, CALM_S, 10.25, 29.75, 30.0, 60.0, 90.5])
"""Sums of quarters, which floats hold exactly: the model may ask for equality at every edge."""


class Budget(RuleBasedStateMachine):
    """Crashes at any instants, of a child of any budget."""

    @initialize(
        limit=st.integers(0, 5),
        period_s=st.sampled_from([1.0, 30.0, 60.0]),
        draw=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def begin(self, limit: int, period_s: float, draw: float) -> None:
        self.limit, self.period_s, self.draw = limit, period_s, draw
        self.now = 1_000.0
        self.crashes: list[float] = []
        self.budget = RestartBudget(limit, period_s, rng=lambda: draw)

    @rule(step_s=STEPS)
    def time_passes(self, step_s: float) -> None:
        self.now += step_s

    @rule()
    def it_crashes(self) -> None:
        self.crashes.append(self.now)

        decision = self.budget.record(self.now)

        # Inclusive at both ends: a crash exactly a period ago counts, `limit` of them are allowed.
        recent = [at for at in self.crashes if self.now - at <= self.period_s]
        assert decision.is_over == (len(recent) > self.limit)
        assert decision.number == self.in_a_row()
        ceiling = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self.in_a_row() - 1))
        assert decision.delay_s == self.draw * ceiling

    def in_a_row(self) -> int:
        """Count the crashes since the last calm, the latest included."""
        n = 1
        for before, after in zip(self.crashes[-2::-1], self.crashes[:0:-1], strict=True):
            if Fraction(after) - Fraction(before) >= CALM_S:
                break
            n += 1
        return n

    @invariant()
    def it_remembers_no_more_than_it_needs(self) -> None:
        if hasattr(self, "budget"):
            assert len(self.budget._crashes) <= self.limit + 1


TestBudget = Budget.TestCase
TestBudget.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
