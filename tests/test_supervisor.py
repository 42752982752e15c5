"""The Supervisor among its neighbours: who is offered work, and who is counted on after a crash."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from clarion.actors.call_messages import ReportCircuit
from clarion.actors.children import Children
from clarion.actors.memory import Memory
from clarion.actors.messages import Demand, Internal, Recalled, ReportLane, Route, Snapshot
from clarion.actors.provider_view import ProviderPlan
from clarion.actors.runtime import Actor, Runtime, handles
from clarion.actors.supervisor_messages import (
    CircuitReport,
    Dispatch,
    Freed,
    HealthChecked,
    LaneReport,
    ProviderStarted,
    Ready,
)
from clarion.domain.notification import Call, Content, Delivery, Job, JobState, Priority
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.errors import ClarionError
from clarion.policies.clock import SystemClock
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket
from clarion.policies.restart import RestartBudget
from clarion.policies.routing import RoutePlan, Wants
from clarion.policies.standby import Standby
from clarion.supervisor import Supervisor
from clarion.telemetry.metrics import Metrics
from clarion.testing import Crash

BOUND_S = 5.0
FRESH = Wants(fresh=True)


class Lane(Actor):
    """A lane that keeps its demands for the test, and says what it wants."""

    def __init__(self, channel: str, wants: Wants, house: House) -> None:
        super().__init__()
        self._channel, self._wants, self._house = channel, wants, house

    @handles(ReportLane)
    def report(self, message: ReportLane) -> None:
        house = self._house
        if self._channel in house.silent:
            return
        if house.stale:
            earlier = message.epoch - 1
            house.root().tell(LaneReport(self._channel, earlier, 1, self._wants, house.stale))
        house.root().tell(LaneReport(self._channel, message.epoch, 1, self._wants, house.out))

    @handles(Demand)
    def demanded(self, message: Demand) -> None:
        self._house.heard[self._channel].put_nowait(message)

    @handles(Recalled)
    def recalled(self, message: Recalled) -> None:
        self._house.recalled.append(message)

    @handles(Route)
    def routed(self, message: Route) -> None:
        self._house.routes.append(message)


@dataclass(frozen=True)
class Stumble(Internal):
    """To a breaker: crash as soon as this is set."""

    may_fall: asyncio.Event


class Circuit(Actor):
    """A breaker that is closed, and may be told to fail at its start."""

    def __init__(self, provider: str, house: House) -> None:
        super().__init__()
        self._provider, self._house = provider, house

    def on_start(self) -> None:
        if self._house.is_circuit_broken:
            raise RuntimeError("cannot start")
        self._house.circuit_started.set()

    @handles(ReportCircuit)
    def report(self, message: ReportCircuit) -> None:
        self._house.root().tell(
            CircuitReport(self._provider, "closed", 0, None, 0, epoch=message.epoch)
        )

    @handles(Stumble)
    async def stumble(self, message: Stumble) -> None:
        await message.may_fall.wait()
        raise RuntimeError("stumbled")


class Sleeper(Actor):
    """A provider that does nothing."""


class House:
    """A Supervisor over two lanes that share one provider of one slot."""

    def __init__(self) -> None:
        self.runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
        self.children = Children(lambda: RestartBudget(limit=0, rng=lambda: 0.0))
        self.heard: dict[str, asyncio.Queue[Any]] = {}
        self.is_circuit_broken = False
        self.circuit_started = asyncio.Event()
        self.clock = SystemClock()
        self.memory = Memory()
        self.recalled: list[Recalled] = []
        self.routes: list[Route] = []
        self.supervisor_crashed = asyncio.Event()
        self.out: tuple[Call, ...] = ()
        """What the lanes report as dispatched."""
        self.stale: tuple[Call, ...] = ()
        """What their answer to an earlier Supervisor, still on its way, reports."""
        self.silent: set[str] = set()
        """Channels whose lane does not report."""
        self.most_on_standby = 0

    def root(self) -> Any:
        return self.runtime.ref("supervisor")

    def start(self, **wants: Wants) -> None:
        plans = [RoutePlan(channel, ("shared",)) for channel in wants]

        def gate() -> Gate:
            bucket = TokenBucket(0.0, 1, self.clock.monotonic)
            return Gate("shared", 1, bucket, standby=Standby(self.most_on_standby, pace=2))

        provider = ProviderPlan("shared", "outbox", tuple(wants), 1, 300.0, gate)

        def supervisor() -> Supervisor:
            self.supervisor = Supervisor(
                plans, [provider], children=self.children, memory=self.memory,
                clock=self.clock, metrics=Metrics(), on_fatal=lambda _name: None,
            )  # fmt: skip
            return self.supervisor

        self.runtime.spawn(
            "supervisor",
            supervisor,
            on_crash=lambda _report: self.supervisor_crashed.set(),
        )  # fmt: skip
        for channel, wanted in wants.items():
            self._lane(channel, wanted)
        self._child("provider:shared", Sleeper)
        self._child("breaker:shared", lambda: Circuit("shared", self))
        self.root().tell(ProviderStarted("shared"))

    def _lane(self, channel: str, wanted: Wants) -> None:
        self.heard[channel] = asyncio.Queue()
        self._child(f"queue:{channel}", lambda: Lane(channel, wanted, self))

    def _child(self, name: str, make: Any) -> None:
        self.children.add(name)
        self.runtime.spawn(name, make, on_crash=self._crashed)

    def _crashed(self, report: Any) -> None:
        from clarion.actors.supervisor_messages import ActorCrashed

        self.root().tell(ActorCrashed(report.name, "", "", report.crash_number))

    async def next_demand(self, channel: str) -> Demand:
        async with asyncio.timeout(BOUND_S):
            found: Demand = await self.heard[channel].get()
            return found

    async def states(self) -> dict[str, str]:
        found: dict[str, str] = (await self.root().ask(Snapshot())).actors
        return found


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.runtime.close(BOUND_S)


async def test_a_lane_that_needs_nothing_gives_its_place_to_the_other_at_once(house):
    """What one lane leaves of a shared provider is offered on, without waiting for a hint."""
    house.start(email=FRESH, sms=Wants())
    first = await house.next_demand("email")
    house.root().tell(Ready("sms", FRESH))
    await house.root().ask(Snapshot())  # Its only slot is reserved: there was nothing to offer.
    assert house.heard["sms"].empty()

    house.root().tell(Dispatch("email", first.id, first.epoch, [], Wants()))

    assert (await house.next_demand("sms")).places[0].provider == "shared"


async def test_a_lane_that_takes_nothing_is_not_asked_in_a_circle(house):
    """An empty answer ends it until something changes, whatever the lane says it wants."""
    house.start(email=FRESH)
    first = await house.next_demand("email")

    house.root().tell(Dispatch("email", first.id, first.epoch, [], FRESH))
    await house.root().ask(Snapshot())

    assert house.heard["email"].empty()


async def test_a_child_over_its_budget_counts_once_it_has_lived_for_a_while(house, monkeypatch):
    """A start that fails again and again must not open its gate, or its lane, in between."""
    monkeypatch.setattr("clarion.actors.parent.SLOW_RETRY_S", 0.01)
    monkeypatch.setattr("clarion.actors.parent.PROVEN_AFTER_S", 0.05)
    house.start(email=Wants())
    async with asyncio.timeout(BOUND_S):
        await house.circuit_started.wait()
    house.is_circuit_broken = True
    house.runtime.ref("breaker:shared").tell(Crash("on purpose"))
    while (await house.states())["breaker:shared"] != "failed":
        await asyncio.sleep(0)

    seen = set()
    before = house.children.restarts["breaker:shared"]
    async with asyncio.timeout(BOUND_S):
        while house.children.restarts["breaker:shared"] < before + 3:
            seen.add((await house.states())["breaker:shared"])
            await asyncio.sleep(0)
    house.is_circuit_broken = False
    async with asyncio.timeout(BOUND_S):
        while (await house.states())["breaker:shared"] != "running":
            await asyncio.sleep(0.001)

    assert seen == {"failed"}


async def test_a_call_that_is_recalled_after_a_crash_takes_no_slot(house):
    """A lane reports what it let go; what a new Supervisor sent back before that is not out."""
    house.start(email=FRESH)
    old = await house.next_demand("email")
    call = Call(a_job(), 1, "shared")
    house.root().tell(Crash("with a dispatch behind it"))
    await house.supervisor_crashed.wait()
    house.root().tell(Dispatch("email", old.id, old.epoch, [call], FRESH))
    house.out = (call,)

    house.runtime.restart("supervisor")

    assert (await house.next_demand("email")).places[0].n == 1
    assert [each.calls for each in house.recalled] == [[call]]


async def test_a_report_that_was_asked_by_a_forerunner_is_not_believed(house):
    """It may name calls that ended since: their slots would be taken for ever."""
    house.stale = (Call(a_job(), 1, "shared"),)

    house.start(email=FRESH)

    assert (await house.next_demand("email")).places[0].n == 1


async def test_a_lane_that_never_reports_costs_no_memory(house):
    """What the other lanes' calls came to is not kept for it, however long it is down."""
    house.silent = {"sms"}
    house.start(email=FRESH, sms=Wants())
    circuit = CircuitReport("shared", "closed", 0, None, 0)
    async with asyncio.timeout(BOUND_S):
        while "email" not in house.supervisor._reported_lanes:
            await asyncio.sleep(0)

    for number in range(100):
        call = Call(a_job(), number, "shared")
        house.root().tell(Freed(call, Answer(Outcome.ACCEPTED, "taken"), circuit))
    await house.root().ask(Snapshot())

    assert not house.supervisor._freed_early


async def test_a_probe_that_fails_tells_lanes_when_the_next_one_is(house):
    """`held_reason` names the time; one that has passed would be believed to be broken."""
    house.start(email=FRESH)
    await house.next_demand("email")
    past = house.clock.monotonic() - 1.0
    house.root().tell(CircuitReport("shared", "closed", 0, None, 0, misconfigured_until=past))

    house.root().tell(HealthChecked("shared", Health(False, "another key", True)))

    async with asyncio.timeout(BOUND_S):
        while not house.routes or _next_try(house.routes[-1]) < house.clock.now() + 200.0:
            await asyncio.sleep(0)


def _next_try(route: Route) -> float:
    (state,) = route.states
    return state.retry_at or 0.0


async def test_what_waits_for_a_breaker_that_crashes_is_taken_back(house):
    """It surely was not sent: its slot is free, and it goes back to its lane at once."""
    house.start(email=FRESH)
    demand = await house.next_demand("email")
    call, may_fall = Call(a_job(), 1, "shared"), asyncio.Event()
    house.runtime.ref("breaker:shared").tell(Stumble(may_fall))
    house.root().tell(Dispatch("email", demand.id, demand.epoch, [call], Wants()))
    await house.root().ask(Snapshot())  # The call waits in the mailbox by now.

    may_fall.set()

    async with asyncio.timeout(BOUND_S):
        while not house.recalled:
            await asyncio.sleep(0)
    assert [(each.calls, each.reason) for each in house.recalled] == [
        ([call], "breaker:shared is being restarted")
    ]
    assert (await house.root().ask(Snapshot())).providers[0].in_flight == 0


async def test_a_lane_that_reports_anew_frees_what_its_forerunner_was_offered(house):
    """Nobody answers that demand any more: its place is offered again."""
    house.start(email=FRESH)
    first = await house.next_demand("email")

    house.root().tell(LaneReport("email", first.epoch, 2, FRESH, ()))

    second = await house.next_demand("email")
    assert second.id > first.id
    assert second.places[0].n == 1


async def test_an_answer_to_an_earlier_demand_is_sent_back(house):
    """Its places are not those of the open one."""
    house.start(email=FRESH)
    first = await house.next_demand("email")
    house.root().tell(LaneReport("email", first.epoch, 2, FRESH, ()))
    second = await house.next_demand("email")
    late, call = Call(a_job(), 1, "shared"), Call(a_job(), 2, "shared")

    house.root().tell(Dispatch("email", first.id, first.epoch, [late], FRESH))
    house.root().tell(Dispatch("email", second.id, second.epoch, [call], Wants()))
    taken = (await house.root().ask(Snapshot())).providers[0].in_flight

    assert [each.calls for each in house.recalled] == [[late]]
    assert taken == 1


async def test_a_call_that_ended_before_its_lane_reported_takes_no_slot(house):
    """The report may have been written while it was out still."""
    call = Call(a_job(), 1, "shared")
    house.silent = {"email"}
    house.start(email=FRESH)
    house.root().tell(
        Freed(
            call, Answer(Outcome.ACCEPTED, "taken"), CircuitReport("shared", "closed", 0, None, 0)
        )
    )
    epoch = house.memory.epoch

    house.root().tell(LaneReport("email", epoch, 1, FRESH, (call,)))

    assert (await house.next_demand("email")).places[0].n == 1


async def test_a_lane_that_has_stopped_already_is_no_crash(house):
    """At the end of the process the lanes stop first; what was meant for them is dropped."""
    house.start(email=FRESH)
    demand = await house.next_demand("email")
    await house.runtime.stop("queue:email", BOUND_S)

    house.root().tell(
        Dispatch("email", demand.id, demand.epoch - 1, [Call(a_job(), 1, "shared")], FRESH)
    )

    assert (await house.states())["queue:email"] == "running"
    assert not house.supervisor_crashed.is_set()


async def stand_by(house: House) -> tuple[Call, Call]:
    """Let a call out, and have another one wait for its slot."""
    house.most_on_standby = 1
    house.start(email=FRESH)
    out, standing = Call(a_job("1"), 1, "shared"), Call(a_job("2"), 1, "shared")
    first = await house.next_demand("email")
    house.root().tell(Dispatch("email", first.id, first.epoch, [out], FRESH))
    ahead = await house.next_demand("email")
    assert (ahead.places[0].n, ahead.places[0].ahead) == (1, 1)
    house.root().tell(Dispatch("email", ahead.id, ahead.epoch, [standing], Wants()))
    await house.root().ask(Snapshot())
    return out, standing


def end_of(call: Call) -> Freed:
    circuit = CircuitReport("shared", "closed", 0, None, 0)
    return Freed(call, Answer(Outcome.ACCEPTED, "ok"), circuit)


async def test_a_call_that_stands_by_goes_when_a_slot_is_free(house):
    """And not before: its age counts from then."""
    out, standing = await stand_by(house)
    gate = house.supervisor._gates["shared"]
    assert list(gate.in_flight) == [out.key]
    assert math.isinf(standing.out_since)

    house.root().tell(end_of(out))
    await house.root().ask(Snapshot())

    assert list(gate.in_flight) == [standing.key]
    assert math.isfinite(standing.out_since)


async def test_a_call_that_stands_by_comes_back_when_the_gate_shuts(house):
    """Its circuit opened: another provider may take it, or it waits in its lane."""
    _, standing = await stand_by(house)

    house.root().tell(CircuitReport("shared", "forced_open", 0, None, 0))
    await house.root().ask(Snapshot())

    assert [each.calls for each in house.recalled] == [[standing]]
    assert not house.supervisor._gates["shared"].standby.calls


async def test_a_call_that_stands_by_comes_back_to_a_lane_that_begins_anew(house):
    """Its new instance does not know that nobody has sent it yet."""
    _, standing = await stand_by(house)

    house.root().tell(LaneReport("email", 1, 2, Wants(), ()))
    await house.root().ask(Snapshot())

    assert [each.calls for each in house.recalled] == [[standing]]


def a_job(id: str = "1") -> Job:
    return Job(
        id=id, channel="email", content=Content("ada@example.com"), priority=Priority.NORMAL,
        flow="", vt=1.0, state=JobState.SENDING, created_at=0.0, expires_at=1e12,
        delivery=Delivery.AT_LEAST_ONCE,
    )  # fmt: skip


async def test_an_unknown_provider_is_no_crash(house):
    """Whoever steers what is not there hears so."""
    from clarion.actors.supervisor_messages import SetProvider

    house.start(email=Wants())

    with pytest.raises(ClarionError, match="nowhere"):
        await house.root().ask(SetProvider("nowhere", is_enabled=True))
