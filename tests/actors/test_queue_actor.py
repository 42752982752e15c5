"""A Queue between Supervisor and Journal: what it lets go, takes back and tells."""

from __future__ import annotations

import math

import pytest

from clarion.actors.messages import (
    CancelNotification,
    Drain,
    PauseLane,
    Place,
    Recalled,
    ReportLane,
    ResumeLane,
    Route,
    Settled,
    Snapshot,
    StorageChanged,
)
from clarion.actors.supervisor_messages import Dispatch, LaneReport, Ready, SlotReturned
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import LaneClosed, StorageUnavailable
from clarion.policies.routing import RouteState

BOUND_S = 5.0
ACCEPTED = Answer(Outcome.ACCEPTED, "http_202")
CLOSED = (RouteState("alpha", "closed"), RouteState("beta", "closed"))


async def test_a_lane_hints_once_that_it_has_work(house):
    """The first arrival tells the Supervisor; it asks when it can place something."""
    await house.accept(3)

    assert (await house.next(Ready)).wants.fresh
    assert house.told(Ready) == []


async def test_a_demand_is_answered_with_calls_that_are_on_disk(house):
    """Intent, fsync, dispatch: as many as there are places, and what the rest could use."""
    ids = await house.accept(3)

    demand = house.demand(Place("alpha", 2), epoch=7)
    answer = await house.next(Dispatch)

    assert (answer.demand, answer.epoch) == (demand.id, 7)
    assert [(call.job.id, call.number, call.provider) for call in answer.calls] == [
        (ids[0], 1, "alpha"),
        (ids[1], 1, "alpha"),
    ]
    assert answer.wants.fresh
    assert await house.status(ids[0]) == (2, 1, "alpha")
    assert await house.status(ids[2]) == (0, 0, None)


async def test_a_demand_that_nothing_fits_is_answered_at_once(house):
    """Else its reservation would keep the places from other lanes."""
    demand = house.demand(Place("alpha", 2))

    answer = await house.next(Dispatch)

    assert (answer.demand, answer.calls) == (demand.id, [])
    assert answer.wants.is_nothing


async def test_a_recalled_call_goes_back_to_the_head_without_a_trace(house):
    """It never left: no attempt, no row of a call, and the next demand takes it first."""
    first, *_ = await house.let_go(1)
    await house.accept(1)

    house.lane.tell(Recalled([first], "the gate closed meanwhile"))
    assert await house.status(first.job.id) == (0, 1, None)
    house.demand(Place("beta", 1))
    again = (await house.next(Dispatch)).calls[0]

    assert (again.job.id, again.number, again.provider) == (first.job.id, 2, "beta")
    calls = house.store.connection.execute("SELECT count(*) FROM provider_calls").fetchone()
    assert calls == (0,)


async def test_a_new_supervisor_hears_what_is_out_and_older_demands_are_void(house):
    """The calls that are out are named; those whose intent was still on its way are taken back."""
    (out,) = await house.let_go(1)
    waiting = await house.accept(1)
    house.demand(Place("alpha", 1), epoch=1)

    house.lane.tell(ReportLane(2))
    report = await house.next(LaneReport)
    await house.settle()

    assert (report.epoch, [call.key for call in report.in_flight]) == (2, [out.key])
    assert house.told(Dispatch) == []
    assert await house.status(waiting[0]) == (0, 1, None)


async def test_what_stood_by_at_a_supervisor_that_is_gone_comes_back(house):
    """Nobody would let it go any more; it surely was not sent."""
    out, standing = await house.let_go(2)
    standing.out_since = math.inf

    house.lane.tell(ReportLane(2))
    report = await house.next(LaneReport)

    assert [call.key for call in report.in_flight] == [out.key]
    assert await house.status(standing.job.id) == (0, 1, None)


async def test_a_late_answer_changes_nothing(house):
    """The call's number fences it off: what was recalled or made again is not settled by it."""
    (call,) = await house.let_go(1)
    late = Call(call.job, call.number, "alpha")
    house.lane.tell(Recalled([call], "void"))
    house.demand(Place("beta", 1))
    await house.next(Dispatch)

    house.lane.tell(Settled(late, ACCEPTED))

    assert await house.status(call.job.id) == (2, 2, "beta")


async def test_an_answer_ends_the_notification_on_disk(house):
    """Settle, fsync, forget."""
    (call,) = await house.let_go(1)

    house.lane.tell(Settled(call, ACCEPTED))

    assert await house.status(call.job.id) == ("gone", 0, None)
    assert (await house.lane.ask(Snapshot())).in_flight == 0


async def test_the_end_of_an_inherited_call_returns_its_slot(house):
    """The Supervisor may have heard of the end before it heard that the call was out."""
    (call,) = await house.let_go(1)
    await house.crash()

    house.lane.tell(Settled(call, ACCEPTED))
    returned = await house.next(SlotReturned)

    assert (returned.provider, returned.key) == ("alpha", call.key)
    assert await house.status(call.job.id) == ("gone", 0, None)


async def test_a_crashed_lane_loads_what_waited_and_drops_no_intent(house):
    """Its next instance knows each row once: what waited is offered, what is out is awaited."""
    (out,) = await house.let_go(1)
    waiting = await house.accept(2)
    await house.crash()

    house.demand(Place("alpha", 5))
    calls = (await house.next(Dispatch)).calls

    assert [call.job.id for call in calls] == waiting
    assert await house.status(out.job.id) == (2, 1, "alpha")


async def test_held_is_when_no_circuit_of_the_route_is_closed(house):
    """Half-open, disabled and misconfigured do not count as closed; nothing known is not held."""
    seen = [(await house.lane.ask(Snapshot())).is_held]
    for states in (
        CLOSED,
        (RouteState("alpha", "open"), RouteState("beta", "half_open")),
        (
            RouteState("alpha", "closed", is_enabled=False),
            RouteState("beta", "closed", is_misconfigured=True),
        ),
        (RouteState("alpha", "open"), RouteState("beta", "closed", is_throttled=True)),
    ):
        house.lane.tell(Route(1, states))
        seen.append((await house.lane.ask(Snapshot())).is_held)

    assert seen == [False, False, True, True, False]


async def test_a_failed_call_walks_on_to_the_next_provider_at_once(house):
    """TRANSIENT: the job is at the head again, for the provider that it has not tried."""
    house.lane.tell(Route(1, CLOSED))
    (call,) = await house.let_go(1)

    house.lane.tell(Settled(call, Answer(Outcome.TRANSIENT, "http_500", "", True)))
    ready = await house.next(Ready)
    house.demand(Place("alpha", 1), Place("beta", 1, is_fallback_only=True))
    again = (await house.next(Dispatch)).calls[0]

    assert ready.wants.walking == {"beta"}
    assert (again.job.id, again.provider) == (call.job.id, "beta")


async def test_a_walk_whose_last_provider_shuts_begins_anew(house):
    """It does not wait for `beta` while `alpha` works; the failed walk has cost an attempt."""
    house.lane.tell(Route(1, CLOSED))
    (call,) = await house.let_go(1)
    house.lane.tell(Settled(call, Answer(Outcome.TRANSIENT, "http_500", "", True)))
    await house.next(Ready)

    house.lane.tell(Route(1, (RouteState("alpha", "closed"), RouteState("beta", "open"))))
    ready = await house.next(Ready)
    house.demand(Place("alpha", 1))
    again = (await house.next(Dispatch)).calls[0]

    assert ready.wants.walking == {"alpha"}
    assert (again.provider, again.job.tried, again.job.attempt) == ("alpha", (), 1)


async def test_a_walk_that_was_to_begin_anew_stands_as_its_row_does_until_that_is_durable(house):
    """Where the intent is not written, memory and disk agree; or a refill would not find it."""
    house.lane.tell(Route(1, CLOSED))
    (call,) = await house.let_go(1)
    house.lane.tell(Settled(call, Answer(Outcome.TRANSIENT, "http_500", "", True)))
    house.lane.tell(Route(1, (CLOSED[0], RouteState("beta", "open"))))
    await house.settle()
    house.store.connection.execute("PRAGMA query_only = 1")

    house.demand(Place("alpha", 1))
    answer = await house.next(Dispatch)

    assert answer.calls == []
    assert not answer.wants.fresh
    assert answer.wants.walking == {"alpha"}
    house.store.connection.execute("PRAGMA query_only = 0")


async def test_a_paused_lane_takes_no_work_and_goes_on_accepting(house):
    """Resumed, it hints."""
    await house.lane.ask(PauseLane())
    ids = await house.accept(1)
    house.demand(Place("alpha", 1))
    paused = (await house.next(Dispatch)).calls

    await house.lane.ask(ResumeLane())

    assert paused == []
    assert (await house.next(Ready)).wants.fresh
    assert await house.status(ids[0]) == (0, 0, None)


@pytest.mark.parametrize("why", [PauseLane(), StorageChanged(is_writable=False)])
async def test_a_lane_that_stops_working_asks_for_what_stands_by(house, why):
    """Its report makes the Supervisor send back what waits for a slot."""
    await house.let_go(1)

    house.lane.tell(why)

    report = await house.next(LaneReport)
    assert report.wants.is_nothing


async def test_a_draining_lane_refuses_lets_nothing_go_and_waits_for_what_is_out(house):
    """The drain is over with the last call, not before."""
    (out,) = await house.let_go(1)
    await house.accept(1)

    drained = house.lane.ask(Drain())
    house.demand(Place("alpha", 1))
    with pytest.raises(LaneClosed):
        await house.accept(1)
    is_early = drained.done
    house.lane.tell(Settled(out, ACCEPTED))

    assert (await house.next(Dispatch)).calls == []
    assert not is_early
    assert await drained is None


async def test_nothing_is_accepted_or_let_go_while_the_store_cannot_write(house):
    """A 503 at the door; work that waits is offered again when the disk works."""
    await house.accept(1)
    house.lane.tell(StorageChanged(is_writable=False, reason="the disk is full"))

    with pytest.raises(StorageUnavailable):
        await house.accept(1)
    house.demand(Place("alpha", 1))
    empty = await house.next(Dispatch)
    house.lane.tell(StorageChanged(is_writable=True))

    assert (empty.calls, empty.wants.is_nothing) == ([], True)
    assert (await house.next(Ready)).wants.fresh


async def test_a_cancel_while_sending_lets_acceptance_win(house):
    """The call that is out is the last one; what the provider took is sent."""
    (call,) = await house.let_go(1)

    result = await house.lane.ask(CancelNotification(call.job.id))
    house.lane.tell(Settled(call, ACCEPTED))
    await house.settle()

    assert result.verdict == "requested"
    assert house.store.connection.execute("SELECT status FROM notifications").fetchall() == [
        ("sent",)
    ]


async def test_a_cancel_while_sending_stops_further_calls(house):
    """A call that fails surely leaves nobody who could have it: cancelled."""
    house.lane.tell(Route(1, CLOSED))
    (call,) = await house.let_go(1)

    await house.lane.ask(CancelNotification(call.job.id))
    await house.settle()
    house.lane.tell(Settled(call, Answer(Outcome.TRANSIENT, "http_500", "", True)))
    await house.settle()

    assert house.store.connection.execute("SELECT status FROM notifications").fetchall() == [
        ("cancelled",)
    ]
