"""A test's clock stands still until the test moves it."""

from __future__ import annotations

import pytest

from clarion.policies.clock import Clock
from clarion.testing import ManualClock


def test_both_times_move_together_and_by_advance_alone() -> None:
    """`advance` moves the wall clock and the monotonic clock by the same seconds."""
    manual = ManualClock(now=100.0, monotonic=7.0)
    clock: Clock = manual

    before = (clock.now(), clock.monotonic())
    manual.advance(2.5)

    assert before == (100.0, 7.0)
    assert (clock.now(), clock.monotonic()) == (102.5, 9.5)


def test_a_stepped_wall_clock_leaves_the_monotonic_clock_alone() -> None:
    """NTP may step the wall clock back; the monotonic clock never goes back."""
    clock = ManualClock(now=100.0, monotonic=7.0)

    clock.step_wall_clock(-50.0)

    assert (clock.now(), clock.monotonic()) == (50.0, 7.0)


def test_time_does_not_run_backwards() -> None:
    """A negative `advance` is a mistake of the test and is refused."""
    clock = ManualClock()

    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1.0)
