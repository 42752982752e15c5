"""Retention: what has ended and is old goes, nothing else, and the counts reconcile throughout."""

from __future__ import annotations

import sqlite3

import pytest

from clarion.domain.redrive import DeadFilter, RedriveRequest
from clarion.storage.recount import recount
from clarion.storage.sqlite import connect_reader
from clarion.testing.simulated_provider import MOODS

DAY_S = 86_400.0
N = 450
STORIES = ("provider_calls", "receipts", "interventions", "idempotency")


def rows(world, sql):
    connection = sqlite3.connect(world.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def differences(world):
    connection = connect_reader(world.path)
    try:
        return recount(connection)
    finally:
        connection.close()


def statuses(world):
    return dict(rows(world, "SELECT status, count(*) FROM notifications GROUP BY status"))


def grow_old(world):
    world.set_clock(31 * DAY_S)


@pytest.fixture
def house(build_world, send):
    """Many that were sent, and some that are scheduled for a day in two months."""
    world = build_world(
        {"only": {"timeout": 5.0, "bulkhead": {"max_concurrent": 64}, "health_every": 0.0}},
        {"email": ["only"], "sms": ["only"]},
    )
    send(world, 3.0, N)
    send(world, 3.0, 30, channel="sms", send_at="2024-01-15T00:00:00Z")
    return world


@pytest.mark.parametrize("where", [None, "before a commit", "after a commit", "anywhere"])
def test_what_is_old_goes_and_the_counts_reconcile_whoever_dies(house, where):
    """A death in the middle of a pass leaves each record whole or gone, and noted as gone."""
    house.plan(20.0, "a month later", grow_old)
    if where is not None:
        begins_at = 30.5
        kill = house.kill if where == "anywhere" else lambda: house.kill_at(where)
        house.plan(begins_at, "kill", lambda _world: kill())

    house.run(120.0)

    assert house.violations == []
    assert [each for each in house.logs if each["event"] == "actor_crashed"] == []
    assert house.deaths == (where is not None)
    assert statuses(house) == {"scheduled": 30}
    assert rows(house, "SELECT count(*) FROM jobs") == [(30,)]
    assert [rows(house, f"SELECT count(*) FROM {each}") for each in STORIES] == [[(0,)]] * 4
    assert rows(house, "SELECT * FROM purged") == [("email", "sent", N)]
    assert differences(house) == []
    counted = dict(rows(house, "SELECT status, n FROM counts WHERE channel = 'email'"))
    assert (counted["accepted"], counted["sent"]) == (N, N)


def test_what_is_not_old_enough_stays(house):
    """A day less, and nothing goes."""
    house.plan(20.0, "29 days later", lambda world: world.set_clock(29 * DAY_S))

    house.run(400.0)

    assert statuses(house) == {"scheduled": 30, "sent": N}
    assert rows(house, "SELECT * FROM purged") == []
    assert any("commit Purge" in line for line in house.trace)


def test_a_record_counts_from_its_end_not_from_its_beginning(house, send):
    """One that was accepted long ago and ended just now is kept for its time."""
    house.plan(20.0, "two months later", lambda world: world.set_clock(63 * DAY_S))

    house.run(400.0)

    assert statuses(house) == {"sent": 30}
    assert differences(house) == []


def test_dead_letters_that_a_redrive_is_about_to_take_are_left_to_it(build_world, send):
    """However old they are: somebody has just asked for them."""
    world = build_world(
        {"only": {"timeout": 5.0, "health_every": 0.0}}, {"email": ["only"], "sms": ["only"]}
    )
    account = world.accounts["only"]
    account.moods = (MOODS["bad_messages"],)
    send(world, 3.0, 60)
    send(world, 3.0, 40, channel="sms")

    async def redrive(world):
        request = RedriveRequest(DeadFilter(channel="email"), 1.0)
        await world.engine.service.aftermath.redrive(request)

    world.plan(15.0, "well", lambda world: account.calm())
    world.plan(20.0, "a month later", grow_old)
    world.plan(21.0, "redrive", redrive)

    world.run(150.0)

    assert world.violations == []
    assert statuses(world) == {"sent": 60}
    assert rows(world, "SELECT * FROM purged") == [("sms", "failed", 40)]
    assert differences(world) == []
