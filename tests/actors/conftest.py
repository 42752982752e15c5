"""A Queue over a real Journal and a real file; the test is its Supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clarion.actors.journal import Journal
from clarion.actors.journal_messages import Committed
from clarion.actors.lane_settings import LaneSettings
from clarion.actors.lane_writes import LaneWrites
from clarion.actors.messages import Demand, Enqueue, Place, Snapshot
from clarion.actors.queue import Queue
from clarion.actors.runtime import Actor, Runtime, handles
from clarion.actors.supervisor_messages import Dispatch, LaneReport, Ready, SlotReturned
from clarion.domain.notification import Call, Content, Draft
from clarion.domain.representation import represent_accepted
from clarion.policies.clock import SystemClock
from clarion.policies.identifier import IdSource
from clarion.policies.retry import RetrySettings
from clarion.policies.routing import RoutePlan
from clarion.policies.verdict import Rules
from clarion.policies.wall_clock import WallClockWatch
from clarion.storage.sqlite_store import SqliteStore
from clarion.storage.writer import Writer
from clarion.telemetry.metrics import Metrics
from clarion.testing import Crash

BOUND_S = 5.0


class Root(Actor):
    """Keeps what a lane tells its Supervisor, for the test to read."""

    def __init__(self, heard: asyncio.Queue[Any]) -> None:
        super().__init__()
        self._heard = heard

    @handles(LaneReport, Ready, Dispatch, SlotReturned)
    def hear(self, message: Any) -> None:
        self._heard.put_nowait(message)


class House:
    """One Queue over a real Journal and a real file; the test is its Supervisor."""

    def __init__(self, path: Path) -> None:
        self.clock = SystemClock()
        self.runtime = Runtime(clock=self.clock, rng=lambda: 0.5)
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.store = SqliteStore(str(path / "clarion.db"))
        self.metrics = Metrics()
        self._ids = IdSource(self.clock.now, lambda _bits: 0)
        self._watch = WallClockWatch(self.clock)
        self.has_crashed = asyncio.Event()
        self.origin = 0
        self._demand = 0

    async def start(self) -> None:
        self.store.open()
        self.writer = Writer(
            self.store,
            on_done=lambda done: self.runtime.ref("journal").tell(Committed(done)),
            post=asyncio.get_running_loop().call_soon_threadsafe,
            on_state=lambda *_: None,
        )
        self.writer.start()
        self.root = self.runtime.spawn("supervisor", lambda: Root(self.heard))
        self.journal = self.runtime.spawn("journal", self._journal)
        self.lane = self.runtime.spawn(
            "queue:email", self._queue, on_crash=lambda _report: self.has_crashed.set()
        )
        await self.next(LaneReport)

    def _journal(self) -> Journal:
        return Journal(
            self.writer,
            queues=lambda: {"email": self.runtime.ref("queue:email")},
            on_ended=lambda _ended: None,
            clock=self.clock,
            metrics=self.metrics,
        )

    def _queue(self) -> Queue:
        self.origin += 1
        settings = LaneSettings(
            RoutePlan("email", ("alpha", "beta")),
            Rules(RetrySettings(initial_delay=1000.0), unknown_grace_s=0.0, rng=lambda: 0.5),
            call_timeout_s={"alpha": 10.0, "beta": 10.0},
        )
        return Queue(
            settings,
            writes=LaneWrites("email", self.runtime.ref("journal"), self.clock, self.origin),
            supervisor=self.root,
            clock=self.clock,
            ids=self._ids,
            represent=represent_accepted,
            metrics=self.metrics,
            watch=self._watch,
        )

    async def stop(self) -> None:
        await self.runtime.close(BOUND_S)
        assert self.writer.close(BOUND_S)
        self.store.close()

    async def next(self, kind: type) -> Any:
        """Return the next message of a kind that the lane tells."""
        async with asyncio.timeout(BOUND_S):
            while True:
                message = await self.heard.get()
                if type(message) is kind:
                    return message

    def told(self, kind: type) -> list[Any]:
        """Return what the lane has told of a kind since the test last looked."""
        messages = [self.heard.get_nowait() for _ in range(self.heard.qsize())]
        return [each for each in messages if type(each) is kind]

    async def accept(self, n: int = 1) -> list[str]:
        drafts = [Draft("email", Content("ada@example.com", text="Hi")) for _ in range(n)]
        rows = await self.lane.ask(Enqueue(drafts))
        return [row.job.id for row in rows]

    def demand(self, *places: Place, epoch: int = 1) -> Demand:
        self._demand += 1
        demand = Demand(self._demand, epoch, places, ())
        self.lane.tell(demand)
        return demand

    async def let_go(self, n: int = 1) -> list[Call]:
        """Accept `n` and let them go to alpha."""
        await self.accept(n)
        self.demand(Place("alpha", n))
        return list((await self.next(Dispatch)).calls)

    async def crash(self) -> None:
        """Crash the lane and put a fresh instance behind its address."""
        self.has_crashed.clear()
        self.lane.tell(Crash("on purpose"))
        async with asyncio.timeout(BOUND_S):
            await self.has_crashed.wait()
        self.runtime.restart("queue:email")
        await self.next(LaneReport)

    async def status(self, id: str) -> tuple[str, int, str | None]:
        """Return (state of the job, call, who has it) as it stands on disk."""
        await self.settle()
        row = self.store.connection.execute(
            "SELECT state, call, sending FROM jobs WHERE id = ?", (id,)
        ).fetchone()
        return row if row is not None else ("gone", 0, None)

    async def settle(self) -> None:
        """Wait until everything that was told so far is on disk and told back."""
        for _ in range(3):
            await self.lane.ask(Snapshot())
            await self.journal.ask(Snapshot())
            async with asyncio.timeout(BOUND_S):
                while self.writer.pending:
                    await asyncio.sleep(0)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.start()
    yield made
    await made.stop()
