"""Three nodes share a PostgreSQL server: nodes die, stand still and leave, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal

import psycopg
import pytest

from clarion.testing.load import Load

pytestmark = pytest.mark.timeout(300)

SLOTS = 8
PATIENCE_S = 60.0
LEASE_S = 6.0
NODES = ("one", "two", "three")


@pytest.fixture
async def provider(house):
    """A provider that takes a little while, and the route to it."""
    provider = await house.sendgrid()
    provider.latency_s = 0.02
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS})}, {"email": ["only"]}
    )
    return provider


def as_node(server, name):
    """Return the environment of a node."""
    return {
        "CLARION_STORAGE__URL": server.get_uri(),
        "CLARION_STORAGE__NODE": name,
        "CLARION_QUEUE__LEASE": str(LEASE_S),
    }


@pytest.fixture
async def nodes(house, provider, own_postgresql):
    """Three nodes that work."""
    return [await house.start(env=as_node(own_postgresql, name)) for name in NODES]


@pytest.fixture
def admin(own_postgresql):
    """A session of somebody who may do anything."""
    with psycopg.connect(own_postgresql.get_uri(), autocommit=True) as connection:
        yield connection


async def marked(client, ids):
    """Return those of the ids that say that they may have been delivered twice."""
    return {id_ for id_ in ids if (await client.get(id_))["possibly_duplicated"]}


async def check_books(house, client, provider, loads, n_in_flight):
    """Everything that was answered with 202 was delivered; what came twice is marked."""
    accepted = set()
    for load in loads:
        await load.stop()
        accepted |= set(load.accepted)
    stats = await client.wait_drained(PATIENCE_S)
    assert accepted <= set(provider.deliveries)
    assert house.ended(stats) == {"sent": stats["accepted"]}
    doubled = set(provider.duplicates())
    assert len(doubled) <= n_in_flight
    assert doubled <= await marked(client, doubled)


async def test_each_node_accepts_and_delivers(house, provider, nodes, admin):
    """Any of them answers for all; each is listed, and has a share of the counts."""
    loads = [Load(node.url, house.email) for node in nodes]
    await house.until(lambda: all(len(load.accepted) > 100 for load in loads), PATIENCE_S)

    await check_books(house, nodes[2].client, provider, loads, 0)

    shares = admin.execute("SELECT node, sum(n) FROM counts WHERE status = 'sent' GROUP BY node")
    assert set(dict(shares.fetchall())) == set(NODES)


async def test_a_backlog_is_worked_off_by_all(house, provider, nodes, admin):
    """What one node has no room for, the others take."""
    await house.send_all(nodes[0].client, [house.email(n) for n in range(4000)])

    await check_books(house, nodes[0].client, provider, [], 0)

    shares = admin.execute("SELECT node, sum(n) FROM counts WHERE status = 'sent' GROUP BY node")
    assert all(n > 200 for n in dict(shares.fetchall()).values())


async def test_a_node_that_is_killed_is_recovered(house, provider, nodes):
    """The others take over what it had, and mark what may be out twice."""
    loads = [Load(node.url, house.email) for node in nodes]
    await house.until(lambda: all(len(load.accepted) > 100 for load in loads), PATIENCE_S)

    await nodes[0].kill()

    n = len(loads[1].accepted)
    await house.until(lambda: len(loads[1].accepted) > n + 100, PATIENCE_S)
    await check_books(house, nodes[1].client, provider, loads, 2 * SLOTS)


async def test_a_node_that_stood_still_is_fenced(house, provider, nodes):
    """Whoever was given up writes nothing any more, and sends nothing; it ends."""
    loads = [Load(node.url, house.email) for node in nodes]
    await house.until(lambda: all(len(load.accepted) > 100 for load in loads), PATIENCE_S)

    nodes[0].signal(signal.SIGSTOP)
    await house.until(lambda: "node_given_up" in nodes[1].log + nodes[2].log, PATIENCE_S)
    nodes[0].signal(signal.SIGCONT)

    assert await nodes[0].wait_death(PATIENCE_S) == 1
    await check_books(house, nodes[1].client, provider, loads, 2 * SLOTS)


async def test_a_node_that_is_stopped_leaves_its_work_at_once(house, provider, nodes, admin):
    """Nobody has to miss it first."""
    loads = [Load(node.url, house.email) for node in nodes]
    await house.until(lambda: all(len(load.accepted) > 100 for load in loads), PATIENCE_S)

    nodes[0].signal(signal.SIGTERM)
    assert await nodes[0].wait_death(PATIENCE_S) == 0

    assert admin.execute("SELECT count(*) FROM nodes WHERE node = 'one'").fetchone() == (0,)
    assert admin.execute("SELECT count(*) FROM jobs WHERE node = 'one'").fetchone() == (0,)
    await check_books(house, nodes[1].client, provider, loads, 0)
    assert "node_given_up" not in nodes[1].log + nodes[2].log


async def test_what_one_node_is_told_all_follow(house, provider, nodes):
    """A lane is paused everywhere, a provider disabled everywhere."""
    await nodes[0].client.request("POST", "/v1/queues/email/pause")
    for node in nodes:
        await house.until(lambda node=node: is_paused(node), PATIENCE_S)
    await house.send_all(nodes[1].client, [house.email(1)])
    await asyncio.sleep(0.5)
    assert not provider.deliveries

    await nodes[2].client.request("POST", "/v1/queues/email/resume")
    await nodes[1].client.wait_drained(PATIENCE_S)


async def is_paused(node):
    answer = await node.client.request("GET", "/v1/queues")
    return answer.body["items"][0]["paused"]


async def test_a_cancel_at_another_node_is_followed(house, provider, nodes):
    """The row decides, whichever node has the job."""
    await nodes[0].client.request("POST", "/v1/queues/email/pause")
    await house.until(lambda: is_paused(nodes[1]), PATIENCE_S)
    [id_] = await house.send_all(nodes[0].client, [house.email(1)])

    answer = await nodes[1].client.request("POST", f"/v1/notifications/{id_}/cancel")

    assert answer.status == 200, answer.body
    await nodes[0].client.request("POST", "/v1/queues/email/resume")
    stats = await nodes[2].client.wait_drained(PATIENCE_S)
    assert house.ended(stats) == {"cancelled": 1}
    assert not provider.deliveries
