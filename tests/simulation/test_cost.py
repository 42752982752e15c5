"""What one delivery costs, as counts: over 1,000 notifications, with all slots full."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter

import pytest

from clarion.testing.invariant import examine
from clarion.testing.simulated_provider import MOODS, Mood

N = 1_000
WARM_UP = 50


def tallied(world, tally):
    """Start to count at 5 s and stop at 60 s, when everything is delivered."""

    def started(world):
        engine = world.engine
        loop = asyncio.get_running_loop()
        tally["messages"] -= sum(each.handled for each in engine.runtime.statistics())
        tally["rows"] -= engine._store.connection.total_changes
        tally["commits"] -= sum(" commit " in line for line in world.trace)
        tally["logs"] -= len(world.logs)
        make_task = loop.create_task

        def count_task(*args, **options):
            tally["tasks"] += 1
            return make_task(*args, **options)

        loop.create_task = count_task

    def ended(world):
        engine = world.engine
        tally["messages"] += sum(each.handled for each in engine.runtime.statistics())
        tally["rows"] += engine._store.connection.total_changes
        tally["commits"] += sum(" commit " in line for line in world.trace)
        tally["logs"] += len(world.logs)

    world.plan(5.0, "count", started)
    world.plan(60.0, "enough", ended)


@pytest.fixture(scope="module", params=[32, 128], ids=lambda slots: f"{slots} slots")
def tally(request, build_world, send):
    """Deliver N notifications that wait together, and count per delivery."""
    found: Counter[str] = Counter()
    world = build_world(
        {"only": {"bulkhead": {"max_concurrent": request.param}, "health_every": 0.0}},
        {"email": ["only"]},
    )
    world.accounts["only"].moods = (Mood("steady", latency_s=(0.02, 0.03)),)
    send(world, 1.0, WARM_UP)
    tallied(world, found)
    send(world, 10.0, N)

    world.run(70.0)

    assert examine(world) == []
    assert sum(world.accounts["only"].taken.values()) == N + WARM_UP
    assert world.accounts["only"].most_in_flight == request.param
    return found


def test_a_delivery_costs_eight_messages_at_most(tally):
    """What can travel once per batch does: more would eat the budget of 100 us."""
    assert tally["messages"] / N <= 7.7


def test_a_delivery_costs_one_task(tally):
    """The call itself; everything else is a message."""
    assert tally["tasks"] / N <= 1.05


def test_a_delivery_costs_six_row_writes(tally):
    """Record and job in, intent, job out, record and call; counts and flows once per commit."""
    per_commit = 8  # pairs of channel and status, and flows
    assert tally["rows"] <= 6 * N + per_commit * tally["commits"]
    assert tally["rows"] >= 6 * N


def test_commits_are_shared(tally):
    """What arrives during one fsync is the next batch: three commits each would be 3,000.

    Where no call stands by for a slot it is more than half a commit each.
    """
    assert tally["commits"] / N < 0.53


def test_no_success_is_logged(tally):
    """A metric tells it already."""
    assert tally["logs"] == 0


def test_a_held_lane_writes_nothing_and_burns_nothing(build_world, send):
    """Hours of outage cost a handful of probes: no writes between, and no attempts."""
    world = build_world(
        {"only": {"health_every": 0.0, "timeout": 5.0, "breaker": {"timeout": 600.0}}},
        {"email": {"providers": ["only"], "retry": {"max_attempts": 3}}},
    )
    account = world.accounts["only"]
    account.moods = (MOODS["answers_500"],)
    send(world, 1.0, 40)
    changes: list[int] = []
    calls: list[int] = []

    def look(world):
        changes.append(world.engine._store.connection.total_changes)
        calls.append(account.calls)

    for at in (120.0, 590.0, 3600.0, 14_000.0, 14_200.0):
        world.plan(at, "look", look)
    world.plan(14_400.0, "well", lambda world: account.calm())

    world.run(20_000.0)

    assert examine(world) == []
    assert sum(account.taken.values()) == 40
    assert changes[0] == changes[1], "an open circuit lets nothing be written"
    assert calls[0] == calls[1]
    assert calls[-1] - calls[0] < 40, "a handful of probes in four hours"
    with sqlite3.connect(world.path) as connection:
        (most,) = connection.execute("SELECT max(attempts) FROM notifications").fetchone()
    connection.close()
    assert most <= 2
