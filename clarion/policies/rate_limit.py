"""A token bucket: so many per second on average, so many at once at most."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

UNLIMITED = 1 << 30


class Bucket(Protocol):
    """What a gate asks for leave; see `TokenBucket` and `grant.GrantedBucket`."""

    def available(self, now: float, /) -> int:
        """How many calls may go now."""

    def take(self, n: int, now: float, /) -> None:
        """Take `n` tokens that are available."""

    def give_back(self, n: int, /) -> None:
        """Return tokens that were not used."""

    def next_at(self, now: float, /) -> float | None:
        """Return the monotonic instant of the next token; None when there is one now, or none."""

    def why_empty(self, now: float, /) -> str:
        """Say why there is none now; "" where nobody has asked for any."""


class TokenBucket:
    """Tokens are taken when a place is offered and given back when it was not used.

    Kept as the instant at which the bucket is full again, not as a number of tokens: what
    `available` sees at an instant named by `next_at` is then exact, and nobody who waits for it
    finds the bucket empty by a rounding error and waits for ever.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        """Start full; `per_second` 0 means no limit, `clock` gives monotonic seconds."""
        self._per_second = per_second
        self._burst = max(burst, 1)
        self._full_at = clock()

    def available(self, now: float) -> int:
        """How many calls may go now."""
        if self._per_second <= 0:
            return UNLIMITED
        n = self._burst - math.ceil((self._full_at - now) * self._per_second)
        n = max(0, min(self._burst, n))
        # The estimate may be one off where an instant and a token fall together.
        if n < self._burst and now >= self._holds_at(n + 1):
            return n + 1
        return n if now >= self._holds_at(n) else max(0, n - 1)

    def take(self, n: int, now: float) -> None:
        """Take `n` tokens that are available."""
        if self._per_second > 0:
            self._full_at = max(self._full_at, now) + n / self._per_second

    def give_back(self, n: int) -> None:
        """Return tokens that were not used; there are never more than `burst`."""
        if self._per_second > 0:
            self._full_at -= n / self._per_second

    def next_at(self, now: float) -> float | None:
        """Return the monotonic instant of the next token; None when there is one now."""
        if self.available(now) > 0:
            return None
        return self._holds_at(1)

    def why_empty(self, now: float) -> str:
        """Say why there is none now."""
        return "its rate limit is reached"

    def _holds_at(self, n: int) -> float:
        """Return the instant from which it holds `n` tokens."""
        return self._full_at - (self._burst - n) / self._per_second
