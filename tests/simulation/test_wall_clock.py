"""A wall clock that is set, and a machine that sleeps: nobody is sent to twice, nothing hangs."""

from __future__ import annotations

import sqlite3

import pytest

from clarion.testing import Crash
from clarion.testing.invariant import examine
from clarion.testing.simulated_provider import HEALTHY, MOODS, Mood

HOUR_S = 3600.0
STEADY = Mood("steady", latency_s=(3.0, 3.5))


def rows(world, sql):
    connection = sqlite3.connect(world.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.fixture
def house(build_world):
    """One provider, whose failures are tried again after a minute, and whose calls take long."""
    return build_world(
        {"only": {"timeout": 5.0, "health_every": 0.0, "breaker": {"failure_threshold": 50}}},
        {"email": ["only"]},
        retry={"initial_delay": 60.0, "max_delay": 60.0, "jitter": False},
        defaults={"unknown_grace": 0.0, "expires_after": 100 * HOUR_S},
    )


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
def test_a_clock_that_is_set_ends_no_call(house, send, by_s):
    """How long a call is out is not the wall clock's business."""
    account = house.accounts["only"]
    account.moods = (STEADY,)
    send(house, 3.0, 4)
    house.plan(4.5, "set", lambda world: world.set_clock(by_s))

    house.run(60.0)

    assert examine(house) == []
    assert rows(house, "SELECT outcome FROM provider_calls") == [("accepted",)] * 4
    assert list(account.taken.values()) == [1] * 4


@pytest.mark.parametrize("n", [3, 1500])
def test_a_clock_that_is_set_back_holds_no_retry(house, send, n):
    """A minute is a minute, for retries that are rows only as well, and for those of later."""
    account = house.accounts["only"]
    account.moods = (MOODS["answers_500"],)
    send(house, 3.0, n)
    house.plan(30.0, "set", lambda world: world.set_clock(-5 * HOUR_S))
    house.plan(31.0, "well", lambda world: account.calm())

    house.run(200.0)

    assert examine(house) == []
    assert rows(house, "SELECT status, count(*) FROM notifications GROUP BY status") == [
        ("sent", n)
    ]


def test_a_clock_that_is_set_back_as_the_lane_crashes_holds_no_retry(house, send):
    """The next instance notices what its forerunner had no time for."""
    account = house.accounts["only"]
    account.moods = (MOODS["answers_500"],)
    send(house, 3.0, 3)

    def set_and_crash(world):
        world.set_clock(-5 * HOUR_S)
        world.engine.service.ref("queue:email").tell(Crash("by the test"))

    house.plan(30.0, "set", set_and_crash)
    house.plan(31.0, "well", lambda world: account.calm())

    house.run(200.0)

    assert examine(house) == []
    assert rows(house, "SELECT status, count(*) FROM notifications GROUP BY status") == [
        ("sent", 3)
    ]


def test_a_machine_that_slept_goes_on_at_once_with_what_fell_due(house, send):
    """The loop's timers slept too; the lane looks at the clock in each round."""
    account = house.accounts["only"]
    seen = []
    send(house, 3.0, 3, send_at="2023-11-14T23:13:20Z")
    house.plan(100.0, "wake", lambda world: world.set_clock(HOUR_S))
    house.plan(103.0, "look", lambda world: seen.append(account.calls))

    house.run(120.0)

    assert examine(house) == []
    assert seen == [3]


def test_a_send_at_is_an_instant_and_waits_for_it(house, send):
    """Whoever names a time means the clock on the wall, even when it was set back."""
    account = house.accounts["only"]
    account.moods = (HEALTHY,)
    seen = []
    send(house, 3.0, 3, send_at="2023-11-14T22:15:20Z")
    house.plan(60.0, "set", lambda world: world.set_clock(-60.0))
    house.plan(150.0, "look", lambda world: seen.append(account.calls))

    house.run(200.0)

    assert examine(house) == []
    assert seen == [0]
    assert account.calls == 3
