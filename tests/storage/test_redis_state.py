"""What nodes share in Redis: who is there, and news of circuits, over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from clarion.domain.node import Node
from clarion.errors import RedisAway
from clarion.policies.circuit_news import News
from clarion.policies.grant import Limit
from clarion.storage.redis_pool import RedisPool
from clarion.storage.redis_state import RedisState

NODE_A = Node("a", "host-1", 4711, "1.2.3", 1_800_000_000.5, "http://host-1:8080")
NODE_B = Node("b", "host-2")


@pytest.fixture
async def make_shared(redis_url, redis_prefix) -> AsyncIterator[Callable[..., RedisState]]:
    made: list[RedisState] = []

    def make(url: str = redis_url, prefix: str = redis_prefix) -> RedisState:
        pool = RedisPool(url, least=1, most=4, rng=lambda: 0.0)
        made.append(RedisState(pool, prefix))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def client(redis_url) -> Any:
    with redis.Redis.from_url(redis_url) as found:
        yield found


class Listener:
    """Listens in a task, and keeps what it heard."""

    def __init__(self, shared: RedisState) -> None:
        self.heard: list[Any] = []
        self.task = asyncio.create_task(shared.listen(self.heard.append, self.heard.append))

    async def hears(self, n: int) -> list[Any]:
        async with asyncio.timeout(10):
            while len(self.heard) < n:
                await asyncio.sleep(0.005)
        return self.heard


@pytest.fixture
def listening(redis_prefix) -> Callable[..., Any]:
    """Start to listen, and wait until the server knows."""

    async def listen(shared: RedisState, client: Any, prefix: str = redis_prefix) -> Listener:
        listener = Listener(shared)
        async with asyncio.timeout(10):
            while not client.pubsub_numsub(f"{{{prefix}}}:news")[0][1]:
                await asyncio.sleep(0.005)
        return listener

    return listen


@pytest.fixture
async def listener(make_shared, listening, client) -> AsyncIterator[Listener]:
    found = await listening(make_shared(), client)
    yield found
    found.task.cancel()


# --- who is there ------------------------------------------------------------------------------


async def test_nodes_hear_of_each_other(make_shared):
    a, b = make_shared(), make_shared()

    await a.beat(NODE_A)
    found = await b.beat(NODE_B)

    assert found.nodes == (NODE_A, NODE_B)


async def test_a_node_that_goes_is_gone_at_once_and_says_so(make_shared, listener):
    a, b = make_shared(), make_shared()
    await a.beat(NODE_A)
    await b.beat(NODE_B)

    await a.leave("a")

    assert (await b.beat(NODE_B)).nodes == (NODE_B,)
    assert await listener.hears(1) == ["a"]


async def test_a_node_that_falls_silent_is_gone_after_a_while(make_shared, client, redis_prefix):
    shared = make_shared()
    await shared.beat(NODE_A)
    beats = f"{{{redis_prefix}}}:beats"
    client.zincrby(beats, -4_000_000, "a")

    found = await shared.beat(NODE_B)

    assert found.nodes == (NODE_B,)
    assert client.hkeys(f"{{{redis_prefix}}}:nodes") == [b"b"]


@pytest.mark.parametrize("described", ["", "{", "[]", '{"pid": "x", "host": 3, "id": "z"}', "\xff"])
async def test_a_node_whose_words_are_garbled_is_there_by_its_id(
    make_shared, client, redis_prefix, described
):
    shared = make_shared()
    await shared.beat(NODE_A)
    client.hset(f"{{{redis_prefix}}}:nodes", "a", described)

    assert (await shared.beat(NODE_B)).nodes == (Node("a"), NODE_B)


async def test_nothing_is_left_of_a_deployment_that_is_no_more(make_shared, client, redis_prefix):
    """Every key has its end, but for the one that tells two lives of a server apart."""
    shared = make_shared()
    await shared.beat(NODE_A)
    await shared.tell(News("open", "acme", "a", 30.0, 1))
    await shared.take("acme", Limit(10.0, 1), "a", 1, ahead_s=0.0, is_drained=False)

    lasting = [key for key in client.scan_iter(f"*{redis_prefix}*") if client.ttl(key) < 0]

    assert lasting == [f"{{{redis_prefix}}}:memory".encode()]


async def test_deployments_with_prefixes_of_their_own_do_not_meet(make_shared, redis_prefix):
    ours, theirs = make_shared(), make_shared(prefix=f"{redis_prefix}-other")

    await theirs.beat(NODE_B)

    assert (await ours.beat(NODE_A)).nodes == (NODE_A,)


# --- news --------------------------------------------------------------------------------------


async def test_news_reach_who_listens_and_who_comes_later(make_shared, listener):
    shared = make_shared()

    await shared.tell(News("open", "acme", "a", 30.0, 2))
    (heard,) = await listener.hears(1)
    (read,) = (await shared.beat(NODE_B)).news

    assert (heard.kind, heard.provider, heard.node, heard.open_count) == ("open", "acme", "a", 2)
    assert heard.remaining_s == pytest.approx(30.0, abs=1e-3)
    assert heard.at == read.at
    assert 20.0 < read.remaining_s <= 30.0


async def test_a_circuit_and_a_pause_are_kept_beside_each_other(make_shared):
    shared = make_shared()

    await shared.tell(News("open", "acme", "a", 30.0, 1))
    await shared.tell(News("paused", "acme", "a", 9.0))
    await shared.tell(News("closed", "acme", "b"))

    news = (await shared.beat(NODE_B)).news
    assert sorted(each.kind for each in news) == ["closed", "paused"]


async def test_garbage_on_the_line_and_in_the_store_changes_nothing(
    make_shared, listener, client, redis_prefix
):
    shared = make_shared()
    for garbage in ("", "x", "open acme", b"\xff\xfe", "left", "open a b 1 nan nan"):
        client.publish(f"{{{redis_prefix}}}:news", garbage)
        client.hset(f"{{{redis_prefix}}}:circuits", garbage, garbage)

    await shared.tell(News("open", "acme", "a", 30.0, 1))

    heard = [each for each in await listener.hears(2) if each != ""]
    assert [each.kind for each in heard] == ["open"]
    assert [each.kind for each in (await shared.beat(NODE_A)).news] == ["open"]


async def test_a_line_that_breaks_ends_the_listening(own_redis, make_shared, listening):
    listener = await listening(make_shared(own_redis.url), own_redis.client())

    own_redis.client().client_kill_filter(_type="pubsub")

    with pytest.raises(RedisAway):
        await asyncio.wait_for(listener.task, 10)


async def test_a_line_on_which_nothing_comes_is_asked_whether_it_stands(
    own_redis, make_shared, listening, monkeypatch
):
    """A network that swallows everything looks like a provider without trouble."""
    from clarion.storage import redis_state

    monkeypatch.setattr(redis_state, "SILENCE_S", 0.05)
    listener = await listening(make_shared(own_redis.url), own_redis.client())
    pings = lambda: own_redis.client().info("commandstats").get("cmdstat_ping", {}).get("calls", 0)  # noqa: E731

    before = pings()
    async with asyncio.timeout(10):
        while pings() < before + 3:
            await asyncio.sleep(0.05)
    own_redis.pause()
    try:
        with pytest.raises(RedisAway):
            await asyncio.wait_for(listener.task, 10)
    finally:
        own_redis.resume()


# --- care --------------------------------------------------------------------------------------


async def test_a_server_that_throws_keys_away_is_known(own_redis, make_shared):
    shared = make_shared(own_redis.url)

    assert await shared.eviction() == ""
    own_redis.client().config_set("maxmemory-policy", "allkeys-lru")
    assert await shared.eviction() == "allkeys-lru"


async def test_a_user_that_may_touch_nothing_but_its_prefix_is_enough(
    own_redis, make_shared, listening
):
    """The server is often not ours alone: docs/operations.md names these rights."""
    own_redis.client().execute_command(
        "ACL", "SETUSER", "clarion", "on", ">secret", "resetkeys", "~{clarion}:*",
        "resetchannels", "&{clarion}:news", "+@all", "-@dangerous", "+info",
    )  # fmt: skip
    url = f"{own_redis.url}&username=clarion&password=secret"
    shared = make_shared(url, "clarion")
    listener = await listening(make_shared(url, "clarion"), own_redis.client(), "clarion")

    await shared.beat(NODE_A)
    await shared.take("acme", Limit(10.0, 1), "a", 1, ahead_s=0.0, is_drained=False)
    await shared.tell(News("open", "acme", "a", 30.0, 1))
    await listener.hears(1)
    await shared.leave("a")

    assert await shared.eviction() == ""
    listener.task.cancel()
