"""Connections are bounded, reused, closed in time, and never given back half-used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from clarion.providers.base import Wire
from clarion.providers.smtp_connection import (
    Envelope,
    Server,
    SmtpConnection,
    open_connection,
    stuffed,
)
from clarion.providers.smtp_pool import SmtpPool
from clarion.testing import Fault, SmtpLookalike, at_stage

MAIL = Envelope("a@example.com", "b@example.com", b"Message-ID: <n1@x>\r\n\r\nhello\r\n")


@pytest.fixture
async def server() -> AsyncIterator[SmtpLookalike]:
    async with SmtpLookalike() as lookalike:
        yield lookalike


@pytest.fixture
async def pool_with(server: SmtpLookalike) -> AsyncIterator[Callable[..., SmtpPool]]:
    """Make a pool of connections to the server; it is closed after the test."""
    made: list[SmtpPool] = []

    async def connect() -> SmtpConnection:
        return await open_connection(Server("127.0.0.1", server.port, "none"), None)

    def make(max_connections: int = 4, **options: Any) -> SmtpPool:
        made.append(SmtpPool(max_connections, connect, **options))
        return made[-1]

    yield make
    for pool in made:
        await pool.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not condition():
            await asyncio.sleep(0.001)


async def deliver(pool: SmtpPool) -> None:
    async with pool.connection() as connection:
        await connection.deliver(MAIL, Wire())


async def test_an_idle_connection_is_closed_with_a_goodbye(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool]
) -> None:
    """By us, before the server's own patience ends."""
    pool = pool_with(idle_s=0.01)
    await deliver(pool)
    assert pool.idle == 1

    await until(lambda: server.open_connections == 0)

    assert pool.idle == 0
    assert server.commands[-1] == "QUIT"


async def test_a_connection_serves_so_many_mails_and_no_more(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool]
) -> None:
    """Servers count them too."""
    pool = pool_with(max_messages=3)

    for _ in range(7):
        await deliver(pool)

    await until(lambda: server.open_connections == 1)
    assert server.connections == 3
    assert server.commands.count("QUIT") == 2


async def test_idle_connections_count_within_the_bound(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool]
) -> None:
    """A fresh one takes the place of one that is idle."""
    pool = pool_with(1)
    await deliver(pool)

    async with pool.connection(is_fresh=True) as connection:
        await until(lambda: server.open_connections == 1)
        await connection.noop()

    assert (pool.idle, pool.in_use) == (1, 0)
    assert server.connections == 2


@pytest.mark.parametrize("error", [RuntimeError("ours"), asyncio.CancelledError()])
async def test_what_was_cut_off_is_closed_and_its_slot_is_free(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool], error: BaseException
) -> None:
    """Nobody knows what the server would say next."""
    pool = pool_with(1)

    with pytest.raises(type(error)):
        async with pool.connection():
            raise error

    await until(lambda: server.open_connections == 0)
    assert (pool.idle, pool.in_use) == (0, 0)
    await deliver(pool)
    assert server.connections == 2


async def test_a_connection_that_cannot_be_made_leaves_no_slot_taken(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool]
) -> None:
    """Ten failures on one slot, then it works."""
    pool = pool_with(1)
    await server.stop()

    for _ in range(10):
        with pytest.raises(ConnectionError):
            await deliver(pool)
    await server.start()

    await deliver(pool)
    assert (pool.idle, pool.in_use) == (1, 0)


async def test_cancelling_while_connecting_leaves_nothing_open(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool]
) -> None:
    """A slow greeting does not keep a slot beyond its caller."""
    pool = pool_with(1)
    server.behave(at_stage("greeting", Fault.hang()))
    task = asyncio.create_task(deliver(pool))
    await until(lambda: server.open_connections == 1)

    task.cancel()
    await asyncio.wait([task])

    await until(lambda: server.open_connections == 0)
    assert (pool.idle, pool.in_use) == (0, 0)


async def test_a_closed_pool_keeps_nothing_that_comes_back(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool]
) -> None:
    """A call that ends after its session was retired."""
    pool = pool_with()
    async with pool.connection() as connection:
        await pool.close()
        await connection.deliver(MAIL, Wire())

    await until(lambda: server.open_connections == 0)
    assert pool.idle == 0
    assert server.delivered("n1") == 1


async def test_a_server_that_does_not_say_goodbye_is_left(
    server: SmtpLookalike, pool_with: Callable[..., SmtpPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing has a bound of its own."""
    monkeypatch.setattr("clarion.providers.smtp_pool.QUIT_S", 0.01)
    pool = pool_with()
    await deliver(pool)
    server.behave(at_stage("NOOP", Fault.hang()))
    async with pool.connection() as connection:
        noop = asyncio.create_task(connection.noop())
        await until(lambda: server.commands[-1] == "NOOP")
        noop.cancel()

    async with asyncio.timeout(5.0):
        await pool.close()

    await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"a\r\n", b"a\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n"),
        (b"a.\r\n", b"a.\r\n"),
        (b"no end", b"no end\r\n"),
    ],
)
def test_dots_that_begin_a_line_are_doubled(content: bytes, sent: bytes) -> None:
    """Only the last dot ends the mail."""
    assert stuffed(content) == sent
