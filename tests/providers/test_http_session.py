"""A session knows when a request left, reads a bounded answer, and keeps nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter

from clarion.providers.base import Wire
from clarion.providers.http_session import ANSWER_LIMIT_BYTES, BROKEN, HttpSession, _Body


@pytest.fixture
async def session() -> AsyncIterator[HttpSession]:
    http = HttpSession(2, {"X-Ours": "1"})
    await http.open()
    yield http
    await http.close()


async def test_a_request_on_a_closed_connection_was_never_written() -> None:
    """The provider had closed the idle connection: surely nothing left."""
    loop = asyncio.get_running_loop()
    writer = StreamWriter(BaseProtocol(loop), loop)
    wire = Wire()

    with pytest.raises(ConnectionResetError):
        await _Body(b"x", wire).write(writer)

    assert not wire.is_written


async def test_a_request_counts_as_written_when_its_bytes_leave(session: HttpSession) -> None:
    """Not while it waits for the connection, and at the latest when the server reads it."""
    wire = Wire()
    seen: list[bool] = []
    has_read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(wire.is_written)
        await reader.readuntil(b"body")
        seen.append(wire.is_written)
        has_read.set()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    before = wire.is_written
    with pytest.raises(BROKEN):
        await session.request("POST", url, wire, body=b"the body")
    await has_read.wait()
    listener.close()

    assert not before
    assert seen[1]


async def test_a_large_body_is_written_whole(session: HttpSession, canned: Any) -> None:
    """More than fits into a socket's buffer, and without aiohttp's warning about it."""
    canned.says(200)
    body = b"x" * 3_000_000

    await session.request("POST", canned.url, Wire(), body=body)

    assert canned.requests[0].endswith(b"\r\n\r\n" + body)


async def test_an_answer_over_the_limit_is_not_read_to_its_end(
    session: HttpSession, canned: Any
) -> None:
    """The first part is kept, and the answer is marked."""
    canned.says(500, "x" * (ANSWER_LIMIT_BYTES * 3))

    reply = await session.request("GET", canned.url, Wire())

    assert (len(reply.body), reply.is_whole) == (ANSWER_LIMIT_BYTES, False)


async def test_an_answer_at_the_limit_is_whole(session: HttpSession, canned: Any) -> None:
    """The limit itself is allowed."""
    canned.says(200, "x" * ANSWER_LIMIT_BYTES)

    reply = await session.request("GET", canned.url, Wire())

    assert (len(reply.body), reply.is_whole) == (ANSWER_LIMIT_BYTES, True)


async def test_an_answer_is_not_inflated(session: HttpSession, canned: Any) -> None:
    """A small compressed answer cannot become a large one; we ask for none."""
    canned.says(200, "not gzip at all", Content_Encoding="gzip")

    reply = await session.request("GET", canned.url, Wire())

    assert reply.body == b"not gzip at all"
    assert b"Accept-Encoding: identity" in canned.requests[0]


async def test_the_proxy_of_the_environment_is_ignored(
    session: HttpSession, canned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials go where the settings say."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    canned.says(200)

    reply = await session.request("GET", canned.url, Wire())

    assert reply.status == 200


async def test_a_connection_is_used_again(session: HttpSession, canned: Any) -> None:
    """Two requests after one another share one."""
    canned.says(200)
    created: list[object] = []
    trace = aiohttp.TraceConfig()

    async def note(*_: object) -> None:
        created.append(1)

    trace.on_connection_create_end.append(note)
    trace.freeze()
    assert session._session is not None
    session._session.trace_configs.append(trace)

    await session.request("POST", canned.url, Wire(), body=b"1")
    await session.request("POST", canned.url, Wire(), body=b"2")

    assert len(created) == 1


async def test_nonsense_from_the_server_is_a_broken_exchange(session: HttpSession) -> None:
    """What is not HTTP is no answer; it raises what adapters catch."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 smtp.example.com ESMTP\r\n")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"

    with pytest.raises(BROKEN):
        await session.request("GET", url, Wire())
    listener.close()


async def test_a_closed_session_says_so() -> None:
    """A send before `open` or after `close` is our bug."""
    http = HttpSession(1)
    await http.open()
    await http.close()
    await http.close()

    with pytest.raises(RuntimeError, match="not open"):
        await http.request("GET", "http://127.0.0.1:1", Wire())
