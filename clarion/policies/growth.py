"""Exponential growth up to a limit: open times, back-offs, restarts."""

from __future__ import annotations


def grown(first: float, multiplier: float, steps: int, longest: float) -> float:
    """Return `first * multiplier**steps`, at most `longest`; any number of steps is safe."""
    try:
        return min(longest, first * float(multiplier) ** steps)
    except OverflowError:
        # Only a power beyond every float gets here: a crash would stop its caller for good.
        return longest if first > 0 else 0.0
