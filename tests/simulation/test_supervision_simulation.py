"""The engine's own part of supervision: the guardian, the watch for hung actors, the stop."""

from __future__ import annotations

import asyncio
from collections import Counter

from clarion.actors.runtime import Actor, handles
from clarion.testing import Crash
from clarion.testing.invariant import examine


class Hang:
    """Never done, for the first one that handles it."""


class Sleeper(Actor):
    """Hangs once."""

    hung = 0

    @handles(Hang)
    async def hang(self, _message: Hang) -> None:
        Sleeper.hung += 1
        if Sleeper.hung == 1:
            await asyncio.Event().wait()


def logged(world):
    return Counter(entry["event"] for entry in world.logs)


def test_a_supervisor_over_its_budget_is_tried_slowly_and_its_work_goes_on(build_world, send):
    """Nobody else restarts it: the guardian has a budget of its own, and never gives up."""
    world = build_world({"only": {"health_every": 0.0}}, {"email": ["only"]})

    def crash(world):
        for _ in range(11):
            world.engine.service.ref("supervisor").tell(Crash("by the test"))

    world.plan(3.0, "crash", crash)
    send(world, 4.0, 20)

    world.run(120.0)

    crashes = [each for each in world.logs if each["event"] == "supervisor_crashed"]
    assert len(crashes) == 11
    assert crashes[-1]["restart_in_s"] == 15.0
    assert examine(world) == []
    assert logged(world)["giving_up"] == 0
    assert world.accounts["only"].calls == 20


def test_a_hung_actor_is_named_interrupted_and_restarted(build_world):
    """What it hung in is handled once more; its neighbours notice nothing."""
    world = build_world({"only": {"health_every": 0.0}}, {"email": ["only"]})
    Sleeper.hung = 0

    def begin(world):
        world.engine._spawn("sleeper", Sleeper)
        world.engine.runtime.ref("sleeper").tell(Hang())

    world.plan(3.0, "hang", begin)

    world.run(60.0)

    named = [each["actor"] for each in world.logs if each["event"] == "actor_hung"]
    assert named == ["sleeper"]
    assert Sleeper.hung == 2
    assert [each for each in examine(world) if "sleeper" not in each] == []


def test_the_parts_stop_in_the_reverse_of_their_order(build_world, send):
    """Who tells stops before who is told; the Journal is last, behind the last flush."""
    world = build_world(
        {"first": {"health_every": 0.0}, "second": {"health_every": 0.0}},
        {"email": ["first", "second"], "sms": ["second"]},
    )
    order = []

    def watch(world):
        stop = world.engine.runtime.stop

        async def noted(name, timeout_s):
            order.append(name)
            await stop(name, timeout_s)

        world.engine.runtime.stop = noted

    send(world, 3.0, 5)
    world.plan(3.5, "watch", watch)

    world.run(20.0)

    assert order[: order.index("journal") + 1] == [
        "retention", "redrive", "queue:sms", "queue:email", "breaker:second", "provider:second",
        "breaker:first", "provider:first", "supervisor", "retention", "redrive", "queue:sms",
        "queue:email", "breaker:second", "provider:second", "breaker:first", "provider:first",
        "supervisor", "journal",
    ]  # fmt: skip
    assert examine(world) == []
