"""A provider that takes everything at once: the far end of every benchmark.

It answers what SendGrid answers (202, `X-Message-Id`), optionally after a latency, refuses every
Nth call with a 503 if it is told to, and keeps a ledger of what it took. `GET /count` tells how
many, `GET /ledger` which, how often and when first; any other GET is a health probe and gets 200.

Run alone: `python -m benchmarks.sink [--latency-ms 50] [--fail-every 10]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from benchmarks import loop, wire

_RECIPIENT = re.compile(rb"user(\d+)@")
"""The load numbers its notifications in the address (`load.notification`)."""


@dataclass(slots=True)
class Tally:
    """What all connections together received."""

    calls: int = 0
    received: int = 0
    """Calls that were taken, the second one of a doubled notification included."""
    takes: dict[int, int] = field(default_factory=dict)
    """Number of a notification -> how often it was taken."""
    first_at: dict[int, float] = field(default_factory=dict)
    """Number of a notification -> when first, on the machine's monotonic clock."""

    def take(self, body: bytes) -> None:
        """Note one call that is taken."""
        self.received += 1
        if found := _RECIPIENT.search(body):
            number = int(found[1])
            self.takes[number] = self.takes.get(number, 0) + 1
            self.first_at.setdefault(number, time.monotonic())


class SinkProtocol(asyncio.Protocol):
    """One keep-alive connection; answers keep the order of the requests."""

    def __init__(self, tally: Tally, draw_latency_s: Callable[[], float], fail_every: int) -> None:
        self._tally = tally
        self._draw_latency_s = draw_latency_s
        self._fail_every = fail_every
        self._parser = wire.Parser()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        # uvloop has transports of its own classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        try:
            messages = self._parser.feed(data)
        except wire.Unreadable:
            self._answer(wire.response("411 Length Required"))
            return
        for message in messages:
            self._take(message)

    def _take(self, message: wire.Message) -> None:
        if message.first_line.startswith(b"GET"):
            self._answer(self._tell(message))
            return
        answer = self._verdict(message.body)
        if latency_s := self._draw_latency_s():
            asyncio.get_running_loop().call_later(latency_s, self._answer, answer)
        else:
            self._answer(answer)

    def _verdict(self, body: bytes) -> bytes:
        self._tally.calls += 1
        if self._fail_every and self._tally.calls % self._fail_every == 0:
            refusal = b'{"errors": [{"message": "out of order", "field": null, "help": null}]}'
            return wire.response(
                "503 Service Unavailable", refusal, "Content-Type: application/json"
            )
        self._tally.take(body)
        return wire.response("202 Accepted", b"", f"X-Message-Id: m{self._tally.received}")

    def _tell(self, message: wire.Message) -> bytes:
        told: dict[str, object] = {"scopes": ["mail.send"]}
        if b" /count " in message.first_line:
            told = {"received": self._tally.received, "distinct": len(self._tally.takes)}
        elif b" /ledger " in message.first_line:
            told = {"takes": self._tally.takes, "first_at": self._tally.first_at}
        return wire.response("200 OK", json.dumps(told).encode(), "Content-Type: application/json")

    def _answer(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def serve(draw_latency_s: Callable[[], float], fail_every: int) -> None:
    """Listen on a loopback port of the kernel's choice until told to stop."""
    tally = Tally()
    server = await asyncio.get_running_loop().create_server(
        lambda: SinkProtocol(tally, draw_latency_s, fail_every), "127.0.0.1", 0, backlog=1024
    )
    loop.announce(server.sockets[0].getsockname()[1])
    await loop.until_told_to_stop()
    server.close()


def main() -> None:
    """Run the sink as a program."""
    parser = argparse.ArgumentParser(description="a provider that takes everything at once")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=0.0, help="share of the latency, at random")
    parser.add_argument("--fail-every", type=int, default=0, help="refuse each Nth call; 0: none")
    asked = parser.parse_args()
    longest_s = asked.latency_ms / 1000.0 * (1.0 + asked.spread)
    shortest_s = asked.latency_ms / 1000.0 * (1.0 - asked.spread)
    rng = random.Random(0)
    loop.run(serve(lambda: rng.uniform(shortest_s, longest_s), asked.fail_every))


if __name__ == "__main__":
    main()
