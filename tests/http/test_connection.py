"""Connections that are broken, slow or many."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from clarion.http import connection


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%zz HTTPX\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET http://[bad/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem(served, request_):
    """4xx as problem+json, the connection ends, and the next one is served."""
    answer = await served.raw(request_)
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.split()[1].startswith(b"4"), head
    assert b"application/problem+json" in head
    assert b'"detail"' in body
    assert (await served.get("/livez")).status == 200


async def test_too_many_connections_are_told_so(served, serve_front):
    """The one too many gets a 503 and is closed; when another one ends there is room again."""
    small = await serve_front(served.front, max_connections=2)
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with asyncio.timeout(20), small.connect() as (reader, writer):
        writer.write(request)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with small.connect() as (other_reader, other_writer):
            other_writer.write(request)
            assert (await other_reader.readline()).startswith(b"HTTP/1.1 200")

            refused = await small.raw(request)
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"application/problem+json" in refused
            assert b"Connection: close" in refused

        async def is_served():
            answer = await small.raw(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            return answer.startswith(b"HTTP/1.1 200")

        await small.until(is_served)


async def test_a_head_that_does_not_arrive_ends_the_connection(served, serve_front, monkeypatch):
    """One that says nothing, and one that says it byte by byte, are both let go."""
    monkeypatch.setattr(connection, "IDLE_S", 0.1)
    hasty = await serve_front(served.front)

    assert await hasty.raw(b"") == b""
    assert await hasty.raw(b"GET /livez HTTP/1.1\r\nHo") == b""


async def test_an_answer_that_nobody_reads_is_given_up(served, serve_front, monkeypatch):
    """A client that asks and asks and never reads does not hold its handler for ever."""
    monkeypatch.setattr(connection, "WRITE_S", 0.1)
    hasty = await serve_front(served.front)
    async with hasty.connect() as (reader, writer), asyncio.timeout(20):
        reader._transport.pause_reading()
        with pytest.raises(ConnectionError):
            await _ask_for_ever(writer)

    assert (await hasty.get("/livez")).status == 200


async def _ask_for_ever(writer):
    while True:
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0)
        await writer.drain()


async def test_an_answer_that_is_taken_at_once_costs_no_timer(served, serve_front, monkeypatch):
    """The time of an answer starts where the kernel takes no more of it."""
    delays_s = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def record(delay_s, *call, **context):
        delays_s.append(delay_s)
        return call_later(delay_s, *call, **context)

    monkeypatch.setattr(loop, "call_later", record)
    monkeypatch.setattr(connection, "WRITE_S", 54.321)
    plain = await serve_front(served.front)

    assert (await plain.get("/livez")).status == 200
    assert 54.321 not in delays_s


async def test_a_stream_that_is_not_read_has_the_limit_of_its_handler(monkeypatch):
    """Its writer decides for how long it waits; the time of an answer is for what is finished."""
    monkeypatch.setattr(connection, "WRITE_S", 0.05)
    ended = asyncio.get_running_loop().create_future()

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            async with asyncio.timeout(0.5):
                while True:
                    await response.write(bytes(65536))
        except Exception as error:
            ended.set_result(error)
        response.force_close()
        return response

    app = web.Application()
    app.router.add_get("/", stream)
    runner = connection.Runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(20):
            found = await ended
        writer.transport.abort()
    finally:
        await runner.cleanup()

    assert isinstance(found, TimeoutError)


async def test_pipelined_requests_are_answered_in_order(served):
    """Two requests in one packet, two answers."""
    answer = await served.raw(
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )

    assert answer.index(b"HTTP/1.1 200") < answer.index(b"HTTP/1.1 404")


def test_bodies_are_never_unfolded_on_the_way_in():
    """What is compressed is refused by its header; aiohttp must not have inflated it by then."""
    runner = connection.Runner(web.Application())

    assert runner._kwargs["auto_decompress"] is False
