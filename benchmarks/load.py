"""The load: N keep-alive connections, each with one request out at any moment.

A closed loop: a slow server is asked less often, so that what is measured is the server and not
a queue in front of it. With `--per-second` the connections also wait until a request is due. Its
CPU time is nobody's: it runs in a process of its own.

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
from pathlib import Path
from typing import cast

from benchmarks import loop, wire

PATH = "/v1/notifications"
UNBOUNDED = 10_000_000
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for, and how fast."""

    seconds: float
    count: int = UNBOUNDED
    first: int = 1
    """Number of the first notification; the others follow it."""
    per_second: float = 0.0
    """0: as fast as the answers come."""


class _Run:
    """What the connections share: when to stop, and what they saw."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._started_at = time.monotonic()
        self._asked = 0
        self.latencies_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.accepted_at: dict[int, float] = {}
        """Number of a notification -> when its 202 was here."""
        self.last_at = 0.0

    def next_number(self) -> int | None:
        """Return which to ask next, or None when it is over."""
        stop_at = self._started_at + self._plan.seconds
        if self._asked >= self._plan.count or max(time.monotonic(), self._due_at()) >= stop_at:
            return None
        self._asked += 1
        return self._plan.first + self._asked - 1

    def wait_s(self) -> float:
        """Return how long the next one has to wait for its turn."""
        return max(self._due_at() - time.monotonic(), 0.0) if self._plan.per_second else 0.0

    def _due_at(self) -> float:
        if not self._plan.per_second:
            return 0.0
        return self._started_at + self._asked / self._plan.per_second

    def note(self, number: int, status: str, latency_s: float, now: float) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.latencies_s.append(latency_s)
        self.last_at = now
        if status == "202":
            self.accepted_at[number] = now


class _Connection(asyncio.Protocol):
    """One request at a time, the next one as soon as its answer is here."""

    def __init__(self, run: _Run, host: str, is_over: Callable[[], None]) -> None:
        self._run = run
        self._host = host
        self._is_over = is_over
        self._parser = wire.Parser()
        self._number = 0
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
            self._run.note(self._number, status, now - self._asked_at, now)
            self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        """Be over, one way or the other."""
        self._is_over()

    def _ask(self) -> None:
        wait_s = self._run.wait_s()
        number = self._run.next_number()
        if number is None:
            self._end()
        elif wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._write, number)
        else:
            self._write(number)

    def _write(self, number: int) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._number, self._asked_at = number, time.monotonic()
        self._transport.write(wire.request("POST", PATH, self._host, notification(number)))

    def _end(self) -> None:
        assert self._transport is not None
        self.has_ended_well = True
        self._transport.close()


async def generate(port: int, connections: int, plan: Plan) -> tuple[Load, dict[int, float]]:
    """Ask as planned; return a summary, and which were accepted when (monotonic clock)."""
    started_at = time.monotonic()
    run = _Run(plan)
    ends = asyncio.Semaphore(0)
    event_loop = asyncio.get_running_loop()
    made = [
        (await event_loop.create_connection(
            lambda: _Connection(run, f"127.0.0.1:{port}", ends.release), "127.0.0.1", port
        ))[1]
        for _ in range(connections)
    ]  # fmt: skip
    try:
        async with asyncio.timeout(plan.seconds + CUT_OFF_S):
            for _ in made:
                await ends.acquire()
    except TimeoutError:
        pass
    dropped = sum(not connection.has_ended_well for connection in made)
    return _summary(run, started_at, dropped), run.accepted_at


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
    parser.add_argument("--count", type=int, default=UNBOUNDED)
    parser.add_argument("--first", type=int, default=1, help="number of the first notification")
    parser.add_argument("--per-second", type=float, default=0.0, help="0: as fast as it goes")
    parser.add_argument("--ledger", type=Path, help="write here which were accepted when")
    asked = parser.parse_args()
    plan = Plan(asked.seconds, asked.count, asked.first, asked.per_second)
    found, accepted_at = loop.run(generate(asked.port, asked.connections, plan))
    if asked.ledger is not None:
        asked.ledger.write_text(json.dumps(accepted_at))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
