"""One run: one contestant in one scenario, from nothing to nothing."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import process
from benchmarks.load import percentile
from benchmarks.peers.contestant import Contestant, Site
from benchmarks.peers.scenario import Scenario

WARM_UP = 150
WARM_UP_FIRST = 50_000_000
"""The warm-up's numbers, apart from those that are measured."""
WARM_UP_S = 30.0
DRAIN_S = 20.0
"""How long after the load the rest may take; a slow contestant is cut off here."""
RECOVERY_S = 130.0
"""How long after a kill everything may take: each lease is 10 s, but some look rarely."""
SETTLING_S = 25.0
"""How long after a kill to wait in any case: what was out is sent again when its lease is over."""
DOWN_S = 1.0
"""From kill -9 until a service manager has noticed."""
SAMPLE_S = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    """What one run found; times are from the answer 202 to the provider's taking it."""

    contestant: str
    scenario: str
    accepted: int
    accepted_per_s: float
    accept_p50_ms: float
    accept_p99_ms: float
    refused: int
    delivered: int
    delivered_per_s: float
    delivery_p50_ms: float
    delivery_p99_ms: float
    cpu_s_per_1000: float | None
    """Of all its processes; None where some were killed, and their times with them."""
    peak_mb: float
    """Proportional set size of all its processes."""
    undelivered: int
    """Accepted, and not delivered when the time was over: lost, or merely late."""
    doubled: int
    recovered_s: float | None
    """From the kill until all was delivered; None without a kill, or if that never came."""


async def measure(contestant: Contestant, scenario: Scenario, seconds: float) -> Run:
    """Start the contestant, put it into the scenario, and end it."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        async with (
            process.program(
                "benchmarks.sink", "--latency-ms", scenario.latency_ms,
                "--fail-every", scenario.fail_every,
            ) as sink,
            aiohttp.ClientSession() as session,
            _started(contestant, Site(directory, sink.url, scenario.fsync)) as port,
        ):  # fmt: skip
            bench = _Bench(contestant, scenario, session, sink, directory)
            await bench.warm_up(port)
            return await bench.run(port, seconds)


@asynccontextmanager
async def _started(contestant: Contestant, site: Site) -> AsyncIterator[int]:
    try:
        yield await contestant.start(site)
    finally:
        await contestant.stop()


class _Bench:
    """The steps of a run."""

    def __init__(
        self,
        contestant: Contestant,
        scenario: Scenario,
        session: aiohttp.ClientSession,
        sink: process.Program,
        directory: Path,
    ) -> None:
        self._contestant = contestant
        self._scenario = scenario
        self._session = session
        self._sink = sink
        self._ledger = directory / "accepted.json"
        self._peak = 0
        self._killed_at = 0.0

    async def warm_up(self, port: int) -> None:
        """Deliver a few: connections are open then, workers are there, and code is warm."""
        found = await process.load(
            port, seconds=WARM_UP_S, connections=8, count=WARM_UP, first=WARM_UP_FIRST
        )
        if not await self._delivered(found["accepted"], WARM_UP_S):
            raise RuntimeError(f"{self._contestant.name} does not deliver its warm-up")

    async def run(self, port: int, seconds: float) -> Run:
        """Load it, wait for the rest, and count."""
        before = await self._distinct()
        pids = self._contestant.pids()
        cpu_before, started_at = process.cpu_s(*pids), time.monotonic()
        sampling = asyncio.create_task(self._sample())
        loading = asyncio.create_task(
            process.load(
                port, seconds=seconds, per_second=self._scenario.per_second, ledger=self._ledger
            )
        )
        try:
            if self._scenario.kills:
                await self._kill(after_s=seconds / 2)
            found = await loading
            expected = before + found["accepted"]
            if self._scenario.kills:
                await self._delivered(expected, RECOVERY_S)
                await asyncio.sleep(self._killed_at + SETTLING_S - time.monotonic())
            else:
                await self._delivered(expected, DRAIN_S)
        finally:
            sampling.cancel()
            loading.cancel()
        cpu_s = None if self._scenario.kills else process.cpu_s(*pids) - cpu_before
        return self._summary(found, await self._taken(), started_at, cpu_s)

    async def _kill(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._killed_at = time.monotonic()
        await self._contestant.kill()
        await asyncio.sleep(DOWN_S)
        await self._contestant.revive()

    async def _sample(self) -> None:
        while True:
            self._peak = max(self._peak, process.pss_bytes(*self._contestant.pids()))
            await asyncio.sleep(SAMPLE_S)

    async def _distinct(self) -> int:
        async with self._session.get(f"{self._sink.url}/count") as response:
            return int((await response.json())["distinct"])

    async def _delivered(self, count: int, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while await self._distinct() < count:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(process.POLL_S)
        return True

    async def _taken(self) -> dict[str, Any]:
        async with self._session.get(f"{self._sink.url}/ledger") as response:
            taken: dict[str, Any] = await response.json()
        return taken

    def _summary(
        self, found: dict[str, Any], taken: dict[str, Any], started_at: float, cpu_s: float | None
    ) -> Run:
        accepted_at: dict[str, float] = json.loads(self._ledger.read_text())
        first_at = {n: at for n, at in taken["first_at"].items() if n in accepted_at}
        delays = sorted(max(at - accepted_at[n], 0.0) * 1000.0 for n, at in first_at.items())
        delivered = len(first_at)
        counted = max(int(delivered * self._scenario.counted), 1)
        counted_at = sorted(first_at.values())[counted - 1] if first_at else time.monotonic()
        undelivered = len(accepted_at) - delivered
        has_recovered = self._scenario.kills and not undelivered
        return Run(
            contestant=self._contestant.name,
            scenario=self._scenario.name,
            accepted=len(accepted_at),
            accepted_per_s=found["accepted_per_s"],
            accept_p50_ms=found["p50_ms"],
            accept_p99_ms=found["p99_ms"],
            refused=found["refused"],
            delivered=delivered,
            delivered_per_s=counted / (counted_at - started_at),
            delivery_p50_ms=percentile(delays, 0.50),
            delivery_p99_ms=percentile(delays, 0.99),
            cpu_s_per_1000=None if cpu_s is None else cpu_s / max(delivered, 1) * 1000.0,
            peak_mb=self._peak / 1e6,
            undelivered=undelivered,
            doubled=sum(taken["takes"][n] > 1 for n in first_at),
            recovered_s=max(counted_at - self._killed_at, 0.0) if has_recovered else None,
        )
