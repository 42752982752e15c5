"""The whole service as a process on a file of some depth: its start, its memory, its latencies."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp

from benchmarks import process
from benchmarks.depth.critical import Critical, Latency, Sample
from benchmarks.subject import Subject, subject

SLOTS = 32
PROVIDER_MS = 50.0
"""What a provider takes to answer: with a backlog, every slot is busy for so long."""
SPREAD = 0.5
"""As a share of that, at random: slots that all fall free at once would make a convoy."""
PER_SECOND = 50.0
"""Critical messages while the backlog goes out."""
_MB = 1024.0 * 1024.0


@dataclass(frozen=True, slots=True)
class Node:
    """One process on one file."""

    start_s: float
    """From the start of Python until it is ready."""
    rss_mb: float
    critical: Latency


@dataclass(slots=True)
class _Pair:
    """A running Clarion and what sends critical messages to it."""

    clarion: Subject
    critical: Critical
    start_s: float


async def measure(path: Path, count: int) -> Node:
    """Start on this file, send `count` critical messages, and stop."""
    async with _running(path, PROVIDER_MS) as pair:
        sample = await pair.critical.stream(count, PER_SECOND)
        return Node(pair.start_s, pair.clarion.rss_bytes() / _MB, sample.latency())


async def critical_beside(paths: Sequence[Path], count: int, rounds: int) -> list[Latency]:
    """Send `count` critical messages to each file's node, in turns."""
    samples = [Sample([], []) for _ in paths]
    for _ in range(rounds):
        for path, sample in zip(paths, samples, strict=True):
            async with _running(path, PROVIDER_MS) as pair:
                # What a start costs the first of them is told elsewhere.
                await pair.critical.stream(min(count, int(PER_SECOND)), PER_SECOND)
                found = await pair.critical.stream(count, PER_SECOND)
            sample.accepts_s += found.accepts_s
            sample.deliveries_s += found.deliveries_s
    return [sample.latency() for sample in samples]


async def drained_per_s(paths: Sequence[Path], seconds: float, rounds: int) -> list[float]:
    """Return what each file's node sends in a second to a provider that answers at once."""
    rates: list[list[float]] = [[] for _ in paths]
    for _ in range(rounds):
        for path, found in zip(paths, rates, strict=True):
            async with _running(path, 0.0) as pair:
                found.append(await pair.clarion.sent_within(seconds))
    return [median(found) for found in rates]


@asynccontextmanager
async def _running(path: Path, provider_ms: float) -> AsyncIterator[_Pair]:
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        async with (
            aiohttp.ClientSession() as session,
            process.program(
                "benchmarks.sink", "--latency-ms", provider_ms, "--spread", SPREAD
            ) as sink,
            subject(Path(name), sink.url, SLOTS, is_started=False, database=path) as clarion,
        ):
            start_s = await clarion.start()
            critical = Critical(session, clarion.server.url, sink.url)
            yield _Pair(clarion, critical, start_s)
            await clarion.server.terminate()
