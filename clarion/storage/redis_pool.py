"""Connections to Redis: warm, few, checked, and never waited for long.

Everything about it may fail at any time, so every way out of here is an answer or `RedisAway`,
within `WAIT_S` and `ANSWER_S`. A connection that broke while it was idle costs one repetition on a
fresh one; what is sent has to bear being done twice. A server that cannot be reached is left alone
for a growing while, and whoever asks meanwhile hears so at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.exceptions import NoScriptError, RedisError

from clarion.errors import RedisAway
from clarion.policies.clock import SystemClock
from clarion.policies.growth import grown
from clarion.storage.reader import PoolState
from clarion.storage.redis_failure import is_of_connection, redis_failure
from clarion.storage.redis_script import Script
from clarion.storage.redis_url import shown

ANSWER_S = 0.5
"""A command of ours takes well under a millisecond; who waits longer is better off without it."""
WAIT_S = 0.5
"""How long a free connection is waited for."""
PING_AFTER_S = 10.0
"""A connection that was idle for so long is asked whether it is still there."""
MAX_IDLE_S = 300.0
"""What more than `least` connections are idle for so long is closed."""
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 2.0
"""A server that cannot be reached is tried again after a random part of this, doubling."""

_CLOCK = SystemClock()
_FAILURES = (RedisError, OSError, TimeoutError)


class RedisPool:
    """`least` connections are opened by `warm` and kept, `most` are there at any time."""

    def __init__(
        self,
        url: str,
        *,
        least: int,
        most: int,
        rng: Callable[[], float],
        monotonic: Callable[[], float] = _CLOCK.monotonic,
    ) -> None:
        self.name = shown(url)
        self._least = least
        self._most = most
        self._rng = rng
        self._monotonic = monotonic
        arguments: dict[str, Any] = dict(parse_url(url))
        self._make: type[Connection] = arguments.pop("connection_class", Connection)
        if not issubclass(self._make, UnixDomainSocketConnection):
            arguments["socket_keepalive"] = True
        self._arguments = {
            **arguments,
            "client_name": "clarion",
            "protocol": 2,
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": ANSWER_S,
        }
        self._room = asyncio.Semaphore(most)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._used = self._waiting = 0
        self._waited_s = 0.0
        self._failures = 0
        self._failure = ""
        self._retry_at = 0.0
        self._is_closed = False

    async def run(self, *command: Any) -> Any:
        """Carry out one command and return its answer. Raises: RedisAway."""
        async with self._place():
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._run_fresh_or_idle(command)
            except TimeoutError as error:
                # The other connections lead to the same silence.
                await self._drop_idle()
                self._back_off(redis_failure(error))
                raise self._away(redis_failure(error)) from error
            except _FAILURES as error:
                raise self._away(redis_failure(error)) from error

    async def run_script(self, script: Script, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """Carry out a script; its text is sent where the server does not know it (any more)."""
        called = (len(keys), *keys, *values)
        try:
            return await self.run("EVALSHA", script.sha, *called)
        except RedisAway as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self.run("EVAL", script.text, *called)

    async def warm(self) -> None:
        """Open what is missing of the `least` connections. Raises: RedisAway."""
        while self._used + len(self._idle) < self._least:
            async with self._place():
                try:
                    await self._give_back(await self._open())
                except _FAILURES as error:
                    raise self._away(redis_failure(error)) from error

    @asynccontextmanager
    async def line(self, *command: Any) -> AsyncIterator[Connection]:
        """Give a connection of one's own, on which `command` was sent: to listen on.

        Raises: RedisAway, also where it breaks inside the block.
        """
        async with self._place():
            connection: Connection | None = None
            try:
                connection = await self._open()
                await connection.send_command(*command)
                yield connection
            except _FAILURES as error:
                raise self._away(redis_failure(error)) from error
            finally:
                if connection is not None:
                    await _drop(connection)

    def state(self) -> PoolState:
        """Say how the pool stands."""
        return PoolState(self._used, len(self._idle), self._waiting, self._waited_s)

    async def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self._is_closed = True
        await self._drop_idle()

    # --- places ----------------------------------------------------------------------------

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one of the `most` places; who waits in vain hears why."""
        if self._room.locked():
            await self._wait_for_place()
        else:
            await self._room.acquire()
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1
            self._room.release()

    async def _wait_for_place(self) -> None:
        began = self._monotonic()
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._room.acquire()
        except TimeoutError as error:
            why = f"all {self._most} connections were in use for {WAIT_S:g} s; raise redis.pool_max"
            raise RedisAway(self.name, why, WAIT_S) from error
        finally:
            self._waiting -= 1
            self._waited_s += self._monotonic() - began

    # --- connections -----------------------------------------------------------------------

    async def _run_fresh_or_idle(self, command: Sequence[Any]) -> Any:
        while self._idle:
            connection, since = self._idle.pop()
            try:
                await self._check(connection, since)
                return await self._ask(connection, command)
            except _FAILURES as error:
                if not is_of_connection(error):
                    raise
                # It broke while it was idle, and the others most likely did with it.
                await self._drop_idle()
        return await self._ask(await self._open(), command)

    async def _check(self, connection: Connection, since: float) -> None:
        if self._monotonic() - since > PING_AFTER_S:
            await _answer(connection, "PING")

    async def _ask(self, connection: Connection, command: Sequence[Any]) -> Any:
        try:
            found = await _answer(connection, *command)
        except BaseException as error:
            # Cancelled in the middle of it, the answer would be taken for the next one's.
            if isinstance(error, _FAILURES) and not is_of_connection(error):
                await self._give_back(connection)
            else:
                await _drop(connection)
            raise
        await self._give_back(connection)
        return found

    async def _open(self) -> Connection:
        wait_s = self._retry_at - self._monotonic()
        if wait_s > 0:
            raise RedisAway(self.name, self._failure, wait_s)
        connection = self._make(**self._arguments)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
        except BaseException as error:
            await _drop(connection)
            if isinstance(error, _FAILURES):
                self._back_off(redis_failure(error))
            raise
        self._failures = 0
        return connection

    def _back_off(self, failure: str) -> None:
        longest_s = grown(FIRST_RETRY_S, 2.0, self._failures, LAST_RETRY_S)
        self._failures += 1
        self._failure = failure
        self._retry_at = self._monotonic() + longest_s * (0.5 + 0.5 * self._rng())

    async def _give_back(self, connection: Connection) -> None:
        now = self._monotonic()
        if self._is_closed:
            await _drop(connection)
            return
        self._idle.append((connection, now))
        # The one used last is used next, so those that nobody needs grow old at the other end.
        while len(self._idle) > self._least and now - self._idle[0][1] > MAX_IDLE_S:
            await _drop(self._idle.popleft()[0])

    async def _drop_idle(self) -> None:
        while self._idle:
            await _drop(self._idle.pop()[0])

    def _away(self, reason: str) -> RedisAway:
        return RedisAway(self.name, reason, max(FIRST_RETRY_S, self._retry_at - self._monotonic()))


async def _answer(connection: Connection, *command: Any) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


async def _drop(connection: Connection) -> None:
    with suppress(*_FAILURES):
        await connection.disconnect(nowait=True)
