"""Ids: 26 characters, ordered by time, monotonic within a process (the ULID layout).

48 bits of milliseconds and 80 bits of randomness in Crockford's base 32; two ids of the same
millisecond differ by one, so the order of ids is the order of their making even if the wall clock
steps back.
"""

from __future__ import annotations

from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
_TIME_LETTERS = 10
"""What holds the 48 bits of milliseconds, with two bits to spare."""
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
"""Ten bits at a time: an id is made for every notification."""


class IdSource:
    """Makes ids from an injected wall clock (seconds) and random bits (`getrandbits`)."""

    def __init__(self, now: Callable[[], float], random_bits: Callable[[int], int]) -> None:
        self._now = now
        self._random_bits = random_bits
        self._last = 0

    def next(self) -> str:
        """Return an id that is greater than every id returned before."""
        floor = int(self._now() * 1000) << _RANDOM_BITS
        if floor > self._last:
            # The top bit stays free so that increments cannot spill into the time.
            self._last = floor | self._random_bits(_RANDOM_BITS - 1)
        else:
            self._last += 1
        return encode(self._last)


def encode(number: int) -> str:
    """Write a 128-bit number as 26 characters."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


def made_at(id: str) -> float:
    """Return when an id was made (seconds since the epoch); 0.0 for what is none of ours."""
    number = 0
    for letter in id[:_TIME_LETTERS]:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            return 0.0
        number = number << 5 | digit
    return number / 1000


def floor_id(at: float) -> str:
    """Return the smallest id that could have been made at `at` (seconds since the epoch)."""
    return encode(int(at * 1000) << _RANDOM_BITS)
