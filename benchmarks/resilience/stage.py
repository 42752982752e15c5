"""Clarion as a process with two providers on sockets, one of which falls sick and recovers.

::

    well ──onset──> sick ──recovery──> well again ──> no more messages, all have arrived

The route is ordered and the preferred provider is the one in trouble, so all traffic meets it. The
messages come at a fixed pace that one provider can carry alone: what is lost of it is Clarion's.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.resilience.trace import SLOWER, Trouble
from clarion.testing import ClarionProcess, Fault, SendGridLookalike, settings_toml

FIRST, SECOND = "first", "second"
LATENCY_S = 0.02
SLOTS = 32
CALL_LIMIT_S = 2.0
GRACE_S = 1.0
"""How long a message whose fate is unknown waits for a receipt."""
OPEN_S = 1.0
"""How long a circuit is open; here it does not grow, so that a recovery is soon seen."""
DRAIN_S = 60.0
_FAILING = 0.3


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the parts of one trial are, in seconds, and how many messages come in one."""

    per_second: float = 100.0
    well_s: float = 3.0
    sick_s: float = 6.0
    again_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen of one trial; instants are wall clock."""

    began_at: float
    onset_at: float
    recovery_at: float
    ended_at: float
    accepted: int
    created_at: dict[str, float]
    """Notification id -> when it was accepted, says Clarion."""
    taken: list[tuple[float, str, str]]
    """(arrival, provider, notification id) of everything that was delivered, says the provider."""
    marked: frozenset[str]
    """What Clarion says may have been sent twice."""
    failed_at: list[float]
    """Ends of the calls to the first provider that failed, says Clarion."""


async def play(trouble: Trouble, pace: Pace) -> Record:
    """Run one trial on fresh processes."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        directory = Path(name)
        async with _stage(directory) as (clarion, first, second):
            stream = _Stream(clarion, pace.per_second)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stream.run())
                began_at = time.time()
                await asyncio.sleep(pace.well_s)
                onset_at = time.time()
                await _fall_sick(first, trouble)
                await asyncio.sleep(pace.sick_s)
                await _recover(first, trouble)
                recovery_at = time.time()
                await asyncio.sleep(pace.again_s)
                stream.is_over = True
                ended_at = time.time()
            await clarion.client.wait_drained(DRAIN_S)
            await clarion.terminate()
            created_at, marked, failed_at = _read(directory / "clarion.db", onset_at)
            return Record(
                began_at, onset_at, recovery_at, ended_at, stream.accepted, created_at,
                _taken(FIRST, first) + _taken(SECOND, second), marked, failed_at,
            )  # fmt: skip


@asynccontextmanager
async def _stage(
    directory: Path,
) -> AsyncIterator[tuple[ClarionProcess, SendGridLookalike, SendGridLookalike]]:
    async with (
        SendGridLookalike(keep=1_000_000) as first,
        SendGridLookalike(keep=1_000_000) as second,
    ):
        first.latency_s = second.latency_s = LATENCY_S
        own = {"timeout": CALL_LIMIT_S, "bulkhead": {"max_concurrent": SLOTS}}
        settings_toml(
            directory / "settings.toml",
            providers={FIRST: first.settings(**own), SECOND: second.settings(**own)},
            channels={"email": [FIRST, SECOND]},
            breaker={
                "timeout": OPEN_S, "timeout_max": OPEN_S, "jitter": 0.0,
                "half_open_timeout": CALL_LIMIT_S,
            },
            defaults={"unknown_grace": GRACE_S},
        )  # fmt: skip
        async with ClarionProcess(directory) as clarion:
            yield clarion, first, second


class _Stream:
    """Sends at a fixed pace, whatever the answers do."""

    def __init__(self, clarion: ClarionProcess, per_second: float) -> None:
        self._clarion = clarion
        self._per_second = per_second
        self.is_over = False
        self.accepted = 0

    async def run(self) -> None:
        """Send until it is over, and wait for the last answers."""
        began_at, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as requests:
            while not self.is_over:
                number += 1
                requests.create_task(self._send(number))
                await asyncio.sleep(began_at + number / self._per_second - time.monotonic())

    async def _send(self, number: int) -> None:
        await self._clarion.client.post(
            channel="email", to=f"user{number}@example.com", subject="Your code", text="123 456"
        )
        self.accepted += 1


async def _fall_sick(provider: SendGridLookalike, trouble: Trouble) -> None:
    match trouble:
        case Trouble.DEAD:
            await provider.stop()
        case Trouble.HUNG:
            provider.behave(Fault.hang())
        case Trouble.SLOW:
            provider.latency_s = LATENCY_S * SLOWER
        case Trouble.FAILING:
            provider.fail_ratio = _FAILING


async def _recover(provider: SendGridLookalike, trouble: Trouble) -> None:
    provider.recover()
    provider.latency_s = LATENCY_S
    if trouble is Trouble.DEAD:
        await provider.start()


def _taken(name: str, provider: SendGridLookalike) -> list[tuple[float, str, str]]:
    return [
        (seen.at, name, seen.correlation_id)
        for seen in provider.requests
        if seen.is_delivered and seen.correlation_id is not None
    ]


def _read(database: Path, onset_at: float) -> tuple[dict[str, float], frozenset[str], list[float]]:
    with closing(sqlite3.connect(database)) as connection:
        created_at = dict(connection.execute("SELECT id, created_at FROM notifications"))
        marked = connection.execute("SELECT id FROM notifications WHERE possibly_duplicated = 1")
        found = frozenset(id for (id,) in marked)
        failed_at = connection.execute(
            "SELECT ended_at FROM provider_calls"
            " WHERE provider = ? AND outcome <> 'accepted' AND ended_at >= ? ORDER BY 1",
            (FIRST, onset_at),
        ).fetchall()
    return created_at, found, [at for (at,) in failed_at]
