"""The connections to one SMTP server: bounded, reused, and closed by us before the server does it.

A connection is used by one call at a time and goes back only after a complete exchange; what was
cut off, by an error or by a time limit, is closed and never used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from clarion.providers.smtp_connection import SmtpConnection

IDLE_S = 8.0
"""Below the shortest idle limits of servers (Postfix under stress: 10 s), so that we close first: a
message begun on a connection that the other side is closing has to be begun again."""
MAX_MESSAGES = 100
"""On one connection; servers begin to refuse at a few hundred."""
QUIT_S = 2.0
"""How long a goodbye may take."""


class SmtpPool:
    """At most `max_connections` to one server, those that are idle included."""

    def __init__(
        self,
        max_connections: int,
        connect: Callable[[], Awaitable[SmtpConnection]],
        *,
        idle_s: float = IDLE_S,
        max_messages: int = MAX_MESSAGES,
    ) -> None:
        self._connect = connect
        self._max_connections = max_connections
        self._idle_s = idle_s
        self._max_messages = max_messages
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: dict[SmtpConnection, asyncio.TimerHandle] = {}
        self._in_use = 0
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def idle(self) -> int:
        """How many connections wait for a message."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """How many connections are being used or made."""
        return self._in_use

    @asynccontextmanager
    async def connection(self, *, is_fresh: bool = False) -> AsyncIterator[SmtpConnection]:
        """Lend a connection, with `is_fresh` a new one; what raises inside closes it."""
        async with self._slots:
            self._in_use += 1
            try:
                connection = None if is_fresh else self._take_idle()
                if connection is None:
                    self._make_room()
                    connection = await self._connect()
                try:
                    yield connection
                except BaseException:
                    connection.abort()
                    raise
                self._put_back(connection)
            finally:
                self._in_use -= 1

    async def close(self) -> None:
        """Say goodbye on every connection that is idle; one in use is closed when it comes back."""
        self._is_closed = True
        for connection in list(self._idle):
            self._dismiss(connection)
        if self._goodbyes:
            await asyncio.wait(self._goodbyes)

    def _take_idle(self) -> SmtpConnection | None:
        while self._idle:
            # The latest: what is not needed any more stays idle and is closed.
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_open:
                return connection
            connection.abort()
        return None

    def _make_room(self) -> None:
        if self._in_use + len(self._idle) > self._max_connections:
            self._dismiss(next(iter(self._idle)))

    def _put_back(self, connection: SmtpConnection) -> None:
        if not connection.is_open:
            connection.abort()
        elif self._is_closed or connection.messages >= self._max_messages:
            self._dismiss(connection)
        else:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._idle_s, self._dismiss, connection)
            self._idle[connection] = timer

    def _dismiss(self, connection: SmtpConnection) -> None:
        timer = self._idle.pop(connection, None)
        if timer is not None:
            timer.cancel()
        task = asyncio.get_running_loop().create_task(_say_goodbye(connection))
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)


async def _say_goodbye(connection: SmtpConnection) -> None:
    try:
        async with asyncio.timeout(QUIT_S):
            await connection.quit()
    except TimeoutError:
        connection.abort()
