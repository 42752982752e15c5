"""How long critical messages take, from the request to their arrival at the provider.

They are asked for at a fixed pace, whatever the answers do. Both ends are read from the machine's
one monotonic clock: here, and in the sink's ledger.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.load import percentile
from benchmarks.process import POLL_S

ARRIVAL_S = 30.0
"""How long the last of them may take."""
_FIRST = 1_000_000_000
"""Their numbers; nothing else in a benchmark is numbered so high."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, of `count` critical messages."""

    count: int
    accept_p50_ms: float
    accept_p99_ms: float
    delivery_p50_ms: float
    """From the request to the provider's having it."""
    delivery_p99_ms: float


@dataclass(slots=True)
class Sample:
    """What was seen of some streams, together."""

    accepts_s: list[float]
    deliveries_s: list[float]

    def latency(self) -> Latency:
        """Summarise."""
        accepts, deliveries = sorted(self.accepts_s), sorted(self.deliveries_s)
        shares_ms = (
            percentile(ordered, share) * 1000.0
            for ordered in (accepts, deliveries)
            for share in (0.5, 0.99)
        )
        return Latency(len(deliveries), *shares_ms)


class Critical:
    """Sends critical messages to one Clarion whose provider is one sink."""

    def __init__(self, session: aiohttp.ClientSession, url: str, sink_url: str) -> None:
        self._session = session
        self._url = f"{url}/v1/notifications"
        self._ledger_url = f"{sink_url}/ledger"
        self._number = _FIRST
        self._asked_at: dict[int, float] = {}

    async def stream(self, count: int, per_second: float) -> Sample:
        """Send `count` at that pace and wait until all have arrived; else TimeoutError."""
        began_at = time.monotonic()
        numbers = range(self._number + 1, self._number + count + 1)
        self._number += count
        async with asyncio.TaskGroup() as requests:
            made = []
            for place, number in enumerate(numbers):
                await asyncio.sleep(began_at + place / per_second - time.monotonic())
                made.append(requests.create_task(self._ask(number)))
        arrived_at = await self._arrivals(numbers)
        return Sample(
            [task.result() for task in made],
            [arrived_at[number] - self._asked_at[number] for number in numbers],
        )

    async def _ask(self, number: int) -> float:
        body = {
            "channel": "email",
            "to": f"user{number}@example.com",
            "subject": "Your code",
            "text": "Your code is 123 456. It is good for five minutes.",
            "priority": "critical",
        }
        self._asked_at[number] = asked_at = time.monotonic()
        async with self._session.post(self._url, json=body) as response:
            response.raise_for_status()
            await response.read()
        return time.monotonic() - asked_at

    async def _arrivals(self, numbers: range) -> dict[int, float]:
        async with asyncio.timeout(ARRIVAL_S):
            while not (found := await self._ledger()).keys() >= set(numbers):
                await asyncio.sleep(POLL_S)
        return found

    async def _ledger(self) -> dict[int, float]:
        async with self._session.get(self._ledger_url) as response:
            told: dict[str, Any] = await response.json()
        return {int(number): at for number, at in told["first_at"].items()}
