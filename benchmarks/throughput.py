"""Clarion beside the bare pipeline: the same load, the same sink, in turns, in one sitting.

A run is a load of some seconds and the time until the last of it is delivered; what was
delivered, through that time, is the rate. Machines differ and shared ones differ by the minute:
the ratio of neighbouring runs is the figure, not the rates.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp

from benchmarks import process
from benchmarks.subject import subject

DRAIN_S = 60.0
WARM_UP = 300
"""Messages before the clock starts: connections are open then, and code is warm."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run found."""

    name: str
    slots: int
    delivered: int
    delivered_per_s: float
    cpu_s_per_1000: float
    accepted_per_s: float
    accept_p50_ms: float
    accept_p99_ms: float
    refused: int
    missing: int
    """Accepted and not delivered when the time was over: has to be 0."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Clarion and the bare pipeline with the same slots; medians over the rounds."""

    slots: int
    clarion: Run
    bare: Run
    ratio: float
    """Clarion's rate by the bare one: the median over the rounds' own ratios."""
    cpu_ratio: float


async def compare(
    slots: int, *, seconds: float, rounds: int, latency_ms: float
) -> tuple[Comparison, list[Run]]:
    """Run both in turns and return the comparison with all its runs."""
    bare: list[Run] = []
    ours: list[Run] = []
    for _ in range(rounds):
        bare.append(await run_bare(slots, seconds, latency_ms))
        ours.append(await run_clarion(slots, seconds, latency_ms))
    pairs = list(zip(ours, bare, strict=True))
    comparison = Comparison(
        slots=slots,
        clarion=middle(ours),
        bare=middle(bare),
        ratio=median(our.delivered_per_s / their.delivered_per_s for our, their in pairs),
        cpu_ratio=median(our.cpu_s_per_1000 / their.cpu_s_per_1000 for our, their in pairs),
    )
    return comparison, bare + ours


def middle(runs: list[Run]) -> Run:
    """Return the run with the median rate, the lower one of two."""
    ordered = sorted(runs, key=lambda run: run.delivered_per_s)
    return ordered[(len(ordered) - 1) // 2]


async def run_bare(slots: int, seconds: float, latency_ms: float) -> Run:
    """Measure the bare pipeline once."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as directory:
        async with (
            process.program("benchmarks.sink", "--latency-ms", latency_ms) as sink,
            process.program(
                "benchmarks.bare", "--sink", sink.url,
                "--database", Path(directory) / "bare.db", "--slots", slots,
            ) as bare,
        ):  # fmt: skip
            return await _run("bare", slots, seconds, bare, lambda: process.cpu_s(bare.pid), sink)


async def run_clarion(slots: int, seconds: float, latency_ms: float) -> Run:
    """Measure Clarion once."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as directory:
        async with (
            process.program("benchmarks.sink", "--latency-ms", latency_ms) as sink,
            subject(Path(directory), sink.url, slots) as clarion,
        ):
            at = process.Program(clarion.pid, clarion.port)
            return await _run("clarion", slots, seconds, at, clarion.cpu_s, sink)


async def _run(
    name: str,
    slots: int,
    seconds: float,
    at: process.Program,
    cpu_s: Callable[[], float],
    sink: process.Program,
) -> Run:
    async with aiohttp.ClientSession() as session:
        warm = await process.load(at.port, seconds=seconds, connections=8, count=WARM_UP)
        before = await process.wait_received(session, sink, warm["accepted"], DRAIN_S)
        cpu_before, started_at = cpu_s(), time.monotonic()
        found = await process.load(at.port, seconds=seconds)
        expected = before + found["accepted"]
        after = await process.wait_received(session, sink, expected, DRAIN_S)
        took_s = time.monotonic() - started_at
        delivered = after - before
        return Run(
            name=name,
            slots=slots,
            delivered=delivered,
            delivered_per_s=delivered / took_s,
            cpu_s_per_1000=(cpu_s() - cpu_before) / max(delivered, 1) * 1000.0,
            accepted_per_s=found["accepted_per_s"],
            accept_p50_ms=found["p50_ms"],
            accept_p99_ms=found["p99_ms"],
            refused=found["refused"],
            missing=expected - after,
        )
