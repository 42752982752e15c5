"""Adapters over look-alike servers, and a server that says exactly what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from clarion.providers.base import Adapter
from clarion.providers.registry import adapter_class
from clarion.testing import ManualClock, SendGridLookalike, TwilioLookalike


class Canned:
    """Answers every request with the same bytes and keeps what it read."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.url = ""
        self.says(500)

    def says(self, status: int, body: str = "", **headers: str) -> None:
        """Answer so from now on; header names have _ for -."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body.encode())}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.answer = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await reader.readexactly(_length_of(head)))
                writer.write(self.answer)
                await writer.drain()
        writer.close()


def _length_of(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@pytest.fixture
async def canned() -> AsyncIterator[Canned]:
    server = Canned()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield server
    listener.close()


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGridLookalike]:
    async with SendGridLookalike() as server:
        yield server


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioLookalike]:
    async with TwilioLookalike() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Make and open an adapter from a `[providers.NAME]` table; it is closed after the test."""
    opened: list[Adapter] = []

    async def make(
        table: dict[str, Any], *, max_concurrent: int = 4, public_url: str = "https://c.example"
    ) -> Adapter:
        kind = adapter_class(table["kind"])
        config = kind.Config(**{key: value for key, value in table.items() if key != "kind"})
        adapter = kind(
            "one", config, max_concurrent=max_concurrent, clock=clock, public_url=public_url,
            base_dir=tmp_path,
        )  # fmt: skip
        await adapter.open()
        opened.append(adapter)
        return adapter

    yield make
    for adapter in opened:
        await adapter.close()
