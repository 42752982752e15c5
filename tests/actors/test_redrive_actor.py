"""The Redriver between its table and the lanes: whom it asks, how much, and what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clarion.actors.messages import Snapshot
from clarion.actors.redrive import MAX_MOVED_AT_ONCE, Redriver, moved_at_once
from clarion.actors.redrive_messages import StartRedrive, StopRedrive, TakeBack
from clarion.actors.runtime import Actor, Runtime, handles
from clarion.domain.redrive import MAX_RATE, DeadFilter, RedrivePart, RedriveState
from clarion.errors import LaneFull
from clarion.policies.clock import SystemClock
from clarion.storage.redrive_command import (
    BeginRedrive,
    CancelRedrive,
    LoadRedrives,
    RedrivenRows,
)
from clarion.testing import Crash

BOUND_S = 5.0
KEY = ("r1", "email")


def part(id: str = "r1", rate: float = 1000.0, channel: str = "email") -> RedrivePart:
    return RedrivePart(
        id, channel, DeadFilter(), rate, RedriveState.RUNNING, 3, 0, 0, "ada", 1.0, 1.0
    )


class Table(Actor):
    """The Journal as the Redriver sees it: a list of the parts that run."""

    def __init__(self, parts: list[RedrivePart]) -> None:
        super().__init__()
        self._parts = parts

    @handles(BeginRedrive)
    def begin(self, message: BeginRedrive) -> None:
        self._parts.extend(message.parts)
        message.reply.set(None)

    @handles(CancelRedrive)
    def cancel(self, message: CancelRedrive) -> None:
        kept = [each for each in self._parts if each.id != message.id]
        message.reply.set(len(self._parts) - len(kept))
        self._parts[:] = kept

    @handles(LoadRedrives)
    def load(self, _message: LoadRedrives) -> list[RedrivePart]:
        return list(self._parts)


class Lane(Actor):
    """Notes what it is asked, and answers from a script; then that all is done."""

    def __init__(self, asked: asyncio.Queue[TakeBack], answers: list[Any]) -> None:
        super().__init__()
        self._asked = asked
        self._answers = answers

    @handles(TakeBack)
    def take_back(self, message: TakeBack) -> RedrivenRows:
        self._asked.put_nowait(message)
        answer = self._answers.pop(0) if self._answers else RedrivenRows(RedriveState.DONE)
        if isinstance(answer, Exception):
            raise answer
        return answer


class House:
    """A Redriver, its table, and one lane."""

    def __init__(self) -> None:
        self.runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
        self.parts: list[RedrivePart] = []
        self.answers: list[Any] = []
        self.asked: asyncio.Queue[TakeBack] = asyncio.Queue()
        self.has_crashed = asyncio.Event()

    def start(self) -> None:
        journal = self.runtime.spawn("journal", lambda: Table(self.parts))
        lane = self.runtime.spawn("queue:email", lambda: Lane(self.asked, self.answers))
        self.redriver = self.runtime.spawn(
            "redrive",
            lambda: Redriver(journal=journal, queue_of=lambda _: lane, clock=SystemClock()),
            on_crash=lambda _report: self.has_crashed.set(),
        )

    async def next(self) -> TakeBack:
        async with asyncio.timeout(BOUND_S):
            return await self.asked.get()

    async def until(self, condition: Any) -> Any:
        async with asyncio.timeout(BOUND_S):
            while not condition(found := await self.redriver.ask(Snapshot())):
                await asyncio.sleep(0)
        return found


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.runtime.close(BOUND_S)


async def test_it_goes_on_at_its_start_with_what_runs(house):
    """The table is read, and every part takes a turn, until its lane says that it is done."""
    house.parts += [part("r1"), part("r2", rate=1.0)]
    house.start()

    asked = {(each.id, each.limit) for each in (await house.next(), await house.next())}

    assert asked == {("r1", MAX_MOVED_AT_ONCE), ("r2", 1)}
    await house.until(lambda found: found.running == ())


async def test_the_lanes_of_a_redrive_share_its_rate(house):
    """What a person allows is what all providers get; who is left gets what the others had."""
    house.parts += [part(rate=100.0), part(rate=100.0, channel="sms"), part("r2", rate=20.0)]
    house.answers += [RedrivenRows(RedriveState.RUNNING), RedrivenRows(RedriveState.DONE)]
    house.start()

    first = [await house.next() for _ in range(3)]
    left = await house.next()

    assert [(each.id, each.limit) for each in first] == [("r1", 25), ("r1", 25), ("r2", 10)]
    assert (left.id, left.limit) == ("r1", 50)


async def test_a_redrive_begins_as_soon_as_it_is_durable(house):
    """Whoever asked is answered by the table."""
    house.start()

    await house.redriver.ask(StartRedrive([part()]))

    assert (await house.next()).id == "r1"


async def test_a_cancelled_redrive_takes_no_more_turns(house):
    """What a turn that was under way comes to is of no concern."""
    house.answers += [RedrivenRows(RedriveState.RUNNING, is_waiting=True)] * 50
    house.parts.append(part())
    house.start()
    await house.next()

    stopped = [await house.redriver.ask(StopRedrive("r1")) for _ in range(2)]

    assert stopped == [1, 0]
    assert (await house.until(lambda found: found.running == ())).waiting == {}


async def test_a_lane_that_takes_none_is_asked_again(house):
    """It says why, for a person to see; a bug of the lane costs the redrive nothing either."""
    house.answers += [LaneFull("no room"), LaneFull("no room")]
    house.parts.append(part())
    house.start()
    await house.next()

    found = await house.until(lambda found: found.waiting)

    assert found.waiting == {KEY: "no room"}
    assert found.running == (KEY,)


async def test_a_crash_costs_the_turns_that_were_planned(house):
    """The next instance reads the table and takes a turn of each part at once."""
    house.answers.append(RedrivenRows(RedriveState.RUNNING, is_waiting=True))
    house.parts.append(part())
    house.start()
    await house.next()
    await house.until(lambda found: found.waiting)

    house.redriver.tell(Crash("on purpose"))
    async with asyncio.timeout(BOUND_S):
        await house.has_crashed.wait()
    house.runtime.restart("redrive")

    assert (await house.next()).id == "r1"


@pytest.mark.parametrize(
    ("rate", "n"), [(0.01, 1), (1.0, 1), (10.0, 5), (100.0, 50), (MAX_RATE, MAX_MOVED_AT_ONCE)]
)
def test_a_turn_moves_what_the_rate_allows_and_a_bounded_number(rate, n):
    """A transaction of a redrive stays short, whatever was asked for."""
    assert moved_at_once(rate) == n
