"""When to try again: bounds that hold for every setting and every draw."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.growth import grown
from clarion.policies.retry import RetrySettings, delay_s

SECONDS = st.floats(0, 1e6)
SETTINGS = st.builds(
    RetrySettings,
    initial_delay=SECONDS,
    multiplier=st.floats(1, 1e300),
    max_delay=SECONDS,
    jitter=st.booleans(),
    retry_after_max=SECONDS,
)
DRAW = st.floats(0, 1, exclude_max=True)


@given(settings=SETTINGS, attempt=st.integers(1, 10_000), draw=DRAW)
def test_a_wait_lies_between_nothing_and_the_ceiling(
    settings: RetrySettings, attempt: int, draw: float
) -> None:
    """U(0, min(max_delay, initial x multiplier^(k-1))), and never an overflow."""
    ceiling = grown(settings.initial_delay, settings.multiplier, attempt - 1, settings.max_delay)

    wait_s = delay_s(settings, attempt, lambda: draw)

    assert 0 <= wait_s <= ceiling <= settings.max_delay
    assert wait_s == (draw * ceiling if settings.jitter else ceiling)


@given(settings=SETTINGS, wish=st.none() | SECONDS, draw=DRAW)
def test_a_wish_is_a_floor_up_to_its_own_maximum(
    settings: RetrySettings, wish: float | None, draw: float
) -> None:
    """The longer of the draw and the Retry-After that is believed."""
    wait_s = delay_s(settings, 3, lambda: draw, wish)

    assert wait_s >= min(wish or 0.0, settings.retry_after_max)
    assert wait_s in (
        delay_s(settings, 3, lambda: draw),
        min(wish or 0.0, settings.retry_after_max),
    )


def test_without_jitter_waits_grow_to_the_maximum() -> None:
    """1, 2, 4, 8, then the maximum; attempt 1 is the first."""
    settings = RetrySettings(initial_delay=1.0, multiplier=2.0, max_delay=10.0, jitter=False)

    waits = [delay_s(settings, attempt, random.random) for attempt in range(1, 7)]

    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_does_not_vanish_at_the_maximum() -> None:
    """A hundred jobs that reached it spread over all of it: the cap comes before the draw."""
    settings = RetrySettings(max_delay=60.0)
    rng = random.Random(1).random

    waits = [delay_s(settings, 20, rng) for _ in range(100)]

    assert len(set(waits)) == 100
    assert min(waits) < 10.0 and max(waits) > 50.0


def test_a_server_does_not_delay_beyond_what_is_believed() -> None:
    """A Retry-After of a year is a fault of the server."""
    settings = RetrySettings(retry_after_max=120.0)

    assert delay_s(settings, 1, lambda: 0.0, 31_536_000.0) == 120.0


def test_waits_of_concurrent_calls_share_no_state() -> None:
    """The wait depends on the attempt alone, not on who asked before."""
    settings = RetrySettings(jitter=False)

    waits = [delay_s(settings, attempt, random.random) for attempt in (1, 1, 2, 1, 2)]

    assert waits == [1.0, 1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 0),
        ("multiplier", 0.9),
        ("initial_delay", -1.0),
        ("max_delay", math.inf),
        ("retry_after_max", math.nan),
    ],
)
def test_retry_settings_that_cannot_work_are_refused(name: str, value: float) -> None:
    """The message names the setting and the value."""
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        RetrySettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "expected"), [(1.0, 600.0), (0.0, 0.0)], ids=["something", "nothing"]
)
def test_growth_beyond_every_number_is_the_longest(first: float, expected: float) -> None:
    """An OverflowError here would stop a lane for good."""
    assert grown(first, 1e9, 1_000_000, 600.0) == expected
