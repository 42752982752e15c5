"""How often a crashed actor is restarted, and after what wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from clarion.policies.growth import grown

FIRST_DELAY_S = 0.05
MAX_DELAY_S = 5.0
CALM_S = 10.0
"""So long without a crash, and the back-off starts over."""


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """What one crash leads to."""

    is_over: bool
    """More than the budget allows within its period."""
    delay_s: float
    number: int
    """1 for the first crash since the last calm."""


class RestartBudget:
    """Sliding and inclusive: over at more than `limit` crashes within `period_s` seconds."""

    def __init__(
        self, limit: int = 10, period_s: float = 60.0, *, rng: Callable[[], float]
    ) -> None:
        self._limit = limit
        self._period_s = period_s
        self._rng = rng
        self._crashes: deque[float] = deque(maxlen=limit + 1)
        self._in_a_row = 0

    def record(self, now: float) -> RestartDecision:
        """Count a crash at the monotonic instant `now`."""
        if self._crashes and now - self._crashes[-1] >= CALM_S:
            self._in_a_row = 0
        self._in_a_row += 1
        self._crashes.append(now)
        while now - self._crashes[0] > self._period_s:
            self._crashes.popleft()
        ceiling = grown(FIRST_DELAY_S, 2.0, self._in_a_row - 1, MAX_DELAY_S)
        return RestartDecision(
            len(self._crashes) > self._limit, self._rng() * ceiling, self._in_a_row
        )
