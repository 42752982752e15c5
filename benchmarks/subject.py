"""Clarion as the benchmarks run it: a real process, one e-mail lane, one provider at the sink."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import process
from clarion.testing.clarion_process import ClarionProcess
from clarion.testing.settings_file import settings_toml

START_S = 60.0
STOP_S = 60.0
POLL_S = 0.02


def write_settings(
    directory: Path, sink_url: str, slots: int, *, database: Path | None = None
) -> Path:
    """Write the settings: defaults, but for the provider's address and its slots.

    With a `database` of another place there is a second lane, for text messages.
    """
    second = {} if database is None else {"twilio": _text_provider(sink_url)}
    return settings_toml(
        directory / "settings.toml",
        storage={"url": f"sqlite:///{database or directory / 'clarion.db'}"},
        providers={
            **second,
            "sendgrid": {
                "kind": "sendgrid",
                "api_key": "SG.benchmark",
                "base_url": sink_url,
                "from_address": "bench@example.com",
                "from_name": "Benchmark",
                "bulkhead": {"max_concurrent": slots},
            },
        },
        channels={"email": ["sendgrid"], **({"sms": list(second)} if second else {})},
    )


def _text_provider(url: str) -> dict[str, str]:
    return {
        "kind": "twilio",
        "account_sid": "AC" + "0" * 32,
        "auth_token": "benchmark",
        "base_url": url,
        "from_number": "+15005550006",
    }


class Subject:
    """A running Clarion, its costs, and the few questions that benchmarks ask it."""

    def __init__(self, server: ClarionProcess, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.server.pid is not None
        return self.server.pid

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its processes."""
        return process.cpu_s(self.pid)

    def rss_bytes(self) -> int:
        """Return the memory of all its processes."""
        return process.rss_bytes(self.pid)

    async def stats(self) -> dict[str, Any]:
        """Ask for the counts."""
        async with self._session.get(f"{self.server.url}/v1/stats") as response:
            response.raise_for_status()
            told: dict[str, Any] = await response.json()
        return told

    async def command(self, path: str) -> None:
        """Carry out an operator's command, such as `/v1/providers/sendgrid/disable`."""
        async with self._session.post(f"{self.server.url}{path}") as response:
            response.raise_for_status()

    async def submit(self, lines: bytes) -> int:
        """Submit NDJSON through the batch endpoint; return how many were accepted."""
        url = f"{self.server.url}/v1/notifications/batch"
        headers = {"Content-Type": "application/x-ndjson"}
        async with self._session.post(url, data=lines, headers=headers) as response:
            told = await response.json()
            if response.status >= 300:
                raise RuntimeError(f"the batch was refused: {response.status} {told}")
        return int(told["accepted"])

    async def restart(self) -> float:
        """Stop it, start it, and return how many seconds it took to be ready."""
        await self.server.terminate(STOP_S)
        return await self.start()

    async def start(self) -> float:
        """Start it and return how many seconds it took to be ready."""
        started_at = time.monotonic()
        self.server.spawn()
        await self.server.wait_ready(START_S)
        return time.monotonic() - started_at

    async def sent_within(self, seconds: float) -> float:
        """Return how many notifications per second it ends as sent, over `seconds`."""
        before, started_at = await self._sent(), time.monotonic()
        await asyncio.sleep(seconds)
        after, ended_at = await self._sent(), time.monotonic()
        return (after - before) / (ended_at - started_at)

    async def _sent(self) -> int:
        told = await self.stats()
        return int(told["by_status"].get("sent", 0))

    async def wait_sent(self, count: int, timeout_s: float) -> None:
        """Wait until `count` are sent; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s):
            while await self._sent() < count:
                await asyncio.sleep(POLL_S)


@asynccontextmanager
async def subject(
    directory: Path,
    sink_url: str,
    slots: int,
    *,
    is_started: bool = True,
    database: Path | None = None,
) -> AsyncIterator[Subject]:
    """Run Clarion in `directory` until the end of the block; it is killed there."""
    settings = write_settings(directory, sink_url, slots, database=database)
    timeout = aiohttp.ClientTimeout(total=60.0)
    server = ClarionProcess(directory, settings=settings)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        found = Subject(server, session)
        try:
            if is_started:
                await found.start()
            yield found
        finally:
            await server.aclose()
