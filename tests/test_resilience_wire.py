"""Breaker and @retry against a server that resets, hangs and answers 503, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

import clarion
from clarion.resilience import Breaker, retry
from clarion.testing import ManualClock

BOUND_S = 30.0
"""Of the test as a whole; nothing waits so long when all is well."""


class Dying:
    """A server whose next answers are chosen by the test."""

    def __init__(self) -> None:
        self.mood = "fine"
        self.moods: list[str] = []
        self.requests = 0
        self.arrivals: asyncio.Semaphore = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.arrivals.release()
        mood = self.moods.pop(0) if self.moods else self.mood
        match mood:
            case "reset":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "hang":
                await self.gate.wait()
                return web.Response(status=503)
            case "503":
                return web.Response(status=503)
            case _:
                return web.Response(text="fine")


@pytest.fixture
async def server() -> AsyncIterator[Dying]:
    dying = Dying()
    app = web.Application()
    app.router.add_get("/", dying.answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    dying.url = f"http://{host}:{port}/"
    yield dying
    dying.gate.set()
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def breaker_on(clock: ManualClock, name: str, **settings: float) -> Breaker:
    return Breaker(name, clock=clock.monotonic, rng=lambda: 0.0, **settings)


async def get(session: aiohttp.ClientSession, url: str, timeout_s: float = BOUND_S) -> str:
    async with asyncio.timeout(timeout_s), session.get(url) as response:
        return await response.text()


async def outcome(call: asyncio.Future[str]) -> str:
    try:
        return await call
    except clarion.CircuitOpen:
        return "rejected"
    except (aiohttp.ClientError, TimeoutError):
        return "failed"


async def test_a_call_comes_through_resets_and_503s(
    server: Dying, session: aiohttp.ClientSession
) -> None:
    """What aiohttp raises for them is known as transient."""
    server.moods = ["reset", "503"]

    @retry(max_attempts=3, initial_delay=0.001)
    async def fetch() -> str:
        return await get(session, server.url)

    assert await fetch() == "fine"
    assert server.requests == 3


async def test_a_server_that_hangs_opens_the_circuit(
    server: Dying, session: aiohttp.ClientSession, clock: ManualClock
) -> None:
    """A time-out inside the call is a failure, though it is a cancellation underneath."""
    server.mood = "hang"
    breaker = breaker_on(clock, "hanging", failure_threshold=3)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await breaker.call(get, session, server.url, timeout_s=0.02)

    assert breaker.snapshot().state == "open"
    with pytest.raises(clarion.CircuitOpen):
        await breaker.call(get, session, server.url)


async def test_a_dying_server_sees_at_most_the_threshold_and_what_was_in_flight(
    server: Dying, session: aiohttp.ClientSession, clock: ManualClock
) -> None:
    """A hundred callers at a time, ten wide: fifteen requests, then silence, then one probe."""
    server.mood = "503"
    breaker = breaker_on(clock, "dying", failure_threshold=5, success_threshold=1)
    slots = asyncio.Semaphore(10)

    async def caller() -> str:
        async with slots:
            return await outcome(asyncio.ensure_future(breaker.call(get, session, server.url)))

    async with asyncio.timeout(BOUND_S):
        outcomes = await asyncio.gather(*(caller() for _ in range(100)))
    while_dying = server.requests
    server.mood = "fine"
    clock.advance(66.0)
    async with asyncio.timeout(BOUND_S):
        recovered = await asyncio.gather(*(caller() for _ in range(100)))

    assert while_dying <= 5 + 10
    assert outcomes.count("failed") == while_dying
    assert outcomes.count("rejected") == 100 - while_dying
    assert "fine" in recovered
    assert breaker.snapshot().state == "closed"


async def test_a_recovering_server_is_not_stampeded(
    server: Dying, session: aiohttp.ClientSession, clock: ManualClock
) -> None:
    """While the probe is out a hundred callers wait elsewhere; the server sees one request."""
    breaker = breaker_on(clock, "recovering", failure_threshold=1)
    server.moods = ["503", "hang"]
    await outcome(asyncio.ensure_future(breaker.call(get, session, server.url)))
    await server.arrivals.acquire()
    clock.advance(66.0)

    probe = asyncio.ensure_future(breaker.call(get, session, server.url))
    async with asyncio.timeout(BOUND_S):
        await server.arrivals.acquire()
        calls = [asyncio.ensure_future(breaker.call(get, session, server.url)) for _ in range(100)]
        outcomes = [await outcome(call) for call in calls]
        while_probing = server.requests
        server.gate.set()
        probed = await outcome(probe)

    assert outcomes == ["rejected"] * 100
    assert while_probing == 2
    assert probed == "failed"
    assert breaker.snapshot().state == "open"
