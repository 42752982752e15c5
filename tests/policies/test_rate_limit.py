"""The token bucket: never more than it says, and never asleep for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.rate_limit import UNLIMITED, TokenBucket
from clarion.testing import ManualClock

PER_SECOND = st.floats(0.001, 1e6)
BURST = st.integers(1, 50)
START = st.floats(0, 1e7)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 60)), max_size=40)


@given(per_second=PER_SECOND, burst=BURST, start=START, steps=STEPS)
def test_no_window_of_time_sees_more_than_rate_and_burst(
    per_second: float, burst: int, start: float, steps: list[tuple[float, int]]
) -> None:
    """In any t seconds at most per_second x t + burst calls."""
    bucket, now = TokenBucket(per_second, burst, lambda: start), start
    taken: list[tuple[float, int]] = []

    for step_s, wanted in steps:
        now += step_s
        n = min(wanted, bucket.available(now))
        bucket.take(n, now)
        taken.append((now, n))

    rounding = 1e-6 * per_second + 1e-6
    for first, (since, _) in enumerate(taken):
        total = 0
        for until, n in taken[first:]:
            total += n
            assert total <= burst + per_second * (until - since) + rounding


@given(per_second=PER_SECOND, burst=BURST, start=START, waits=st.lists(st.floats(0, 2), max_size=9))
def test_who_waits_for_the_next_token_finds_it(
    per_second: float, burst: int, start: float, waits: list[float]
) -> None:
    """Exactly at the named instant, and it lies ahead: a rounding error would strand a lane."""
    bucket, now = TokenBucket(per_second, burst, lambda: start), start
    for wait_s in waits:
        bucket.take(bucket.available(now), now)
        now += wait_s
    bucket.take(bucket.available(now), now)

    at = bucket.next_at(now)

    assert at is not None and at > now
    assert bucket.available(at) >= 1
    assert bucket.next_at(at) is None


@given(
    per_second=PER_SECOND,
    burst=BURST,
    steps=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=20),
)
def test_tokens_given_back_never_exceed_the_burst(
    per_second: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    """A demand that is answered late returns tokens to a bucket that is full again."""
    bucket, now = TokenBucket(per_second, burst, lambda: 50.0), 50.0

    for wait_s, wanted in steps:
        n = min(wanted, bucket.available(now))
        bucket.take(n, now)
        now += wait_s
        bucket.give_back(n)

        assert bucket.available(now) <= burst
        assert bucket.available(now + 1e-6) == burst  # all was returned, but for a rounding


def test_a_token_given_back_is_there_once() -> None:
    """Of five that were taken three come back: three more may go, and no more."""
    bucket = TokenBucket(1.0, 5, lambda: 50.0)

    bucket.take(5, 50.0)
    bucket.give_back(3)

    assert bucket.available(50.0) == 3


def test_it_starts_full_and_refills_at_its_rate() -> None:
    """Burst first, then one token each 1 / per_second."""
    clock = ManualClock()
    bucket = TokenBucket(4.0, 2, clock.monotonic)

    at_start = bucket.available(clock.monotonic())
    bucket.take(2, clock.monotonic())
    seen = []
    for _ in range(4):
        seen.append(bucket.available(clock.monotonic()))
        clock.advance(0.25)

    assert at_start == 2
    assert seen == [0, 1, 2, 2]


def test_without_a_limit_nothing_is_counted() -> None:
    """`per_second` 0 is off."""
    bucket = TokenBucket(0.0, 1, lambda: 0.0)

    bucket.take(1_000_000, 0.0)
    bucket.give_back(5)

    assert bucket.available(0.0) == UNLIMITED
    assert bucket.next_at(0.0) is None


@pytest.mark.parametrize("burst", [0, -3])
def test_a_bucket_holds_at_least_one_token(burst: int) -> None:
    """Else nothing would ever go."""
    assert TokenBucket(1.0, burst, lambda: 0.0).available(0.0) == 1
