"""What a closed circuit remembers of its latest calls: by their number, or by time.

Both windows hold bounded memory: one entry for each of `size` calls, or ten slices of counts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SLICES = 10
"""Slices of a time window: the finest grain at which it forgets (Polly's number, too)."""


class Tally(NamedTuple):
    """How the calls in a window ended; a slow call may have succeeded or failed."""

    calls: int
    failures: int
    slow: int


class Window(Protocol):
    """The latest calls of a circuit."""

    def add(self, now: float, *, is_failure: bool, is_slow: bool) -> Tally:
        """Note a call that ended at `now` and count all calls still in the window."""
        ...


class CountWindow:
    """The latest `size` calls."""

    def __init__(self, size: int) -> None:
        self._calls: deque[tuple[bool, bool]] = deque(maxlen=size)
        self._failures = 0
        self._slow = 0

    def add(self, now: float, *, is_failure: bool, is_slow: bool) -> Tally:
        """Note a call; the oldest is forgotten once there are `size`."""
        if len(self._calls) == self._calls.maxlen:
            self._count(*self._calls[0], -1)
        self._calls.append((is_failure, is_slow))
        self._count(is_failure, is_slow, 1)
        return Tally(len(self._calls), self._failures, self._slow)

    def _count(self, is_failure: bool, is_slow: bool, n: int) -> None:
        self._failures += n * is_failure
        self._slow += n * is_slow


@dataclass(slots=True)
class _Slice:
    number: int
    calls: int = 0
    failures: int = 0
    slow: int = 0


class TimeWindow:
    """The calls of the latest `size_s` seconds, in ten slices that are forgotten as a whole.

    A call counts for at least nine tenths of `size_s` and never longer than `size_s`.
    """

    def __init__(self, size_s: float) -> None:
        self._slice_s = size_s / SLICES
        self._slices: deque[_Slice] = deque(maxlen=SLICES)

    def add(self, now: float, *, is_failure: bool, is_slow: bool) -> Tally:
        """Note a call and forget the slices that time has passed."""
        number = math.floor(now / self._slice_s)
        while self._slices and self._slices[0].number <= number - SLICES:
            self._slices.popleft()
        if not self._slices or self._slices[-1].number < number:
            self._slices.append(_Slice(number))
        latest = self._slices[-1]
        latest.calls += 1
        latest.failures += is_failure
        latest.slow += is_slow
        return Tally(
            sum(each.calls for each in self._slices),
            sum(each.failures for each in self._slices),
            sum(each.slow for each in self._slices),
        )
