"""What calls that stand by may cost, with a provider that is as fast as the disk."""

from __future__ import annotations

import sqlite3

import pytest

from clarion.domain.outcome import Outcome
from clarion.testing import Crash
from clarion.testing.invariant import examine
from clarion.testing.simulated_provider import Mood

SLOTS = 4
N = 200
FAST = Mood("fast", latency_s=(0.01, 0.02))
DEATHS_AT = [3.126, 3.178, 3.256, 3.308]


def rows(world, sql):
    connection = sqlite3.connect(world.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def statuses(world):
    return dict(rows(world, "SELECT status, count(*) FROM notifications GROUP BY status"))


@pytest.fixture
def house(build_world):
    """One provider of four slots for one channel."""
    world = build_world(
        {"only": {"bulkhead": {"max_concurrent": SLOTS}, "health_every": 0.0}},
        {"email": ["only"]},
        defaults={"unknown_grace": 0.0},
    )
    world.accounts["only"].moods = (FAST,)
    return world


def kill(world):
    """Die, and remember how many calls were noted on the disk then."""
    waiting = rows(world, "SELECT count(*) FROM jobs WHERE sending IS NOT NULL")
    world.noted = waiting[0][0]
    world.kill()


@pytest.mark.parametrize("at", DEATHS_AT)
def test_a_death_marks_at_most_two_calls_for_each_slot(house, send, at):
    """One whose end was not on the disk yet, and the one that stood by, or had its slot already."""
    send(house, 3.0, N)
    house.plan(at, "kill", kill)

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    ((marked,),) = rows(house, "SELECT sum(possibly_duplicated) FROM notifications")
    assert SLOTS < house.noted <= 2 * SLOTS, "calls stood by, or this would prove nothing"
    assert sum(n > 1 for n in house.accounts["only"].taken.values()) <= marked <= 2 * SLOTS


@pytest.mark.parametrize("at", DEATHS_AT)
def test_what_goes_out_once_at_most_never_stands_by(house, send, at):
    """A death would park it as unknown, though nobody sent it."""
    for step in range(8):
        send(house, 3.0 + step / 100, N // 16, delivery="at_most_once")
        send(house, 3.0 + step / 100, N // 16)
    house.plan(at, "kill", kill)

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house).get("unknown", 0) <= SLOTS
    once = rows(house, "SELECT id FROM notifications WHERE delivery = 'at_most_once'")
    assert {house.accounts["only"].taken.get(id, 0) for (id,) in once} <= {0, 1}


@pytest.mark.parametrize("name", ["queue:email", "supervisor", "provider:only", "breaker:only"])
@pytest.mark.parametrize("at", DEATHS_AT)
def test_a_crash_with_calls_on_standby_loses_and_doubles_nothing(house, send, name, at):
    """Whoever is left knows that they were not sent, and takes them back."""
    send(house, 3.0, N)
    house.plan(at, "crash", lambda world: world.engine.service.ref(name).tell(Crash("by plan")))

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    assert set(house.accounts["only"].taken.values()) == {1}
    assert rows(house, "SELECT sum(possibly_duplicated) FROM notifications") == [(0,)]


def test_a_paused_lane_lets_nothing_go_that_stood_by(house, send):
    """A person who pauses a lane wants it to stop, not to run out."""
    calls: list[int] = []
    send(house, 3.0, N)
    house.plan(3.2, "pause", lambda world: world.engine.service.pause("email"))
    for at in (3.3, 20.0):
        house.plan(at, "look", lambda world: calls.append(world.accounts["only"].calls))

    house.run(30.0)

    assert calls[0] == calls[1] < N
    assert statuses(house) == {"sent": calls[0], "queued": N - calls[0]}


def test_a_stop_takes_back_what_stood_by(house, send):
    """SIGTERM under load: nothing is lost, doubled or marked."""
    send(house, 3.0, N)
    house.plan(3.2, "SIGTERM", lambda world: world.stop())

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    assert set(house.accounts["only"].taken.values()) == {1}
    assert rows(house, "SELECT sum(possibly_duplicated) FROM notifications") == [(0,)]


def test_a_provider_that_falls_sick_gets_none_of_those_that_stood_by(build_world, send):
    """Its circuit opens, and they go out by the other one within the same attempt."""
    quick = {"bulkhead": {"max_concurrent": SLOTS}, "health_every": 0.0}
    world = build_world({"first": quick, "second": quick}, {"email": ["first", "second"]})
    first, second = world.accounts["first"], world.accounts["second"]
    first.moods = second.moods = (FAST,)
    sick = Mood("sick", outcome=Outcome.TRANSIENT, latency_s=(0.01, 0.02))
    send(world, 3.0, N)
    world.plan(3.2, "sick", lambda _: setattr(first, "moods", (sick,)))

    world.run(20.0)

    assert examine(world) == []
    assert statuses(world) == {"sent": N}
    failed = rows(world, "SELECT count(*) FROM provider_calls WHERE outcome = 'transient'")
    assert failed[0][0] <= 5 + SLOTS - 1, "the threshold, and what was out when it was reached"
