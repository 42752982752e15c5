"""Bytes that are no HTTP, or barely: the server answers or lets go, and remembers nothing of it.

Every conversation comes from one seed. What came back is counted by its kind; the counts are shown
by `pytest -rP`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from clarion.testing import ClarionProcess

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="memory and connections are read from /proc"
)

ROUNDS = int(os.environ.get("CLARION_FUZZ_EXAMPLES", "6"))
SEED = 1
QUIET_S = 1.0
"""A server that says nothing for so long waits for the rest of the request."""
BOUND_S = 20.0
AT_ONCE = 25

HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/notifications " + HEAD + b"Content-Type: application/json\r\n"
BODY = b'{"channel": "email", "to": "ada@example.com", "text": "Hello"}'
GOOD = (
    b"GET /livez " + HEAD + b"\r\n",
    b"GET /v1/notifications?limit=2&status=sent " + HEAD + b"Accept: */*\r\n\r\n",
    POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
)  # fmt: skip
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

Bytes = Iterable[bytes]
"""What a client writes, piece by piece; pieces may be made as they go."""


# --- what is sent ----------------------------------------------------------------------------


def mutated(draw: random.Random) -> Bytes:
    """A good request with some bytes changed, lost, doubled or let in."""
    request = bytearray(draw.choice(GOOD))
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(request))
        match draw.randrange(4):
            case 0:
                request[at] = draw.randrange(256)
            case 1:
                del request[at : at + draw.randint(1, 8)]
            case 2:
                request[at:at] = request[at : at + draw.randint(1, 30)]
            case _:
                request[at:at] = draw.choice([b"\r\n", b"\0", b"\n", b" ", b"\xff\xfe", b":", b"%"])
        request = request or bytearray(b"\r\n")
    return in_pieces(draw, bytes(request))


def noise(draw: random.Random) -> Bytes:
    """Nothing that anyone would call HTTP."""
    return in_pieces(draw, draw.randbytes(draw.randint(1, 5000)))


def chunk_garbage(draw: random.Random) -> Bytes:
    """Chunks of sizes that are none, too large or a lie, with extensions and trailers."""
    size = draw.choice([b"%x" % draw.randrange(300), b"-1", b"", b"0x10", b"zz", b"f" * 40, b"1 1"])
    extension = draw.choice([b"", b";a=b", b";" + b"e" * draw.choice([10, 100_000]), b";\0"])
    filling = draw.randbytes(draw.randrange(300))
    end = draw.choice([b"\r\n", b"\n", b"", b"\r\n0\r\n\r\n", b"\r\n0\r\nT: x\r\n" * 50])
    return in_pieces(draw, CHUNKED + size + extension + b"\r\n" + filling + end)


def header_bomb(draw: random.Random) -> Bytes:
    """Very many headers, or few that are very long."""
    n, length = draw.choice([(20_000, 5), (2, 4_000_000), (500, 8_000), (100, 80_000), (10, 10)])
    line = b"X-" + b"a" * 10 + b": " + b"b" * length + b"\r\n"
    return (b"GET /livez " + HEAD, *(line for _ in range(n)), b"\r\n")


def oversized(draw: random.Random) -> Bytes:
    """A part that is larger than all reason."""
    much = b"x" * draw.choice([10_000, 200_000, 3_000_000])
    return draw.choice(
        [
            (much + b" / " + HEAD + b"\r\n",),
            (b"GET /" + much + b" " + HEAD + b"\r\n",),
            (b"GET /livez?" + much + b" " + HEAD + b"\r\n",),
            (b"GET /livez HTTP/1." + much + b"\r\n\r\n",),
            (b"GET /livez HTTP/1.1\r\nHost: " + much + b"\r\n\r\n",),
            (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",),
            (POST + b"Content-Length: 900000000\r\n\r\n", much),
            (CHUNKED, *(b"%x\r\n" % len(much) + much + b"\r\n" for _ in range(15)), b"0\r\n\r\n"),
            (CHUNKED, b"5000000\r\n", *(much for _ in range(15))),
        ]
    )  # fmt: skip


def pipelined(draw: random.Random) -> Bytes:
    """Many requests before the first answer is read, and not all of them right."""
    requests = [draw.choice(GOOD) for _ in range(draw.randint(20, 200))]
    if draw.random() < 0.5:
        requests.insert(draw.randrange(len(requests)), b"BREW / HTCPCP/1.0\r\n\r\n")
    return in_pieces(draw, b"".join(requests))


def unfinished(draw: random.Random) -> Bytes:
    """A request of which a part never comes."""
    request = draw.choice(GOOD)
    return in_pieces(draw, request[: draw.randrange(1, len(request))])


def strange(draw: random.Random) -> Bytes:
    """Right, or nearly, and asked for by nobody."""
    request = draw.choice(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"OPTIONS * " + HEAD + b"\r\n",
            b"CONNECT localhost:443 " + HEAD + b"\r\n",
            b"TRACE /livez " + HEAD + b"\r\n",
            b"GET http://localhost/livez " + HEAD + b"\r\n",
            b"GET //localhost/../../etc/passwd " + HEAD + b"\r\n",
            b"GET /%00%ff%2e%2e%2f?%=%&&==;;%00 " + HEAD + b"\r\n",
            b"GET /v1/notifications/%F0%9F%92%A9%0A " + HEAD + b"\r\n",
            b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"GET /livez HTTP/1.1\r\n\r\n",
            b"GET /livez HTTP/1.1\nHost: localhost\n\n",
            b"GET /livez " + HEAD + b"Host: elsewhere\r\n\r\n",
            b"GET /livez " + HEAD + b"X: one\r\n two\r\n\r\n",
            b"GET /livez " + HEAD + b"Range: bytes=0-1,5-2,-1\r\nIf-Match: *\r\n\r\n",
            b"GET /livez " + HEAD + b"Content-Length: 5\r\n\r\nhello",
            b"GET /metrics " + HEAD + b"Accept: application/openmetrics-text;q=x,,;\r\n\r\n",
            b"GET /livez " + HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            b"GET /livez " + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n\x81\x85....hello",
            POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
            POST + b"Expect: 100-continue\r\nContent-Length: 900000000\r\n\r\n",
            POST + b"Expect: miracles\r\nContent-Length: 5\r\n\r\nhello",
            POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
            POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: identity\r\n\r\n{}",
            POST + b"Content-Length: +2\r\n\r\n{}",
            POST + b"Content-Length: 2, 2\r\n\r\n{}",
            POST + b"Idempotency-Key: \xe9\xff\r\nContent-Length: 2\r\n\r\n{}",
            POST.replace(b"json", b"json; charset=\xff") + b"Content-Length: 2\r\n\r\n{}",
        ]
    )
    return in_pieces(draw, request)


def in_pieces(draw: random.Random, request: bytes) -> Sequence[bytes]:
    """Cut a request at random places, or leave it whole."""
    cuts = sorted(draw.randrange(len(request) + 1) for _ in range(draw.choice([0, 0, 1, 3])))
    ends = (*cuts, len(request))
    return [request[start:end] for start, end in zip((0, *cuts), ends, strict=True)]


ATTACKS: dict[Callable[[random.Random], Bytes], int] = {
    mutated: 25, noise: 5, chunk_garbage: 10, header_bomb: 1, oversized: 3, pipelined: 2,
    unfinished: 4, strange: 15,
}  # fmt: skip
"""How many of each there are in a round."""


# --- what comes back -------------------------------------------------------------------------


async def converse(port: int, pieces: Bytes) -> tuple[list[int], str]:
    """Write the pieces; return the statuses that came back, and how the conversation ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(BOUND_S):
            writing = asyncio.create_task(_write(writer, pieces))
            answer, end = await _read(reader, writing)
            writing.cancel()
    finally:
        writer.transport.abort()
    return [
        int(found[1]) for found in re.finditer(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n", answer)
    ], end


async def _write(writer: asyncio.StreamWriter, pieces: Bytes) -> None:
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader, writing: asyncio.Task[None]) -> tuple[bytes, str]:
    answer = b""
    while True:
        try:
            async with asyncio.timeout(QUIET_S):
                part = await reader.read(65536)
        except TimeoutError:
            if not writing.done():
                continue  # It reads on, or lets the writer wait: bounded by the whole conversation.
            return answer, "waits" if not answer else "keeps"
        except ConnectionError:
            return answer, "resets"
        if not part:
            return answer, "closes"
        answer += part


def attacks() -> Iterator[tuple[str, Bytes]]:
    """Draw every conversation."""
    draw = random.Random(SEED)
    for _ in range(ROUNDS):
        for attack, times in ATTACKS.items():
            for _ in range(times):
                yield attack.__name__, attack(draw)


@pytest.mark.timeout(120 + 10 * ROUNDS)
async def test_no_bytes_break_the_server(tmp_path):
    """No 500, no hang, no connection and no memory that stays; and the next request is served."""
    (tmp_path / "settings.toml").touch()
    came_back: Counter[tuple[str, str]] = Counter()
    async with ClarionProcess(tmp_path) as clarion:
        port = urlsplit(clarion.url).port
        await _in_parallel(port, attacks(), came_back)
        before_kb = _resident_kb(clarion.pid)
        await _in_parallel(port, attacks(), came_back)
        after_kb = _resident_kb(clarion.pid)
        show(came_back)

        stats = await clarion.client.stats()
        await _until_no_one_is_connected(clarion.pid)
        assert '"level": "error"' not in clarion.log, clarion.log[-4000:]
        assert await clarion.terminate() == 0

    statuses = {what for _attack, what in came_back if what.isdigit()}
    assert {"200", "202", "400"} <= statuses
    assert not {status for status in statuses if status >= "500"}
    assert stats["accepted"] == sum(stats["by_status"].values()) > 0
    # The second time everything is warm: what grows then is kept for each request.
    assert after_kb < 1.5 * before_kb


async def _in_parallel(
    port: int, conversations: Iterator[tuple[str, Bytes]], came_back: Counter[tuple[str, str]]
) -> None:
    async def work() -> None:
        for attack, pieces in conversations:
            statuses, end = await converse(port, pieces)
            came_back.update((attack, str(status)) for status in statuses)
            came_back[attack, end] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())


async def test_a_long_pipeline_is_answered_whole_and_in_order(tmp_path):
    """Five clients that write two hundred requests each before they read anything."""
    (tmp_path / "settings.toml").touch()
    requests = [GOOD[n % len(GOOD)] for n in range(200)]
    requests[-1] = requests[-1].replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    expected = [(200, 200, 202, 202)[n % len(GOOD)] for n in range(200)]
    async with ClarionProcess(tmp_path) as clarion:
        port = urlsplit(clarion.url).port

        found = await asyncio.gather(*(_ask_all(port, requests) for _ in range(5)))

        assert found == [expected] * 5
        assert (await clarion.client.stats())["accepted"] == 5 * expected.count(202)


async def _ask_all(port: int, requests: Sequence[bytes]) -> list[int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writing = asyncio.create_task(_write(writer, requests))
            answer = await reader.read()
            await writing
    finally:
        writer.transport.abort()
    return [int(found[1]) for found in re.finditer(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", answer)]


async def test_a_body_without_end_is_not_taken_in(tmp_path):
    """413 as soon as it is too large, while its sender goes on; what is read then is not kept."""
    (tmp_path / "settings.toml").touch()
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    async with ClarionProcess(tmp_path) as clarion:
        port = urlsplit(clarion.url).port
        before_kb = _resident_kb(clarion.pid)

        for path in (b"/v1/notifications", b"/v1/notifications/batch"):
            head = CHUNKED.replace(b"/v1/notifications", path)
            statuses, _end = await converse(port, (head, *(piece for _ in range(300))))
            assert statuses == [413]

        # 32 MB of a batch, twice over while it is put together, and not 300.
        assert _peak_kb(clarion.pid) < before_kb + 150_000


async def test_slow_senders_keep_nobody_else_waiting(tmp_path):
    """Two hundred that trickle heads and bodies cost the others nothing, and leave nothing."""
    (tmp_path / "settings.toml").touch()
    async with ClarionProcess(tmp_path) as clarion, asyncio.timeout(60):
        before = _connections(clarion.pid)
        slow = [
            asyncio.create_task(_trickle(urlsplit(clarion.url).port, GOOD[n % len(GOOD)]))
            for n in range(200)
        ]
        while _connections(clarion.pid) < before + len(slow):
            await asyncio.sleep(0.01)

        for n in range(50):
            await clarion.client.post(channel="email", to="ada@example.com", text=f"Hello {n}")

        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        await _until_no_one_is_connected(clarion.pid)
        assert (await clarion.client.stats())["accepted"] == 50


async def _trickle(port: int, request: bytes) -> None:
    """Write all but the last bytes of a request, one now and then."""
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for n in range(len(request) - 5):
            writer.write(request[n : n + 1])
            await writer.drain()
            await asyncio.sleep(0.05)
        await asyncio.Event().wait()
    finally:
        writer.transport.abort()


async def _until_no_one_is_connected(pid: int) -> None:
    """Wait until only our own client, which keeps one connection, and the listener are left."""
    async with asyncio.timeout(BOUND_S):
        while _connections(pid) > 2:
            await asyncio.sleep(0.05)


def _connections(pid: int) -> int:
    """Count the sockets of loopback that a process holds."""
    sockets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            sockets.add(str(file.readlink()))
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return sum(f"socket:[{line.split()[9]}]" in sockets for line in lines)


def _resident_kb(pid: int) -> int:
    return _status_kb(pid, "VmRSS")


def _peak_kb(pid: int) -> int:
    return _status_kb(pid, "VmHWM")


def _status_kb(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def show(came_back: Counter[tuple[str, str]]) -> None:
    """Print what came back to each kind of attack."""
    for attack in dict.fromkeys(attack for attack, _what in came_back):
        counts = sorted((what, n) for (kind, what), n in came_back.items() if kind == attack)
        print(f"{attack:14}", ", ".join(f"{what}: {n}" for what, n in counts))
