"""When to try again: exponential back-off with full jitter, and Retry-After."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

MAX_EXPONENT = 64
"""Beyond it every sensible back-off is at its maximum; keeps the power finite."""


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """How often and how far apart; delays are in seconds."""

    max_attempts: int = 5
    initial_delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 3600.0
    jitter: bool = True
    retry_after_max: float = 3600.0
    """A longer Retry-After is not believed."""


def delay_s(
    settings: RetrySettings,
    attempt: int,
    rng: Callable[[], float],
    retry_after_s: float | None = None,
) -> float:
    """Return the wait after attempt number `attempt` (1 is the first); Retry-After is a floor."""
    exponent = min(max(attempt, 1) - 1, MAX_EXPONENT)
    ceiling = min(settings.max_delay, settings.initial_delay * settings.multiplier**exponent)
    wait = rng() * ceiling if settings.jitter else ceiling
    return max(wait, min(retry_after_s or 0.0, settings.retry_after_max))


def parse_retry_after(text: str | None, now_at: float) -> float | None:
    """Return the seconds of a Retry-After header (delta or HTTP date); None for nonsense."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_at
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
