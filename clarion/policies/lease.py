"""Whether this node may still act for its jobs, where several nodes share the store.

A node that has not renewed its lease in time may have been given up by the others: then another one
works on its jobs. It is judged by the monotonic clock, which goes on while a process stands still.
"""

from __future__ import annotations

import math

SAFETY = 0.1
"""Share of a lease that is not relied on: two clocks need not go equally fast."""


class Lease:
    """The lease of one node; `lease_s` None where there are no others. Instants are monotonic."""

    def __init__(self, lease_s: float | None = None) -> None:
        self._lease_s = lease_s
        self._until = math.inf if lease_s is None else -math.inf

    def renewed(self, asked_at: float) -> None:
        """Note that a renewal succeeded that was asked for then."""
        if self._lease_s is not None:
            self._until = asked_at + self._lease_s * (1.0 - SAFETY)

    def is_held(self, now: float) -> bool:
        """Whether nobody can have taken over."""
        return now < self._until
