"""A Queue and a receipt: what it lets go of, wherever the job stands when it comes."""

from __future__ import annotations

import pytest

from clarion.actors.messages import (
    Drain,
    Place,
    Recalled,
    ReceiveReceipts,
    Route,
    Settled,
    Snapshot,
)
from clarion.actors.supervisor_messages import Dispatch
from clarion.domain.notification import Status
from clarion.domain.outcome import Answer, Outcome
from clarion.domain.receipt import Receipt
from clarion.policies.routing import RouteState
from clarion.storage.command import Receive

CLOSED = (RouteState("alpha", "closed"), RouteState("beta", "closed"))
LOST = Answer(Outcome.UNKNOWN, "timeout", "no answer")
ENDS = {
    "accepted": Answer(Outcome.ACCEPTED, "http_202"),
    "lost": LOST,
    "failed, and the next provider is free": Answer(Outcome.TRANSIENT, "http_500", "", True),
    "refused": Answer(Outcome.RECIPIENT, "bad", "", surely_not_accepted=True),
}


def receipt(id_, status=Status.DELIVERED, **fields):
    return Receipt(id_, "alpha", "told", str(status), 1.0, status, **fields)


async def receive(house, *receipts):
    return await house.lane.ask(ReceiveReceipts(receipts))


async def stands(house):
    """Return what the lane holds, and what its notifications are, once all is settled."""
    await house.settle()
    lane = await house.lane.ask(Snapshot())
    statuses = house.store.connection.execute("SELECT status FROM notifications").fetchall()
    held = (lane.ready, lane.waiting, lane.in_flight, lane.in_memory)
    return held, [status for (status,) in statuses]


@pytest.mark.parametrize("answer", ENDS.values(), ids=ENDS)
async def test_a_call_that_a_receipt_overtook_ends_without_a_trace_in_the_lane(house, answer):
    """It is noted in the timeline, and nothing of it is taken again."""
    house.lane.tell(Route(1, CLOSED))
    (call,) = await house.let_go(1)

    [result] = await receive(house, receipt(call.job.id))
    held_before = (await stands(house))[0]
    house.lane.tell(Settled(call, answer))

    assert (result.verdict, result.old) == ("moved", Status.SENDING)
    assert held_before == (0, 0, 1, 0)
    assert await stands(house) == ((0, 0, 0, 0), ["delivered"])
    [(outcome,)] = house.store.connection.execute("SELECT outcome FROM provider_calls").fetchall()
    assert outcome == answer.outcome
    house.demand(Place("alpha", 1))
    assert (await house.next(Dispatch)).calls == []


async def test_an_answer_and_a_receipt_may_cross(house):
    """The answer is on its way to the disk, as a job that waits, when the receipt ends it."""
    (call,) = await house.let_go(1)

    house.lane.tell(Settled(call, LOST))
    await receive(house, receipt(call.job.id))

    assert await stands(house) == ((0, 0, 0, 0), ["delivered"])
    house.demand(Place("alpha", 1))
    assert (await house.next(Dispatch)).calls == []


async def test_a_receipt_and_an_intent_may_cross(house):
    """The receipt of call 1 is on disk before the intent of call 2: nothing goes out."""
    (call,) = await house.let_go(1)
    house.lane.tell(Settled(call, Answer(Outcome.TRANSIENT, "http_500", "", True)))
    await house.settle()
    house.store.connection.execute("UPDATE jobs SET state = 0, due_at = NULL, waiting = NULL")
    await house.crash()

    house.journal.tell(Receive("email", [receipt(call.job.id)], 1.0, origin=house.origin))
    house.demand(Place("beta", 1))

    assert (await house.next(Dispatch)).calls == []
    assert await stands(house) == ((0, 0, 0, 0), ["delivered"])


async def test_a_recalled_call_of_an_ended_job_is_not_put_back(house):
    """It never left, and it does not have to any more."""
    (call,) = await house.let_go(1)
    await receive(house, receipt(call.job.id, Status.SENT))

    house.lane.tell(Recalled([call], "the gate closed meanwhile"))

    assert await stands(house) == ((0, 0, 0, 0), ["sent"])


async def test_a_lane_that_drains_waits_for_the_call_all_the_same(house):
    """The slot is taken until the call ends; then the lane is empty."""
    house.lane.tell(Route(1, ()))
    (call,) = await house.let_go(1)
    await receive(house, receipt(call.job.id))

    drained = house.lane.ask(Drain())
    await house.settle()
    is_drained_early = drained.done
    house.lane.tell(Settled(call, LOST))
    await drained

    assert not is_drained_early
    assert await stands(house) == ((0, 0, 0, 0), ["delivered"])


async def test_a_lane_that_crashed_meanwhile_knows_of_nothing(house):
    """The new instance loads no row, and the old one's answer finds none."""
    (call,) = await house.let_go(1)
    await receive(house, receipt(call.job.id))
    await house.crash()

    house.lane.tell(Settled(call, LOST))

    assert await stands(house) == ((0, 0, 0, 0), ["delivered"])
