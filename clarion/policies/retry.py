"""When to try again: exponential back-off with full jitter, and Retry-After."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clarion.policies.growth import grown
from clarion.policies.requirement import require_count, require_factor, require_seconds_or_zero


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """How often and how far apart; delays are in seconds. Raises ValueError for what cannot be."""

    max_attempts: int = 5
    """The first one included."""
    initial_delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 3600.0
    jitter: bool = True
    retry_after_max: float = 3600.0
    """A longer Retry-After is not believed."""

    def __post_init__(self) -> None:
        require_count("max_attempts", self.max_attempts)
        require_factor("multiplier", self.multiplier)
        for name in ("initial_delay", "max_delay", "retry_after_max"):
            require_seconds_or_zero(name, getattr(self, name))


def delay_s(
    settings: RetrySettings,
    attempt: int,
    rng: Callable[[], float],
    retry_after_s: float | None = None,
) -> float:
    """Return the wait after attempt number `attempt` (1 is the first); Retry-After is a floor."""
    # The limit comes before the draw: a jitter that is cut off would send all back at once.
    ceiling = grown(
        settings.initial_delay, settings.multiplier, max(attempt, 1) - 1, settings.max_delay
    )
    wait = rng() * ceiling if settings.jitter else ceiling
    return max(wait, min(retry_after_s or 0.0, settings.retry_after_max))
