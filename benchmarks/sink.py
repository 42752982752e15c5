"""A provider that takes everything at once: the far end of every benchmark.

It answers what SendGrid answers (202, `X-Message-Id`), optionally after a latency, and counts.
`GET /count` tells the count; any other GET is a health probe and gets 200.

Run alone: `python -m benchmarks.sink [--latency-ms 50]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import cast

from benchmarks import loop, wire


class Tally:
    """What all connections together received."""

    def __init__(self) -> None:
        self.received = 0


class SinkProtocol(asyncio.Protocol):
    """One keep-alive connection; answers keep the order of the requests."""

    def __init__(self, tally: Tally, latency_s: float) -> None:
        self._tally = tally
        self._latency_s = latency_s
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
        self._tally.received += 1
        accepted = wire.response("202 Accepted", b"", f"X-Message-Id: m{self._tally.received}")
        if self._latency_s:
            asyncio.get_running_loop().call_later(self._latency_s, self._answer, accepted)
        else:
            self._answer(accepted)

    def _tell(self, message: wire.Message) -> bytes:
        if b" /count " in message.first_line:
            told: dict[str, object] = {"received": self._tally.received}
        else:
            told = {"scopes": ["mail.send"]}
        return wire.response("200 OK", json.dumps(told).encode(), "Content-Type: application/json")

    def _answer(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def serve(latency_s: float) -> None:
    """Listen on a loopback port of the kernel's choice until told to stop."""
    tally = Tally()
    server = await asyncio.get_running_loop().create_server(
        lambda: SinkProtocol(tally, latency_s), "127.0.0.1", 0, backlog=1024
    )
    loop.announce(server.sockets[0].getsockname()[1])
    await loop.until_told_to_stop()
    server.close()


def main() -> None:
    """Run the sink as a program."""
    parser = argparse.ArgumentParser(description="a provider that takes everything at once")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    loop.run(serve(parser.parse_args().latency_ms / 1000.0))


if __name__ == "__main__":
    main()
