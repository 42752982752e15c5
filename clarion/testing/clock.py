"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """Implements `policies.clock.Clock`; both times move together, by `advance` alone."""

    def __init__(self, now: float = 1_700_000_000.0, monotonic: float = 1_000.0) -> None:
        """Start at `now` (seconds since the epoch) and `monotonic` (seconds, any origin)."""
        self._now = now
        self._monotonic = monotonic

    def monotonic(self) -> float:
        """Return the monotonic seconds; they never go back."""
        return self._monotonic

    def now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks; ValueError when negative."""
        if seconds < 0:
            raise ValueError(f"time only moves forward, not by {seconds} s; see step_wall_clock")
        self._now += seconds
        self._monotonic += seconds

    def step_wall_clock(self, seconds: float) -> None:
        """Step the wall clock alone, back too, as an administrator or NTP does."""
        self._now += seconds
