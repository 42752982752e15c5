"""A turnstile: what is much work passes it few at a time, and is told truly how long the line is.

Work that is only computing is not done sooner for being begun together: all of it is late together,
later than anyone waits for an answer. Here whoever would have to wait too long is turned away at
once, with the time after which the line will be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from clarion.errors import Refused


class Turnstile:
    """Lets `at_once` pass; belongs to one event loop.

    `patience_s` is what anyone waits at most, as far as can be told; `item_s` what one item takes
    until that is known better.
    """

    def __init__(
        self, at_once: int, *, patience_s: float, item_s: float, monotonic: Callable[[], float]
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self._patience_s = patience_s
        self._item_s = item_s
        self._monotonic = monotonic
        self._ahead = 0

    @asynccontextmanager
    async def turn(self, items: int) -> AsyncIterator[None]:
        """Wait for a turn with work of `items`. Raises: Refused."""
        wait_s = self._ahead * self._item_s
        if wait_s > self._patience_s:
            raise Refused(
                f"{self._ahead:,} notifications of other batches come first; nothing was accepted",
                retry_after_s=wait_s,
            )
        self._ahead += items
        try:
            async with self._places:
                began_at = self._monotonic()
                yield
                self._learn(items, self._monotonic() - began_at)
        finally:
            self._ahead -= items

    def _learn(self, items: int, took_s: float) -> None:
        # Those that pass side by side share one processor.
        self._item_s += (took_s / items / self._at_once - self._item_s) / 4
