"""What people see of the nodes and of Redis: `/health`, `/readyz`, `/metrics` and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from clarion import server
from clarion.actors.commons_messages import CommonsSnapshot
from clarion.domain.node import Node
from clarion.http import health
from clarion.http.app import make_app

OWN = Node("3caeed9f6b", "mail-1", 4711, "1.2.3", 1_800_000_000.0, "http://mail-1:8080")
OTHER = Node("cfd75a9edd", "mail-2", 4712, "1.2.3", 1_800_000_000.0, "http://mail-2:8080")
THERE = CommonsSnapshot("Redis at cache:6379", "", "", OWN, (OWN, OTHER), 2)


def judged(commons: Any) -> health.Check:
    state = health.State("", "", [], "", commons)
    return health.checks(state)["redis"]


def test_redis_that_is_there_passes():
    check = judged(THERE)

    assert (check.status, check.observed, check.output) == ("pass", "there, 2 nodes", "")


def test_redis_that_is_away_is_a_warning_that_says_what_it_costs():
    check = judged(replace(THERE, reason="it does not answer"))

    assert (check.status, check.observed) == ("warn", "away")
    assert check.output.startswith("away: limits are per node, divided by the live nodes (2)")
    assert check.output.endswith("it does not answer")


def test_redis_that_evicts_is_a_warning():
    check = judged(replace(THERE, eviction="allkeys-lru"))

    assert check.status == "warn"
    assert "maxmemory-policy allkeys-lru" in check.output


def test_a_commons_that_is_silent_or_given_up_never_fails_the_whole():
    assert judged("it did not answer within 2 s").status == "warn"
    assert health._actor("commons", "failed", {}).status == "warn"


@pytest.fixture
async def ask(fragile) -> AsyncIterator[Any]:
    """Ask the first of two nodes over HTTP."""
    first, _ = [await fragile.start() for _ in range(2)]
    await fragile.until(lambda: first.sees(2))
    app = make_app(server._front(first.engine))
    async with TestClient(TestServer(app)) as client:

        async def get(path: str) -> Any:
            async with client.get(path) as response:
                text = await response.text()
                return response.status, await response.json(content_type=None) if (
                    "json" in response.content_type
                ) else text

        get.node = first
        yield get


async def test_health_lists_the_nodes(ask):
    status, document = await ask("/health")

    assert status == 200
    assert document["checks"]["redis"][0]["status"] == "pass"
    assert len(document["nodes"]) == 2
    (own,) = [each for each in document["nodes"] if each["id"] == ask.node.id]
    assert own.keys() == {"id", "host", "pid", "version", "since", "address"}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
        ("http://0.0.0.0:8081/", "http://HOST:8081"),
        ("http://[::]:8081/", "http://HOST:8081"),
        ("http://[::1]:8081/", "http://[::1]:8081"),
    ],
)
async def test_a_node_says_where_it_is_reached(ask, fragile, url, address):
    """The port that it got, and its host where it listens everywhere."""
    nodes = ask.node.engine.nodes
    nodes.listens_at(url)

    async def addresses() -> set[str]:
        return {each["address"] for each in (await ask("/health"))[1]["nodes"]}

    expected = address.replace("HOST", nodes.own.host)
    await fragile.until(lambda: is_in(expected, addresses))


async def is_in(address: str, addresses: Any) -> bool:
    return address in await addresses()


async def test_while_redis_is_away_it_is_ready_and_says_what_is_wrong(ask, fragile, own_redis):
    own_redis.kill()

    async def is_away() -> bool:
        return not await ask.node.is_there()

    await fragile.until(is_away)

    assert (await ask("/readyz"))[0] == 200
    status, document = await ask("/health")
    assert (status, document["status"]) == (200, "warn")
    assert "away: limits are per node" in document["checks"]["redis"][0]["output"]
    assert 'clarion_shared_state_usable{store="redis"} 0.0' in (await ask("/metrics"))[1]
    _, page = await ask("/")
    assert "is away: it cannot be reached" in page
    assert "one warning" in page or "1 warning" in page


async def test_the_pool_is_in_the_metrics(ask):
    _, text = await ask("/metrics")

    assert 'clarion_pool_connections{pool="redis",state="in_use"} ' in text
    assert 'clarion_pool_connections{pool="redis",state="idle"} ' in text
    assert 'clarion_pool_waited_seconds{pool="redis"} 0.0' in text
    assert 'clarion_shared_state_usable{store="redis"} 1.0' in text


async def test_the_page_shows_the_nodes(ask):
    _, page = await ask("/")

    assert '<h2 id="nodes">Nodes</h2>' in page
    assert f'{ask.node.id} <span class="sub">this one</span>' in page


async def test_a_redis_that_hides_what_it_evicts_is_used_all_the_same(fragile, own_redis):
    """Managed ones forbid INFO now and then."""
    own_redis.client().execute_command("ACL", "SETUSER", "default", "-info")

    node = await fragile.start(rate_limit={"per_second": 50.0})
    await node.send(5)

    await fragile.until(lambda: len(node.acme.sends) == 5)
    assert await node.is_there()
