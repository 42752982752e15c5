"""What each crash costs, row by row: who goes on, from where, and that nobody is sent to twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter

import pytest

from clarion.domain.outcome import Outcome
from clarion.testing import Crash
from clarion.testing.invariant import examine
from clarion.testing.simulated_provider import MOODS, Mood, SimulatedAdapter

STEADY = Mood("steady", latency_s=(0.9, 1.1))
N = 30


def crash(name, times=1):
    def act(world):
        for _ in range(times):
            world.engine.service.ref(name).tell(Crash("by the table"))

    return act


def rows(world, sql):
    connection = sqlite3.connect(world.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def statuses(world):
    return dict(rows(world, "SELECT status, count(*) FROM notifications GROUP BY status"))


def logged(world):
    return Counter(entry["event"] for entry in world.logs)


@pytest.fixture
def house(build_world):
    """One provider of four slots, each call taking about a second."""
    world = build_world(
        {"only": {"timeout": 5.0, "bulkhead": {"max_concurrent": 4}, "health_every": 0.0}},
        {"email": ["only"], "sms": ["only"]},
        defaults={"unknown_grace": 0.0},
    )
    world.accounts["only"].moods = (STEADY,)
    return world


@pytest.mark.parametrize(
    "name", ["queue:email", "supervisor", "breaker:only", "provider:only", "journal"]
)
@pytest.mark.parametrize("at", [3.0004, 3.5, 4.3])
def test_a_crash_with_calls_out_loses_nothing_and_sends_nothing_twice(house, send, name, at):
    """Calls that are out end and are heard; what waited goes on: nobody is even marked."""
    send(house, 3.0, N)
    house.plan(at, "crash", crash(name))

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    assert list(house.accounts["only"].taken.values()) == [1] * N
    assert rows(house, "SELECT sum(possibly_duplicated) FROM notifications") == [(0,)]
    assert house.accounts["only"].most_in_flight == 4


def test_a_queue_takes_over_the_calls_of_its_forerunner(house, send):
    """Their answers settle them: each call is made once, and none is given up."""
    send(house, 3.0, 4)
    house.plan(3.5, "crash", crash("queue:email"))

    house.run(20.0)

    assert rows(house, "SELECT outcome, count(*) FROM provider_calls") == [("accepted", 4)]


def test_a_supervisor_rebuilds_its_slots_from_the_lanes_reports(house, send):
    """Slots that are out stay taken, however often it crashes: the bulkhead holds."""
    send(house, 3.0, N)
    send(house, 3.0, N, channel="sms")
    for number in range(8):
        house.plan(3.2 + number * 0.3, "crash", crash("supervisor"))

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": 2 * N}
    assert house.accounts["only"].most_in_flight == 4


def test_a_breaker_goes_on_from_the_last_report(house, send):
    """An open circuit stays open for the rest of its time."""
    account = house.accounts["only"]
    account.moods = (MOODS["answers_500"],)
    send(house, 3.0, N)
    house.plan(10.0, "crash", crash("breaker:only"))
    calls = []
    house.plan(9.9, "look", lambda world: calls.append(account.calls))
    house.plan(60.0, "look", lambda world: calls.append(account.calls))
    house.plan(61.0, "well", lambda world: account.calm())

    house.run(400.0)

    assert examine(house) == []
    assert calls[0] == calls[1]


def test_a_throttled_provider_is_left_alone_over_a_crash_of_its_breaker(house, send):
    """Until when is part of the report, so a fresh breaker knows it."""
    account = house.accounts["only"]
    account.moods = (MOODS["throttles_for_15_s"],)
    send(house, 3.0, N)
    house.plan(5.0, "crash", crash("breaker:only"))
    house.plan(5.0, "crash", crash("supervisor"))
    house.plan(6.0, "well", lambda world: account.calm())

    house.run(60.0)

    # The account itself accuses whoever calls before its time.
    assert examine(house) == []
    assert statuses(house) == {"sent": N}


@pytest.mark.parametrize("where", ["before a commit", "after a commit", "anywhere"])
def test_a_process_that_dies_marks_what_may_have_been_sent(house, send, where):
    """At most the calls that were out are made again, each of them marked."""
    send(house, 3.0, N)
    if where == "anywhere":
        house.plan(4.5, "kill", lambda world: world.kill())
    else:
        house.plan(4.5, "kill", lambda world: world.kill_at(where))

    house.run(60.0)

    assert house.deaths == 1
    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    ((marked,),) = rows(house, "SELECT sum(possibly_duplicated) FROM notifications")
    twice = sum(n > 1 for n in house.accounts["only"].taken.values())
    assert twice <= marked <= 4


def test_a_process_that_dies_sends_nothing_at_most_once_again(house, send):
    """What may be out is parked as unknown, for a person or a receipt to decide."""
    send(house, 3.0, N, delivery="at_most_once")
    house.plan(4.5, "kill", lambda world: world.kill())

    house.run(60.0)

    assert examine(house) == []
    assert set(house.accounts["only"].taken.values()) == {1}
    assert statuses(house) == {"sent": N - 4, "unknown": 4}


def test_a_stop_waits_for_the_calls_that_are_out(house, send):
    """SIGTERM under load: nothing is lost, doubled or marked."""
    send(house, 3.0, N)
    house.plan(4.5, "SIGTERM", lambda world: world.stop())

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    assert set(house.accounts["only"].taken.values()) == {1}
    assert rows(house, "SELECT sum(possibly_duplicated) FROM notifications") == [(0,)]


def test_a_queue_that_crashes_while_it_drains_takes_no_new_work(house, send):
    """Its next instance knows that the process is about to end, before anyone tells it again."""
    calls = []

    def stop(world):
        queue = world.engine.service.ref("queue:email")
        loop = asyncio.get_running_loop()
        for number in range(1, 9):
            loop.call_later(number * 0.05, queue.tell, Crash("while draining"))
        calls.append(world.accounts["only"].calls)
        world.stop()

    send(house, 3.0, N)
    house.plan(4.5, "SIGTERM", stop)
    house.plan(4.51, "look", lambda world: calls.append(world.accounts["only"].calls))

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    # The look comes as soon as the next process lives, before it calls anyone.
    assert calls[1] == calls[0]


def test_a_full_disk_is_a_state_and_no_crash(house, send):
    """What is out settles when the disk works again; nothing new goes out meanwhile."""
    calls = []

    def fill(world):
        world.disk.error_code = sqlite3.SQLITE_FULL

    def empty(world):
        world.disk.error_code = None

    send(house, 3.0, N)
    house.plan(4.5, "full", fill)
    house.plan(7.0, "look", lambda world: calls.append(world.accounts["only"].calls))
    house.plan(600.0, "look", lambda world: calls.append(world.accounts["only"].calls))
    house.plan(600.0, "empty", empty)

    house.run(700.0)

    assert examine(house) == []
    assert calls[0] == calls[1] < N
    assert statuses(house) == {"sent": N}
    assert logged(house)["actor_crashed"] == 0
    assert (logged(house)["storage_unavailable"], logged(house)["storage_recovered"]) == (1, 1)


def test_a_bug_of_ours_in_a_send_is_no_crash_and_ends_as_poison_at_the_third_time(house, send):
    """Sent by nobody, and set aside; those that the bug does not meet are delivered."""
    account = house.accounts["only"]
    account.moods = (MOODS["has_a_bug"],)
    send(house, 3.0)
    house.plan(400.0, "mended", lambda world: account.calm())
    send(house, 500.0, N)

    house.run(600.0)

    assert examine(house) == []
    assert rows(house, "SELECT reason FROM notifications WHERE status = 'failed'") == [("poison",)]
    assert statuses(house) == {"failed": 1, "sent": N}
    assert logged(house)["actor_crashed"] == 0
    assert logged(house)["send_bug"] == 3


@pytest.mark.parametrize("name", ["provider:only", "breaker:only"])
def test_calls_that_wait_for_a_restart_are_taken_back_and_were_surely_not_sent(house, send, name):
    """However long the restart takes, nobody has to wonder: none of them is in doubt."""
    send(house, 3.0, N)
    # Each crash makes the next back-off longer, till the budget is used up and it is tried slowly.
    for number in range(13):
        house.plan(3.0004 + number * 0.25, "crash", crash(name))

    house.run(300.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    assert rows(house, "SELECT outcome, count(*) FROM provider_calls GROUP BY outcome") == [
        ("accepted", N)
    ]
    assert rows(house, "SELECT sum(possibly_duplicated) FROM notifications") == [(0,)]


def test_a_provider_that_takes_long_to_start_again_gets_no_calls_before(house, send, monkeypatch):
    """Its gate stays shut until a session is open: nothing waits in vain, and ends in doubt."""

    async def open_slowly(_adapter):
        await asyncio.sleep(20.0)

    def crash_slowly(world):
        monkeypatch.setattr(SimulatedAdapter, "open", open_slowly)
        crash("provider:only")(world)

    house.plan(3.0, "crash", crash_slowly)
    send(house, 4.0, N)

    house.run(60.0)

    assert examine(house) == []
    assert statuses(house) == {"sent": N}
    assert rows(house, "SELECT outcome, count(*) FROM provider_calls GROUP BY outcome") == [
        ("accepted", N)
    ]


# --- what a supervisor and a breaker know again ---------------------------------------------------


def test_a_ramp_goes_on_over_a_crash_of_the_supervisor(build_world, send):
    """A provider that has just recovered is not met with all slots at once."""
    world = build_world(
        {
            "only": {
                "timeout": 5.0, "bulkhead": {"max_concurrent": 16}, "health_every": 0.0,
                "breaker": {"failure_threshold": 1, "timeout": 10.0, "success_threshold": 1},
            }
        },
        {"email": ["only"]},
    )  # fmt: skip
    account, seen = world.accounts["only"], []
    account.moods = (MOODS["answers_500"],)
    send(world, 3.0, 200)

    def calm(world):
        account.moods = (STEADY,)

    def look(world):
        seen.append(account.most_in_flight)

    def forget(world):
        account.most_in_flight = 0

    world.plan(5.0, "well", calm)
    world.plan(15.0, "from now on", forget)
    world.plan(17.4, "crash", crash("supervisor"))
    world.plan(17.5, "look", look)

    world.run(200.0)

    assert examine(world) == []
    assert seen == [4]
    assert statuses(world) == {"sent": 200}


def test_a_pause_of_our_own_goes_on_doubling_over_crashes(house, send):
    """Without a Retry-After it is 1 s, 2 s, 4 s, whoever crashes in between."""
    account = house.accounts["only"]
    account.moods = (MOODS["throttles"],)
    calls = []
    send(house, 3.0, 1)
    for number in range(6):
        house.plan(20.5 + number, "crash", crash("breaker:only"))
        house.plan(20.7 + number, "crash", crash("supervisor"))
    house.plan(20.0, "look", lambda world: calls.append(account.calls))
    house.plan(60.0, "look", lambda world: calls.append(account.calls))
    house.plan(60.0, "well", lambda world: account.calm())

    house.run(200.0)

    assert examine(house) == []
    assert calls[1] - calls[0] <= 2


def test_a_long_pause_is_kept_over_a_death_of_the_process(house, send):
    """A provider that asked to be left alone does not care that we died; an operator may reset."""
    account = house.accounts["only"]
    account.moods = (Mood("quota", Outcome.THROTTLED, retry_after_s=600.0),)
    calls = []
    send(house, 3.0, N)
    house.plan(10.0, "kill", lambda world: world.kill())
    house.plan(20.0, "look", lambda world: calls.append(account.calls))
    house.plan(500.0, "look", lambda world: calls.append(account.calls))
    house.plan(500.0, "well", lambda world: account.calm())

    house.run(700.0)

    assert examine(house) == []
    assert house.deaths == 1
    assert calls[0] == calls[1] <= 4
    assert statuses(house) == {"sent": N}


# --- over the budget -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["provider", "breaker"])
def test_a_provider_or_breaker_over_its_budget_is_routed_around(build_world, send, kind):
    """Its gate closes, the fallback takes all, and slowly it is tried again."""
    world = build_world(
        {"first": {"health_every": 0.0}, "second": {"health_every": 0.0}},
        {"email": ["first", "second"]},
    )
    world.plan(3.0, "crash", crash(f"{kind}:first", times=11))
    send(world, 25.0, N)
    calls = []
    world.plan(27.0, "look", lambda world: calls.append(world.accounts["second"].calls))
    send(world, 120.0, N)

    world.run(140.0)

    assert examine(world) == []
    assert logged(world)["actor_over_budget"] == 1
    assert calls == [N]
    assert world.accounts["first"].calls > 0


def test_a_lane_over_its_budget_closes_alone(house, send):
    """The other channel goes on at once, this one when it is tried again."""
    house.plan(3.0, "crash", crash("queue:email", times=30))
    refused = []

    async def ask(world):
        try:
            await world.engine.service.submit(
                {"channel": "email", "to": "ada@example.com", "text": "Hello"}
            )
        except Exception as error:  # which one is the question
            refused.append(type(error).__name__)

    house.plan(40.0, "ask", ask)
    send(house, 40.0, N, channel="sms")
    send(house, 400.0, N)

    house.run(500.0)

    assert examine(house) == []
    assert refused == ["LaneClosed"]
    assert statuses(house) == {"sent": 2 * N}


def test_a_journal_over_its_budget_ends_the_process_with_everything_durable(house, send):
    """A fresh process is the better chance; what was accepted is delivered by it."""
    send(house, 3.0, N)
    house.plan(4.0, "crash", crash("journal", times=11))

    house.run(120.0)

    assert examine(house) == []
    assert logged(house)["giving_up"] == 1
    assert sum(line.endswith(" start") for line in house.trace) == 2
    assert statuses(house) == {"sent": N}


def test_a_crashed_actor_waits_longer_each_time_and_starts_over_after_a_calm(house):
    """A share of 50 ms, doubling to 5 s; ten seconds without a crash forget it."""
    for number in range(6):
        house.plan(3.0 + number * 2.0, "crash", crash("breaker:only"))
    house.plan(40.0, "crash", crash("breaker:only"))

    house.run(60.0)

    planned = [each for each in house.logs if each["event"] == "actor_restart_planned"]
    assert [each["crashes"] for each in planned] == [1, 2, 3, 4, 5, 6, 1]
    assert all(
        each["in_s"] <= min(5.0, 0.05 * 2 ** (each["crashes"] - 1)) + 0.001 for each in planned
    )
