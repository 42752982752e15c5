"""Redrives in the crash table: whatever dies in the middle, every dead letter is moved once."""

from __future__ import annotations

import sqlite3

import pytest

from clarion.domain.redrive import MIN_RATE, DeadFilter, RedriveRequest, redrive_request
from clarion.testing import Crash
from clarion.testing.invariant import examine
from clarion.testing.simulated_provider import MOODS

N = 60
RATE = 20.0
SLOTS = 4
BEGINS_AT = 20.0


def rows(world, sql):
    connection = sqlite3.connect(world.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def counted(world):
    return dict(rows(world, "SELECT status, count(*) FROM notifications GROUP BY status"))


async def begin(world, rate=RATE):
    await world.engine.service.aftermath.redrive(RedriveRequest(DeadFilter(), rate))


def accepted_at(world):
    """When each was taken, in seconds since the redrive began."""
    found = rows(world, "SELECT ended_at FROM provider_calls WHERE outcome = 'accepted'")
    began = rows(world, "SELECT created_at FROM redrives")[0][0]
    return sorted(at - began for (at,) in found)


@pytest.fixture
def house(build_world, send):
    """One provider that refused sixty messages, and is well again before the redrive."""
    world = build_world(
        {"only": {"timeout": 5.0, "bulkhead": {"max_concurrent": SLOTS}, "health_every": 0.0}},
        {"email": ["only"]},
        defaults={"unknown_grace": 0.0},
    )
    world.accounts["only"].moods = (MOODS["bad_messages"],)
    send(world, 3.0, N)
    world.plan(15.0, "well", lambda world: world.accounts["only"].calm())
    world.plan(BEGINS_AT, "redrive", begin)
    return world


def assert_all_moved_once(world):
    assert examine(world) == []
    assert counted(world) == {"sent": N}
    ((state, matched, moved, skipped),) = rows(
        world, "SELECT state, matched, moved, skipped FROM redrives"
    )
    assert (state, matched, moved, skipped) == ("done", N, N, 0)
    assert rows(world, "SELECT count(*) FROM interventions") == [(N,)]


def test_a_redrive_keeps_its_rate(house):
    """Twenty in a second, not sixty at once: a provider that has just come back can bear it."""
    house.run(60.0)

    assert_all_moved_once(house)
    times = accepted_at(house)
    assert times[-1] >= N / RATE - 1.0
    for second in range(3):
        assert sum(second <= at < second + 1 for at in times) <= 2 * RATE


@pytest.mark.parametrize(
    "name", ["redrive", "queue:email", "journal", "supervisor", "provider:only", "breaker:only"]
)
@pytest.mark.parametrize("after", [0.0004, 0.7, 1.3])
def test_a_crash_in_the_middle_of_a_redrive_doubles_nothing(house, name, after):
    """The table says how far it got, and the next instance goes on from there."""
    at = BEGINS_AT + after
    house.plan(at, "crash", lambda world: world.engine.service.ref(name).tell(Crash("by plan")))

    house.run(90.0)

    assert_all_moved_once(house)
    assert set(house.accounts["only"].taken.values()) == {1}
    assert rows(house, "SELECT sum(possibly_duplicated) FROM notifications") == [(0,)]


@pytest.mark.parametrize("where", ["before a commit", "after a commit", "anywhere"])
@pytest.mark.parametrize("after", [0.3, 0.51, 0.9, 1.7])
def test_a_death_in_the_middle_of_a_redrive_moves_nothing_twice(house, where, after):
    """At most the calls that were out are made again, each marked, as is what stood by."""
    at = BEGINS_AT + after
    if where == "anywhere":
        house.plan(at, "kill", lambda world: world.kill())
    else:
        house.plan(at, "kill", lambda world: world.kill_at(where))

    house.run(90.0)

    assert house.deaths == 1
    assert_all_moved_once(house)
    ((marked,),) = rows(house, "SELECT sum(possibly_duplicated) FROM notifications")
    assert sum(n > 1 for n in house.accounts["only"].taken.values()) <= marked <= 2 * SLOTS


def test_a_paused_lane_gets_none_until_it_runs_again(house):
    """Their new time would run out while they wait."""
    moved = []

    def look(world):
        moved.append(rows(world, "SELECT moved FROM redrives")[0][0])

    house.plan(10.0, "pause", lambda world: world.engine.service.pause("email"))
    house.plan(60.0, "look", look)
    house.plan(61.0, "resume", lambda world: world.engine.service.resume("email"))

    house.run(120.0)

    assert moved == [0]
    assert_all_moved_once(house)


def test_a_held_lane_gets_only_what_it_needs_to_see_whether_it_works_again(house):
    """Nobody else sends, so without a redriven one no circuit would ever close."""
    moved = []

    def look(world):
        moved.append(rows(world, "SELECT moved FROM redrives")[0][0])

    account = house.accounts["only"]
    house.plan(15.5, "down", lambda _: setattr(account, "moods", (MOODS["answers_500"],)))
    house.plan(110.0, "look", look)
    house.plan(111.0, "well again", lambda _: account.calm())

    house.run(600.0)

    assert moved[0] < N
    assert_all_moved_once(house)


def test_a_full_disk_lets_a_redrive_wait(house):
    """It goes on once there is room; nothing crashes and nothing is lost."""
    house.plan(
        BEGINS_AT + 1.0,
        "full",
        lambda world: setattr(world.disk, "error_code", sqlite3.SQLITE_FULL),
    )
    house.plan(60.0, "empty", lambda world: setattr(world.disk, "error_code", None))

    house.run(120.0)

    assert_all_moved_once(house)
    assert not [entry for entry in house.logs if entry["event"] == "actor_crashed"]


def test_the_slowest_redrive_crashes_nobody(build_world, send):
    """Its rate is shared among its lanes, and then divided by."""
    world = build_world({"only": {"health_every": 0.0}}, {"email": ["only"], "sms": ["only"]})
    world.accounts["only"].moods = (MOODS["bad_messages"],)
    for channel in ("email", "sms"):
        send(world, 3.0, 2, channel=channel)
    world.plan(15.0, "well", lambda world: world.accounts["only"].calm())

    async def begin_slowly(world):
        wanted = redrive_request({"rate": MIN_RATE}, ("email", "sms"))
        await world.engine.service.aftermath.redrive(wanted)

    world.plan(20.0, "redrive", begin_slowly)
    world.run(100.0)

    assert examine(world) == []
    assert counted(world) == {"sent": 2, "failed": 2}
    assert not [entry for entry in world.logs if entry["event"] == "actor_crashed"]
