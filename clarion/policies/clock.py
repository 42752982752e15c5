"""The only place that asks the time; everything else is given a clock.

`monotonic()` measures durations, `now()` names instants (seconds since the Unix epoch, UTC).
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, from an arbitrary origin."""
        ...

    def now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clocks: `time.monotonic` and `time.time` themselves, not a call to them."""

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)
