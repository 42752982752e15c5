"""The token bucket against a bucket of fractions, which holds what it holds to the last part."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from clarion.policies.rate_limit import TokenBucket

START = 4096.0
RATES = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0, 64.0])
STEPS = st.integers(0, 640).map(lambda n: n / 64)
"""Powers of two and their sums, which floats hold exactly: the model asks for equality."""


class Bucket(RuleBasedStateMachine):
    """Tokens that are taken, given back and awaited, in any order."""

    @initialize(per_second=RATES, burst=st.integers(1, 12))
    def begin(self, per_second: float, burst: int) -> None:
        self.rate, self.burst = Fraction(per_second), burst
        self.now, self.tokens, self.out = START, Fraction(burst), 0
        self.bucket = TokenBucket(per_second, burst, lambda: START)

    @rule(step_s=STEPS)
    def time_passes(self, step_s: float) -> None:
        self.move_to(self.now + step_s)

    def move_to(self, now: float) -> None:
        refilled = self.tokens + (Fraction(now) - Fraction(self.now)) * self.rate
        self.now, self.tokens = now, min(Fraction(self.burst), refilled)
        assert self.bucket.available(now) == floor(self.tokens)

    @rule(wanted=st.integers(0, 12))
    def some_are_taken(self, wanted: int) -> None:
        n = min(wanted, self.bucket.available(self.now))

        self.bucket.take(n, self.now)

        self.tokens -= n
        self.out += n
        assert self.bucket.available(self.now) == floor(self.tokens)

    @rule(wanted=st.integers(0, 12))
    def some_come_back(self, wanted: int) -> None:
        n = min(wanted, self.out)

        self.bucket.give_back(n)

        self.out -= n
        self.tokens = min(Fraction(self.burst), self.tokens + n)
        assert self.bucket.available(self.now) == floor(self.tokens)

    @precondition(lambda self: self.tokens < 1)
    @rule()
    def the_next_one_is_awaited(self) -> None:
        at = self.bucket.next_at(self.now)

        assert at is not None
        assert Fraction(at) == Fraction(self.now) + (1 - self.tokens) / self.rate
        self.move_to(at)
        assert self.bucket.available(at) == 1

    @precondition(lambda self: self.tokens >= 1)
    @rule()
    def nobody_waits_for_what_is_there(self) -> None:
        assert self.bucket.next_at(self.now) is None


TestBucket = Bucket.TestCase
TestBucket.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
