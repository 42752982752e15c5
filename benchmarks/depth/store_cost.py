"""What accepting, claiming and settling cost the store alone, on files of several depths in turns.

Each round does the same to each file, one after the other, so that what else the machine does
meets all of them; the figure of a file is the median over its rounds, and its ratio the median of
the rounds' own ratios to the first file. Cost is CPU time: the time of an fsync is the disk's, and
on a shared machine it hides what is looked for here. Wall time is told beside it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.depth.backlog import LANE, LIFE_S
from clarion.domain.notification import (
    Call,
    Content,
    Delivery,
    Draft,
    Job,
    JobState,
    Priority,
    ProviderCall,
    Status,
)
from clarion.policies.identifier import IdSource
from clarion.storage.command import Accept, Command, Intend, Refill, Settle
from clarion.storage.sqlite_store import SqliteStore

BATCH = 64
"""Notifications that share a commit."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds for one notification, in a batch of `BATCH`."""

    accept_us: float
    claim_us: float
    """Reading the head of the lane, and noting the intents."""
    settle_us: float
    wall_us: float
    """All three with their four commits, by the clock on the wall."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The cost on one file, and how often it is that on the first file."""

    cost: Cost
    by_first: Cost


def measure(paths: Mapping[int, Path], rounds: int) -> dict[int, Depth]:
    """Measure each file (by its number of rows) `rounds` times; the first is the yardstick."""
    with ExitStack() as stack:
        desks = {rows: _Desk(path, stack) for rows, path in paths.items()}
        # The first round prepares statements and fills caches.
        runs = [{rows: desk.round() for rows, desk in desks.items()} for _ in range(rounds + 1)][1:]
    first = next(iter(paths))
    return {
        rows: Depth(
            _middle([run[rows] for run in runs]),
            _middle([_by(run[rows], run[first]) for run in runs]),
        )
        for rows in paths
    }


def _middle(costs: Sequence[Cost]) -> Cost:
    return Cost(*(median(getattr(cost, each.name) for cost in costs) for each in fields(Cost)))


def _by(cost: Cost, other: Cost) -> Cost:
    pairs = ((getattr(cost, each.name), getattr(other, each.name)) for each in fields(Cost))
    return Cost(*(one / two for one, two in pairs))


class _Desk:
    """Writes commands to one store by hand, as the Journal's writer does."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._store = SqliteStore(str(path))
        self._store.open()
        stack.callback(self._store.close)
        self._rng = random.Random(0)
        self._ids = IdSource(time.time, self._rng.getrandbits)

    def round(self) -> Cost:
        """Accept, claim and settle one batch; as many rows are left as there were."""
        started_at = time.perf_counter()
        accepting, _ = _timed(self._accept)
        claiming, jobs = _timed(self._claim)
        settling, settled = _timed(lambda: self._settle(jobs))
        wall_s = time.perf_counter() - started_at
        assert settled == [True] * BATCH, "the store has to find each of them"
        per_us = 1e6 / BATCH
        return Cost(accepting * per_us, claiming * per_us, settling * per_us, wall_s * per_us)

    def _accept(self) -> None:
        jobs = [self._job() for _ in range(BATCH)]
        drafts = [Draft(job.channel, job.content) for job in jobs]
        self._commit([Accept(LANE, drafts, jobs)])

    def _job(self) -> Job:
        now = time.time()
        content = Content(
            f"user{self._rng.getrandbits(40)}@example.com",
            "Your order is on its way",
            "Order 7 left our house today. It should arrive within two days.",
        )
        return Job(
            id=self._ids.next(), channel=LANE, content=content, priority=Priority.NORMAL,
            flow="", vt=now, state=JobState.READY, created_at=now, expires_at=now + LIFE_S,
            delivery=Delivery.AT_LEAST_ONCE,
        )  # fmt: skip

    def _claim(self) -> list[Job]:
        jobs: list[Job] = self._commit([Refill(LANE, Priority.NORMAL, None, BATCH)])[0].jobs
        self._commit([Intend(LANE, [Call(job, 1, "sendgrid") for job in jobs], time.time())])
        return jobs

    def _settle(self, jobs: Sequence[Job]) -> list[Any]:
        return self._commit([_settlement(job) for job in jobs])

    def _commit(self, commands: Sequence[Command]) -> list[Any]:
        self._store.begin()
        results = self._store.apply_all(commands)
        self._store.commit()
        return results


def _settlement(job: Job) -> Settle:
    now = time.time()
    record = ProviderCall(job.id, 1, "sendgrid", "accepted", "http_202", "", now, now)
    return Settle(LANE, job, 1, Status.SENT, None, now, record)


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    started_s = time.thread_time()
    result = act()
    return time.thread_time() - started_s, result
