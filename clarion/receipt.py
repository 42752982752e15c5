"""Waiting for the end of a notification: the receipt that a sender holds, and who waits for what.

Waiters live here and not in an actor, so that no actor's crash loses one. The Journal wakes them
after the commit; whoever waits registers first and reads the store then, so that an end in
between is not missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clarion.actors.journal_messages import Ended
from clarion.domain.notification import Notification
from clarion.errors import MailboxFull

MAX_WAITERS = 100_000
"""Bound of those who wait at the same time: a waiter is a future of some 300 bytes."""

RECHECK_S = 5.0
"""A waiter reads the store again after so long: rows that end as poison tell nobody."""

Read = Callable[[str], Awaitable[Notification]]


class Waiters:
    """Who waits for the end of which notification; used from the event loop only."""

    def __init__(self, max_waiters: int = MAX_WAITERS) -> None:
        self._max_waiters = max_waiters
        self._events: dict[str, list[asyncio.Event]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def wake(self, ended: Sequence[Ended]) -> None:
        """Wake whoever waits for one of these."""
        if self._count:
            for each in ended:
                for event in self._events.get(each.id, ()):
                    event.set()

    @contextmanager
    def waiting_for(self, id: str) -> Iterator[asyncio.Event]:
        """Register; the event is set at the end of `id`. Raises MailboxFull beyond the bound."""
        if self._count >= self._max_waiters:
            raise MailboxFull(f"{self._count} waiters are the most that can wait at once")
        # One event each: clearing a shared one would take the news from another waiter.
        event = asyncio.Event()
        self._events.setdefault(id, []).append(event)
        self._count += 1
        try:
            yield event
        finally:
            self._leave(id, event)

    def _leave(self, id: str, event: asyncio.Event) -> None:
        self._count -= 1
        self._events[id].remove(event)
        if not self._events[id]:
            del self._events[id]

    async def settled(self, id: str, read: Read, timeout_s: float) -> Notification:
        """Return the notification once its status is final.

        Raises TimeoutError after `timeout_s` seconds; the notification goes on all the same.
        """
        with self.waiting_for(id) as event:
            async with asyncio.timeout(timeout_s):
                while True:
                    event.clear()
                    notification = await read(id)
                    if not notification.status.is_live:
                        return notification
                    await _set_or_late(event)


async def _set_or_late(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(RECHECK_S):
            await event.wait()
    except TimeoutError:
        return


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a sender holds after a notification was made durable."""

    id: str
    notification: dict[str, Any]
    """The notification as it was accepted: the JSON object that HTTP answers with."""
    is_replay: bool
    """Whether the idempotency key was known and nothing new was accepted."""
    _waiters: Waiters
    _read: Read

    async def settled(self, timeout: float = 60.0) -> Notification:  # noqa: ASYNC109 - public name
        """Wait for the final status, for `timeout` seconds at most.

        Raises TimeoutError when it is not final by then; the notification goes on all the same.
        """
        return await self._waiters.settled(self.id, self._read, timeout)
