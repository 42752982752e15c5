"""When a circuit opens and how it recovers: the settings of `policies.breaker`, and their meaning.

The same keys as `[providers.NAME.breaker]` in the settings file, and `probes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never, get_args

from clarion.policies.breaker_window import CountWindow, Tally, TimeWindow, Window
from clarion.policies.growth import grown
from clarion.policies.requirement import (
    require_count,
    require_factor,
    require_seconds,
    require_seconds_or_zero,
    require_share,
    require_spread,
)

WindowKind = Literal["consecutive", "count", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a circuit opens and how it recovers; raises ValueError for what cannot work."""

    failure_threshold: int = 5
    """Failures in a row that open it."""
    success_threshold: int = 2
    """Good probes that close it."""
    timeout: float = 60.0
    """Seconds open, the first time."""
    half_open_timeout: float = 30.0
    """Seconds after which a probe without a result is hung."""
    timeout_multiplier: float = 2.0
    timeout_max: float = 600.0
    """Seconds up to which the open time grows."""
    jitter: float = 0.1
    """Share of the open time that is added at most, at random."""
    window: WindowKind = "consecutive"
    size: int = 100
    """Calls, or seconds for "time"."""
    minimum_calls: int = 10
    """Fewer calls in the window are not judged; at most `size` for "count"."""
    failure_rate: float = 0.5
    """Share of failures in the window that opens it."""
    slow_call: float = 0.0
    """Seconds; what takes longer is slow, and a slow probe has failed. 0: nothing is slow."""
    slow_rate: float = 1.0
    """Share of slow calls in the window that opens it."""
    probes: int = 1
    """Calls at a time while half-open."""

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "size", "minimum_calls", "probes"):
            require_count(name, getattr(self, name))
        for name in ("timeout", "half_open_timeout", "timeout_max"):
            require_seconds(name, getattr(self, name))
        for name in ("failure_rate", "slow_rate"):
            require_share(name, getattr(self, name))
        require_seconds_or_zero("slow_call", self.slow_call)
        require_factor("timeout_multiplier", self.timeout_multiplier)
        require_spread("jitter", self.jitter)
        if self.window not in get_args(WindowKind):
            raise ValueError(
                f'window must be "consecutive", "count" or "time", not {self.window!r}'
            )

    def open_time_s(self, openings: int) -> float:
        """Return for how long it opens after so many openings in a row, before the jitter."""
        longest = max(self.timeout, self.timeout_max)
        return grown(self.timeout, self.timeout_multiplier, openings, longest)

    @property
    def longest_open_s(self) -> float:
        """For how long it is open at most, the jitter included."""
        return max(self.timeout, self.timeout_max) * (1.0 + self.jitter)

    def make_window(self) -> Window | None:
        """Return an empty window; None where only failures in a row count."""
        match self.window:
            case "consecutive":
                return None
            case "count":
                return CountWindow(self.size)
            case "time":
                return TimeWindow(self.size)
            case _:
                assert_never(self.window)

    def is_too_bad(self, tally: Tally) -> bool:
        """Whether the calls in the window open the circuit."""
        least = self.minimum_calls
        if self.window == "count":
            least = min(least, self.size)
        if tally.calls < least:
            return False
        return (
            tally.failures / tally.calls >= self.failure_rate
            or tally.slow / tally.calls >= self.slow_rate
        )
