"""A provider's rate limit holds over all nodes, whatever becomes of the Redis that they share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from clarion.actors.messages import Snapshot
from clarion.testing import Crash

LIMIT = {"per_second": 60.0, "burst": 6}
ON_THE_WAY_S = 0.3
"""Between taking a place and the call lie a commit and, on a busy machine, somebody else's turn."""


def too_many(calls: Sequence[float], per_second: float = 60.0, burst: float = 6.0) -> str:
    """Say where there were more calls than the limit admits; "" for nowhere."""
    least = float("inf")
    for n, at in enumerate(calls):
        least = min(least, n - per_second * at)
        if n + 1 - per_second * (at + ON_THE_WAY_S) - least > burst:
            return f"{n + 1} calls within {at - calls[0]:.2f} s"
    return ""


async def send_all(deployment, n: int) -> None:
    for node in deployment.nodes:
        await node.send(n)


def all_sent(deployment, n: int):
    async def check():
        return sum([await node.sent() for node in deployment.nodes]) == n

    return check


async def test_the_limit_is_that_of_all_nodes_together(deployment):
    nodes = [await deployment.start(rate_limit=LIMIT) for _ in range(3)]

    await send_all(deployment, 80)
    await deployment.until(all_sent(deployment, 240))

    calls = deployment.calls()
    assert not too_many(calls)
    assert all(len(node.acme.sends) == 80 for node in nodes)


async def test_one_node_with_work_has_all_of_the_limit(deployment):
    """The others take nothing that they do not need: a share of a third would take 4 s more."""
    busy, *_ = [await deployment.start(rate_limit=LIMIT) for _ in range(3)]

    await busy.send(120)
    await deployment.until(all_sent(deployment, 120))

    calls = deployment.calls()
    assert not too_many(calls)
    assert 119 / (calls[-1] - calls[0]) > 30.0


async def test_without_a_limit_nobody_is_asked_for_places(fragile, own_redis):
    node = await fragile.start()

    await node.send(50)
    await fragile.until(all_sent(fragile, 50))

    assert own_redis.client().keys("{clarion}:limit:*") == []


@pytest.mark.parametrize("what", ["kill", "flush", "full", "cut lines", "pause"])
async def test_whatever_becomes_of_redis_the_limit_holds_and_all_is_sent_once(
    fragile, own_redis, what
):
    """In the middle of the work; afterwards it is used again."""
    for _ in range(3):
        await fragile.start(rate_limit=LIMIT)
    await send_all(fragile, 60)
    await fragile.until(lambda: len(fragile.calls()) > 40)

    await trouble(own_redis, what)
    await fragile.until(all_sent(fragile, 180), 60.0)
    for node in fragile.nodes:
        await fragile.until(node.is_there)
    await send_all(fragile, 20)
    await fragile.until(all_sent(fragile, 240), 60.0)

    calls = fragile.calls()
    assert not too_many(calls)
    assert len(calls) == 240


async def trouble(redis, what: str) -> None:
    """Do something to Redis that real ones suffer, and mend it after a while."""
    client = redis.client()
    match what:
        case "kill":
            redis.kill()
            await asyncio.sleep(1.0)
            redis.start()
        case "flush":
            for _ in range(3):
                client.flushall()
                await asyncio.sleep(0.2)
        case "full":
            client.config_set("maxmemory", "1")
            await asyncio.sleep(1.0)
            client.config_set("maxmemory", "0")
        case "cut lines":
            for _ in range(100):
                client.client_kill_filter(skipme=True)
                await asyncio.sleep(0.01)
        case "pause":
            redis.pause()
            await asyncio.sleep(1.5)
            redis.resume()


async def test_away_for_long_each_node_goes_on_at_its_part(fragile, own_redis):
    """Three of them at 20 a second each, with a pause before."""
    for _ in range(3):
        await fragile.start(rate_limit=LIMIT)
    for node in fragile.nodes:
        await fragile.until(lambda node=node: node.sees(3))
    own_redis.kill()

    await send_all(fragile, 40)
    await fragile.until(all_sent(fragile, 120), 60.0)

    for node in fragile.nodes:
        assert (await node.commons()).live == 3
        calls = sorted(sent.at for sent in node.acme.sends)
        assert not too_many(calls, 20.0, 2.0)
    assert not too_many(fragile.calls())


async def test_a_node_without_redis_from_its_start_works(fragile, own_redis):
    own_redis.kill()
    node = await fragile.start_alone(rate_limit=LIMIT)

    await node.send(20)

    await fragile.until(all_sent(fragile, 20), 60.0)
    assert "cannot be reached" in (await node.commons()).reason


async def test_a_redis_that_says_nothing_holds_up_no_send(fragile, own_redis):
    """SIGSTOP: connections stand, and nothing ever comes."""
    node = await fragile.start()
    own_redis.pause()
    try:
        await node.send(200)
        await fragile.until(all_sent(fragile, 200), 10.0)
    finally:
        own_redis.resume()


async def test_crashes_of_the_commons_cost_nothing(deployment):
    """Nor those of the Supervisor, which starts with buckets that hold nothing."""
    for _ in range(2):
        await deployment.start(rate_limit=LIMIT)
    chance = random.Random(7)

    await send_all(deployment, 60)
    for _ in range(8):
        node = chance.choice(deployment.nodes)
        node.engine.runtime.ref(chance.choice(["commons", "supervisor"])).tell(Crash())
        await asyncio.sleep(0.1)
    await deployment.until(all_sent(deployment, 120), 60.0)

    assert not too_many(deployment.calls())
    for node in deployment.nodes:
        await node.engine.runtime.ref("commons").ask(Snapshot())
        await deployment.until(lambda node=node: node.sees(2))


async def test_a_limited_provider_without_work_is_not_said_to_be_at_its_limit(deployment):
    node = await deployment.start(rate_limit=LIMIT)

    assert ((await node.provider()).state, (await node.provider()).reason) == ("ok", "")


async def test_nodes_see_each_other_come_and_go(deployment):
    a, b = [await deployment.start() for _ in range(2)]
    await deployment.until(lambda: a.sees(2))

    seen = {each.id: each for each in (await a.commons()).nodes}
    assert seen[b.id] == b.engine.nodes.own
    await b.engine.runtime.stop("commons", 5.0)

    await deployment.until(lambda: a.sees(1))
    assert (await a.commons()).live == 1
