"""The benchmarks' own parts carry every message: counted, not timed."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing

import aiohttp
import pytest

from benchmarks.child import Child
from benchmarks.process import is_same, lives, load, program, received, wait_received
from benchmarks.wire import Parser, Unreadable, request, response

MESSAGES = 200


@pytest.mark.parametrize("latency_ms", [0, 50])
async def test_the_bare_pipeline_delivers_each_message_once(tmp_path, latency_ms):
    """What the load generator counts as accepted is durable and arrives at the sink."""
    database = tmp_path / "bare.db"

    async with (
        aiohttp.ClientSession() as session,
        program("benchmarks.sink", "--latency-ms", latency_ms) as sink,
        program("benchmarks.bare", "--sink", sink.url, "--database", database) as bare,
    ):
        found = await load(bare.port, seconds=20.0, connections=8, count=MESSAGES)
        await wait_received(session, sink, MESSAGES, 20.0)
        delivered = await received(session, sink)

    assert (found["accepted"], found["refused"], found["dropped"]) == (MESSAGES, 0, 0)
    assert delivered == MESSAGES
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM bare").fetchone() == (MESSAGES,)


async def test_a_program_that_does_not_start_says_so():
    """Nothing is measured against a server that is not there."""
    with pytest.raises(RuntimeError, match="benchmarks did not start"):
        async with program("benchmarks", "--help"):
            pass


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_messages_are_cut_whatever_the_pieces(size):
    """Bytes arrive in any portions, several messages in one included."""
    stream = (
        request("POST", "/a", "h", b"one") + request("GET", "/b", "h") + b"POST /c HTTP/1.1\r\n"
    )
    parser, found = Parser(), []

    for start in range(0, len(stream), size):
        found += parser.feed(stream[start : start + size])

    assert [(each.first_line, each.body) for each in found] == [
        (b"POST /a HTTP/1.1", b"one"),
        (b"GET /b HTTP/1.1", b""),
    ]


def test_a_body_of_unknown_length_is_refused():
    """The parser knows Content-Length only, and does not guess."""
    with pytest.raises(Unreadable):
        Parser().feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


def test_a_response_carries_its_length():
    """The other end has to know where it ends."""
    [parsed] = Parser().feed(response("202 Accepted", b"{}", "X-Message-Id: m1"))

    assert (parsed.first_line, parsed.body) == (b"HTTP/1.1 202 Accepted", b"{}")


async def test_a_child_is_ended_with_all_that_it_started(tmp_path):
    """Its own end first: what it leaves behind is found by its session."""
    left_behind = "import os, time; os.fork() and os._exit(0); time.sleep(60)"
    child = Child("parent", [sys.executable, "-c", left_behind], directory=tmp_path, environment={})
    await child.wait(10.0)
    orphans = [life for life in lives(child.pid) if life.pid != child.pid]

    await child.kill()

    assert len(orphans) == 1
    async with asyncio.timeout(10.0):
        while is_same(orphans[0]):
            await asyncio.sleep(0.01)
