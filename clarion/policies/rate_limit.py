"""A token bucket: so many per second on average, so many at once at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

UNLIMITED = 1 << 30
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class RateLimitSettings:
    """`per_second` 0 means no limit; `burst` calls may go at once."""

    per_second: float = 0.0
    burst: int = 1


class TokenBucket:
    """Tokens are taken when a place is offered and given back when it was not used."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._per_second = per_second
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._at = clock()

    def available(self, now: float) -> int:
        """How many calls may go now."""
        if self._per_second <= 0:
            return UNLIMITED
        self._fill(now)
        return int(self._tokens + _ROUNDING)

    def take(self, n: int, now: float) -> None:
        """Take `n` tokens that are available."""
        if self._per_second > 0:
            self._fill(now)
            self._tokens -= n

    def give_back(self, n: int) -> None:
        """Return tokens that were not used."""
        self._tokens = min(self._burst, self._tokens + n)

    def next_at(self, now: float) -> float | None:
        """Return the monotonic instant of the next token; None when there is one now."""
        if self.available(now) > 0:
            return None
        return now + (1.0 - self._tokens) / self._per_second

    def _fill(self, now: float) -> None:
        elapsed = max(0.0, now - self._at)
        self._at = max(self._at, now)
        self._tokens = min(self._burst, self._tokens + elapsed * self._per_second)
