"""What `make demo` plays with: a server as a process, two providers, and a stream that never stops.

The sender is what a careful client is: it repeats a request that was not answered, under the same
idempotency key, until it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from clarion.testing.clarion_process import ClarionProcess
from clarion.testing.client import ClarionClient, UnexpectedAnswer
from clarion.testing.sendgrid import SendGridLookalike
from clarion.testing.settings_file import settings_toml

RATE: Final = 40.0
"""Notifications that are sent in a second."""
CALL_LIMIT_S: Final = 1.0
GRACE_S: Final = 1.0
FAILURES: Final = 5
"""In a row, and a circuit opens."""
WAIT_S: Final = 15.0
"""How long anything that an act waits for may take."""
POLL_S: Final = 0.05
REPEAT_S: Final = 0.5
"""How long the sender waits before it repeats a request."""

_BREAKER: Final = {
    "failure_threshold": FAILURES, "timeout": 1.0, "timeout_max": 2.0, "jitter": 0.0,
    "half_open_timeout": 2.0,
}  # fmt: skip
_PROVIDER: Final = {"timeout": CALL_LIMIT_S, "bulkhead": {"max_concurrent": 8}}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the server says of itself at one instant."""

    stats: Mapping[str, Any]
    lane: Mapping[str, Any]
    providers: Mapping[str, Mapping[str, Any]]

    @property
    def waiting(self) -> int:
        """How many notifications are accepted and not on the wire."""
        return int(self.stats["by_status"].get("queued", 0))


class Stream:
    """Sends notifications one by one, and knows which were accepted."""

    def __init__(self, client: ClarionClient) -> None:
        self._client = client
        self._is_over = asyncio.Event()
        self.accepted: set[str] = set()
        """Ids that were answered with 202."""
        self.repeats = 0
        """Requests that were repeated, since the one before was not answered."""

    async def run(self) -> None:
        """Send until it is stopped, then until each request was answered."""
        async with asyncio.TaskGroup() as requests:
            number = 0
            while not self._is_over.is_set():
                number += 1
                requests.create_task(self._send(number))
                await asyncio.sleep(1 / RATE)

    def stop(self) -> None:
        """Begin no further notification."""
        self._is_over.set()

    async def _send(self, number: int) -> None:
        while True:
            try:
                made = await self._client.post(
                    f"demo {number}", channel="email", to=f"user{number}@example.com",
                    subject="Hello", text=f"This is number {number}.",
                )  # fmt: skip
            except (aiohttp.ClientError, TimeoutError, UnexpectedAnswer):
                self.repeats += 1
                await asyncio.sleep(REPEAT_S)
            else:
                self.accepted.add(made["id"])
                return


class Stage:
    """The server, its two providers, and the stream."""

    def __init__(self, directory: Path) -> None:
        self.primary, self.backup = SendGridLookalike(), SendGridLookalike()
        self.clarion = ClarionProcess(directory)
        self.client = ClarionClient(self.clarion.url)
        """For reading; the stream has connections of its own."""
        self._stream_client = ClarionClient(self.clarion.url)
        self.stream = Stream(self._stream_client)
        self._sending: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def set_up(self) -> AsyncIterator[None]:
        """Start everything but the stream; leave nothing behind."""
        async with self.primary, self.backup:
            settings_toml(
                self.clarion.directory / "settings.toml",
                providers={
                    "primary": self.primary.settings(**_PROVIDER),
                    "backup": self.backup.settings(**_PROVIDER),
                },
                channels={"email": ["primary", "backup"]},
                breaker=_BREAKER,
                retry={"initial_delay": 0.2, "max_delay": 1.0, "max_attempts": 20},
                defaults={"unknown_grace": GRACE_S},
            )
            async with self._stream_client, self.client, self.clarion:
                try:
                    yield
                finally:
                    if self._sending is not None:
                        self._sending.cancel()
                        await asyncio.wait({self._sending})

    def begin_stream(self) -> None:
        """Send from now on."""
        self._sending = asyncio.create_task(self.stream.run())

    async def end_stream(self) -> None:
        """Send no more, and wait until every request was answered."""
        self.stream.stop()
        if self._sending is not None:
            await self._sending

    def kill_now(self) -> None:
        """Kill the server if it lives; for when there is no event loop any more."""
        if self.clarion.is_running and self.clarion.pid is not None:
            os.kill(self.clarion.pid, signal.SIGKILL)

    @property
    def arrivals(self) -> Counter[str]:
        """How often each id arrived, at either provider."""
        return self.primary.deliveries + self.backup.deliveries

    async def standing(self) -> Standing | None:
        """Ask the server how it stands; None while it does not answer."""
        try:
            stats, queues, providers = (
                await self.client.stats(), await self.client.queues(),
                await self.client.providers(),
            )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError, UnexpectedAnswer):
            return None
        named = {each["name"]: each for each in providers["items"]}
        return Standing(stats, queues["items"][0], named)

    async def until(self, is_so: Callable[[Standing], bool]) -> Standing:
        """Wait until the server stands so, and return how. Raises TimeoutError."""
        async with asyncio.timeout(WAIT_S):
            while True:
                standing = await self.standing()
                if standing is not None and is_so(standing):
                    return standing
                await asyncio.sleep(POLL_S)
