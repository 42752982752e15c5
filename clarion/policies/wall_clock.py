"""Whether the wall clock was set back: what had to wait by it would wait that much longer.

The monotonic clock tells: the two run side by side, and where the wall clock falls behind it was
set. Forward needs no care, since what is due by the new time is due.
"""

from __future__ import annotations

from clarion.policies.clock import Clock

STEP_S = 5.0
"""Falling behind by less is left alone: nothing waits longer by more than that."""


class WallClockWatch:
    """Compares both clocks whenever it is asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lead_s = self._lead()

    def _lead(self) -> float:
        return self._clock.now() - self._clock.monotonic()

    def set_back_s(self) -> float:
        """Return by how many seconds the wall clock was set back since this was last told."""
        lead_s = self._lead()
        back_s = self._lead_s - lead_s
        if 0.0 < back_s < STEP_S:
            return 0.0  # Not forgotten: many small steps add up.
        self._lead_s = lead_s
        return max(0.0, back_s)
