"""What a lane says of its jobs: ready is what could go now, and nothing else."""

from __future__ import annotations

from clarion.actors.messages import CancelNotification, Place, Route, Settled, Snapshot
from clarion.actors.supervisor_messages import Dispatch
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.routing import RouteState

REFUSED = Answer(Outcome.TRANSIENT, "http_500", surely_not_accepted=True)


async def numbers(house) -> dict[str, int]:
    await house.settle()
    seen = await house.lane.ask(Snapshot())
    return {"ready": seen.ready, "waiting": seen.waiting, "in_flight": seen.in_flight}


async def fail_everywhere(house, n: int) -> list[str]:
    """Let `n` fail at both providers: they wait some minutes, longer than memory looks ahead."""
    house.lane.tell(Route(1, (RouteState("alpha", "closed"), RouteState("beta", "closed"))))
    calls = await house.let_go(n)
    for call in calls:
        house.lane.tell(Settled(call, REFUSED))
    await house.settle()
    house.demand(Place("beta", n))
    for call in (await house.next(Dispatch)).calls:
        house.lane.tell(Settled(call, REFUSED))
    return [call.job.id for call in calls]


async def test_a_retry_of_the_far_future_waits_and_is_not_ready(house):
    """It is a row only, and counted all the same, by the next instance as well."""
    await fail_everywhere(house, 3)
    await house.accept(2)

    assert await numbers(house) == {"ready": 2, "waiting": 3, "in_flight": 0}
    await house.crash()
    assert await numbers(house) == {"ready": 2, "waiting": 3, "in_flight": 0}


async def test_a_cancelled_retry_waits_no_more(house):
    """Memory does not have it, so the disk says what it was."""
    id, _ = await fail_everywhere(house, 2)

    await house.lane.ask(CancelNotification(id))

    assert await numbers(house) == {"ready": 0, "waiting": 1, "in_flight": 0}


async def test_a_spoilt_row_that_a_refill_meets_leaves_the_lane(house):
    """It ends as poison on the disk, and is not counted as waiting until the next start."""
    ids = await house.accept(510)
    spoil = "UPDATE jobs SET tried = '{' WHERE id = ?"
    house.store.connection.execute(spoil, (ids[505],))

    house.demand(Place("alpha", 300))
    await house.next(Dispatch)

    assert await numbers(house) == {"ready": 209, "waiting": 0, "in_flight": 300}
    assert await house.status(ids[505]) == ("gone", 0, None)
