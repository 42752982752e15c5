"""The load: N keep-alive connections, each with one request out at any moment.

A closed loop: a slow server is asked less often, so that what is measured is the server and not
a queue in front of it. Its CPU time is nobody's: it runs in a process of its own.

Run alone: `python -m benchmarks.load --port 8080 --seconds 5`; the result is one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

from benchmarks import loop, wire

PATH = "/v1/notifications"
CUT_OFF_S = 30.0
"""How long answers that are still out may take once no more is asked."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the generator found."""

    accepted: int
    refused: int
    seconds: float
    accepted_per_s: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]
    dropped: int
    """Connections that the server closed or that had no answer at the end."""


def notification(number: int) -> bytes:
    """Return the body of one request: a short e-mail."""
    body = {
        "channel": "email",
        "to": f"user{number}@example.com",
        "subject": "Your order is on its way",
        "text": f"Order {number} left our house today. " + "It should arrive within two days. " * 4,
        "reference": f"order-{number}",
    }
    return json.dumps(body).encode()


class _Run:
    """What the connections share: when to stop, and what they saw."""

    def __init__(self, seconds: float, count: int) -> None:
        self._stop_at = time.monotonic() + seconds
        self._count = count
        self._asked = 0
        self.latencies_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.last_at = 0.0

    def next_body(self) -> bytes | None:
        """Return what to ask next, or None when it is over."""
        if self._asked >= self._count or time.monotonic() >= self._stop_at:
            return None
        self._asked += 1
        return notification(self._asked)

    def note(self, status: str, latency_s: float, now: float) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.latencies_s.append(latency_s)
        self.last_at = now


class _Connection(asyncio.Protocol):
    """One request at a time, the next one as soon as its answer is here."""

    def __init__(self, run: _Run, host: str, is_over: Callable[[], None]) -> None:
        self._run = run
        self._host = host
        self._is_over = is_over
        self._parser = wire.Parser()
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.has_ended_well = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the first one."""
        # uvloop has transports of its own classes.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Note the answer and ask the next one."""
        for message in self._parser.feed(data):
            now = time.monotonic()
            status = message.first_line.split(b" ")[1].decode()
            self._run.note(status, now - self._asked_at, now)
            self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        """Be over, one way or the other."""
        self._is_over()

    def _ask(self) -> None:
        assert self._transport is not None
        body = self._run.next_body()
        if body is None:
            self.has_ended_well = True
            self._transport.close()
            return
        self._asked_at = time.monotonic()
        self._transport.write(wire.request("POST", PATH, self._host, body))


async def generate(port: int, *, connections: int, seconds: float, count: int) -> Load:
    """Ask until `seconds` have passed or `count` requests were made."""
    started_at = time.monotonic()
    run = _Run(seconds, count)
    ends = asyncio.Semaphore(0)
    event_loop = asyncio.get_running_loop()
    made = [
        (await event_loop.create_connection(
            lambda: _Connection(run, f"127.0.0.1:{port}", ends.release), "127.0.0.1", port
        ))[1]
        for _ in range(connections)
    ]  # fmt: skip
    try:
        async with asyncio.timeout(seconds + CUT_OFF_S):
            for _ in made:
                await ends.acquire()
    except TimeoutError:
        pass
    dropped = sum(not connection.has_ended_well for connection in made)
    return _summary(run, started_at, dropped)


def _summary(run: _Run, started_at: float, dropped: int) -> Load:
    accepted = run.statuses["202"]
    took_s = max(run.last_at - started_at, 1e-9)
    latencies = sorted(run.latencies_s)
    return Load(
        accepted=accepted,
        refused=run.statuses.total() - accepted,
        seconds=took_s,
        accepted_per_s=accepted / took_s,
        p50_ms=percentile(latencies, 0.50) * 1000.0,
        p99_ms=percentile(latencies, 0.99) * 1000.0,
        statuses=dict(run.statuses),
        dropped=dropped,
    )


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie; 0 for none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def main() -> None:
    """Run the generator as a program."""
    parser = argparse.ArgumentParser(description="N connections, one request each at a time")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=10_000_000)
    asked = parser.parse_args()
    found = loop.run(
        generate(
            asked.port, connections=asked.connections, seconds=asked.seconds, count=asked.count
        )
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
