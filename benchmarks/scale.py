"""What a long queue costs: memory, batch intake, taking work, starting again.

A million notifications wait in a lane whose provider is disabled. Measured on the way: the rate
of the batch endpoint, the memory with nothing and with everything queued, the time to start with
that many live rows, deliveries per second out of a short and a long queue, and, on the same
database file, what taking and settling work costs the store alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import process
from benchmarks.subject import Subject, subject
from clarion.domain.notification import Call, Job, ProviderCall, Status
from clarion.storage.command import Command, Intend, Refill, Settle
from clarion.storage.store import SqliteStore

BATCH = 10_000
SHORT = 1_000
START_AT = 100_000
"""Live rows of the first start that is timed."""
TAKEN = 64
STORE_ROUNDS = 60
DELIVERY_S = 3.0
SHORT_LANE = 20_000
"""Queued for the deliveries out of a "short" queue: enough for `DELIVERY_S` of them."""
_NORMAL = 2
_MB = 1024.0 * 1024.0


@dataclass(frozen=True, slots=True)
class StoreCost:
    """Medians of a batch of `TAKEN`, per notification, on the store alone."""

    pending: int
    claim_us: float
    """Reading the head of the lane and noting the intents, in one commit each."""
    settle_us: float


@dataclass(frozen=True, slots=True)
class Scale:
    """What a queue of `queued` costs."""

    queued: int
    batch_accepted_per_s: float
    rss_empty_mb: float
    rss_full_mb: float
    start_s: dict[int, float]
    """Live rows -> seconds until ready."""
    sent_per_s_short: float
    sent_per_s_long: float
    store: list[StoreCost]

    @property
    def claim_ratio(self) -> float:
        """The store's claim with a long queue by that with a short one."""
        return self.store[-1].claim_us / self.store[0].claim_us

    @property
    def settle_ratio(self) -> float:
        """The store's settlement with a long queue by that with a short one."""
        return self.store[-1].settle_us / self.store[0].settle_us


async def measure(queued: int, say: Callable[[str], None]) -> Scale:
    """Fill a lane with `queued` and measure; `say` hears what goes on."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        directory = Path(name)
        async with (
            process.program("benchmarks.sink") as sink,
            subject(directory, sink.url, 32, is_started=False) as clarion,
        ):
            return await _measure(clarion, directory, queued, say)


async def _measure(
    clarion: Subject, directory: Path, queued: int, say: Callable[[str], None]
) -> Scale:
    start_s = {0: await clarion.start()}
    rss_empty = clarion.rss_bytes()
    say("deliveries out of a short queue")
    await clarion.command("/v1/providers/sendgrid/disable")
    await fill(clarion, 0, SHORT_LANE)
    short = await _sent_per_s(clarion)
    await clarion.command("/v1/providers/sendgrid/enable")
    await clarion.wait_sent(SHORT_LANE, 60.0)
    await clarion.command("/v1/providers/sendgrid/disable")

    say(f"queueing {queued:,}")
    first = min(START_AT, queued)
    rate = await fill(clarion, SHORT_LANE, first)
    start_s[first] = await clarion.restart()
    if queued > first:
        rate = await fill(clarion, SHORT_LANE + first, queued - first)
    rss_full = clarion.rss_bytes()
    start_s[queued] = await clarion.restart()

    say("deliveries out of a long queue")
    long = await _sent_per_s(clarion)
    await clarion.server.terminate()
    say("the store alone")
    costs = [await _short_store(clarion, directory), _cost_of(directory / "clarion.db")]
    return Scale(
        queued, rate, rss_empty / _MB, rss_full / _MB, start_s, short, long, costs
    )  # fmt: skip


async def _sent_per_s(clarion: Subject) -> float:
    """Enable the provider for a while; the queue has to be longer than what is sent then."""
    await clarion.command("/v1/providers/sendgrid/enable")
    rate = await clarion.sent_within(DELIVERY_S)
    await clarion.command("/v1/providers/sendgrid/disable")
    return rate


async def fill(clarion: Subject, first: int, n: int) -> float:
    """Submit `n` in batches of 10,000; return how many per second were accepted.

    The time in which the bodies are written is not counted.
    """
    accepted, took_s = 0, 0.0
    for start in range(first, first + n, BATCH):
        body = lines(range(start, min(start + BATCH, first + n)))
        started_at = time.monotonic()
        accepted += await clarion.submit(body)
        took_s += time.monotonic() - started_at
    if accepted != n:
        raise RuntimeError(f"{n - accepted} of {n} notifications were rejected")
    return accepted / took_s


def lines(numbers: range) -> bytes:
    """Return NDJSON of short e-mails."""
    return b"\n".join(
        json.dumps(
            {
                "channel": "email",
                "to": f"user{number}@example.com",
                "subject": "Your order is on its way",
                "text": f"Order {number} left our house today.",
            }
        ).encode()
        for number in numbers
    )


# --- the store alone -------------------------------------------------------------------------


async def _short_store(clarion: Subject, directory: Path) -> StoreCost:
    """Make a database of `SHORT` rows in the same way, through Clarion, and measure it."""
    long, kept = directory / "clarion.db", directory / "long"
    kept.mkdir()
    for path in directory.glob("clarion.db*"):
        shutil.move(path, kept / path.name)
    await clarion.start()
    await clarion.command("/v1/providers/sendgrid/disable")
    await fill(clarion, 0, SHORT + STORE_ROUNDS * TAKEN)
    await clarion.server.terminate()
    cost = _cost_of(long)
    for path in directory.glob("clarion.db*"):
        path.unlink()
    for path in kept.iterdir():
        shutil.move(path, directory / path.name)
    return cost


def _cost_of(path: Path) -> StoreCost:
    store = SqliteStore(str(path))
    store.open()
    try:
        [(pending,)] = store.connection.execute("SELECT count(*) FROM jobs")
        rounds = [_take_and_settle(store) for _ in range(STORE_ROUNDS)]
    finally:
        store.close()
    claims, settles = zip(*rounds, strict=True)
    per_us = 1e6 / TAKEN
    # What was taken meanwhile is subtracted: so many waited at the end.
    return StoreCost(
        pending - STORE_ROUNDS * TAKEN, median(claims) * per_us, median(settles) * per_us
    )


def _take_and_settle(store: SqliteStore) -> tuple[float, float]:
    started_at = time.perf_counter()
    jobs, _ = _commit(store, [Refill("email", _NORMAL, None, TAKEN)])[0]
    calls = [Call(job, job.call + 1, "sendgrid") for job in jobs]
    _commit(store, [Intend("email", calls, time.time())])
    claimed_at = time.perf_counter()
    settled = _commit(store, [_settlement(job, job.call + 1) for job in jobs])
    settled_at = time.perf_counter()
    assert settled == [True] * TAKEN, "the store has to find each of them"
    return claimed_at - started_at, settled_at - claimed_at


def _settlement(job: Job, number: int) -> Settle:
    now = time.time()
    record = ProviderCall(job.id, number, "sendgrid", "accepted", "http_202", "", now, now)
    return Settle("email", job, number, Status.SENT, None, now, record)


def _commit(store: SqliteStore, commands: list[Command]) -> list[Any]:
    store.begin()
    results: list[Any] = [store.apply(each) for each in commands]
    store.commit()
    return results
