"""What one node finds out about a provider, the others act on; and each goes on by itself."""

from __future__ import annotations

import pytest

from clarion.actors.messages import Snapshot
from clarion.domain.outcome import Answer, Outcome

FAILED = Answer(Outcome.TRANSIENT, "http_503", "it is down", surely_not_accepted=True)
THROTTLED = Answer(
    Outcome.THROTTLED, "http_429", "slow down", retry_after_s=25.0, surely_not_accepted=True
)
TAKEN = Answer(Outcome.ACCEPTED, "accepted", "taken")


def is_circuit(node, state):
    async def check():
        return await node.circuit() == state

    return check


async def test_a_circuit_that_opened_at_one_node_is_open_at_the_others(deployment):
    """And says whose news it was; not a single call goes out to find it out again."""
    a, b, c = [await deployment.start(lambda _: FAILED) for _ in range(3)]

    await a.send(1)
    await deployment.until(is_circuit(b, "open"))
    await deployment.until(is_circuit(c, "open"))
    await b.send(5)

    there = await b.provider()
    assert there.circuit.opened_by == a.id
    assert f"opened by node {a.id}" in there.reason
    assert 200.0 < there.retry_after_s <= 300.0
    assert (await a.provider()).circuit.opened_by == ""
    assert not b.acme.sends
    assert not c.acme.sends


async def test_a_node_that_starts_later_hears_of_it_too(deployment):
    a = await deployment.start(lambda _: FAILED)
    await a.send(1)
    await deployment.until(is_circuit(a, "open"))

    late = await deployment.start(lambda _: TAKEN)

    await deployment.until(is_circuit(late, "open"))
    assert (await late.provider()).circuit.opened_by == a.id


async def test_a_node_probes_by_itself_when_the_time_is_over(deployment):
    """Each by its own connection: what one cannot reach another may."""
    breaker = {"failure_threshold": 2, "success_threshold": 1, "timeout": 0.5, "jitter": 0.0}
    a = await deployment.start(lambda _: FAILED, breaker=breaker)
    b = await deployment.start(lambda _: TAKEN, breaker=breaker)

    await a.send(1)
    await deployment.until(is_circuit(b, "open"))
    await b.send(1)
    await deployment.until(b.sent)
    failed = len(a.acme.sends)
    await deployment.until(lambda: len(a.acme.sends) >= failed + 2)

    await b.commons()
    assert await b.circuit() == "closed"  # Though A goes on to say that it is down.


async def test_a_probe_that_closes_a_circuit_lets_the_others_probe_at_once(deployment):
    """Five minutes early."""
    a, b = [await deployment.start(lambda _: FAILED) for _ in range(2)]
    await b.send(1)
    await deployment.until(is_circuit(a, "open"))
    await a.send(1)
    for node in (a, b):
        node.acme.play(lambda _: TAKEN)

    await a.engine.service.set_breaker("acme", "reset")

    await deployment.until(a.sent)
    await deployment.until(b.sent)
    await deployment.until(is_circuit(b, "closed"))


@pytest.mark.parametrize(("action", "state"), [("open", "forced_open"), ("close", "disabled")])
async def test_what_an_operator_decided_is_not_overruled(deployment, action, state):
    a, b, c = [await deployment.start(lambda _: FAILED) for _ in range(3)]
    await b.engine.service.set_breaker("acme", action)
    await deployment.until(is_circuit(b, state))

    await a.send(1)
    await deployment.until(is_circuit(c, "open"))
    await b.engine.runtime.ref("commons").ask(Snapshot())
    await a.engine.service.set_breaker("acme", "reset")
    await deployment.until(lambda: len(c.acme.sends) == 0)

    assert await b.circuit() == state


async def test_forced_states_stay_at_their_node(deployment):
    """They are told by the store, where they outlive everything; this is for news alone."""
    a, b = [await deployment.start(lambda _: TAKEN) for _ in range(2)]

    await a.engine.service.set_breaker("acme", "open")
    await deployment.until(is_circuit(a, "forced_open"))
    await b.send(1)

    await deployment.until(b.sent)
    assert await b.circuit() == "closed"


async def test_a_pause_that_a_provider_asked_of_one_is_kept_by_all(deployment):
    a = await deployment.start(lambda _: THROTTLED)
    b = await deployment.start(lambda _: TAKEN)

    await a.send(1)

    async def is_throttled():
        return (await b.provider()).state == "throttled"

    await deployment.until(is_throttled)
    assert 20.0 < (await b.provider()).retry_after_s <= 25.0
    assert await b.circuit() == "closed"


async def test_news_that_could_not_be_told_are_told_when_that_is_possible(fragile, own_redis):
    a, b = [await fragile.start(lambda _: FAILED) for _ in range(2)]
    own_redis.kill()

    await a.send(1)
    await fragile.until(is_circuit(a, "open"))
    assert await b.circuit() == "closed"
    own_redis.start()

    await fragile.until(is_circuit(b, "open"))
    assert (await b.provider()).circuit.opened_by == a.id


async def test_without_redis_each_node_decides_for_itself(fragile, own_redis):
    a, b = [await fragile.start(lambda _: FAILED) for _ in range(2)]
    own_redis.kill()

    for node in (a, b):
        await node.send(1)

    for node in (a, b):
        await fragile.until(is_circuit(node, "open"))
        assert (await node.provider()).circuit.opened_by == ""


async def test_news_come_by_the_heartbeat_where_the_line_is_dead(fragile, own_redis, monkeypatch):
    """Polling is the net below pub/sub."""
    from clarion.storage.redis_state import RedisState

    async def never(*_args):
        raise ValueError("no line")

    monkeypatch.setattr(RedisState, "listen", never)
    a, b = [await fragile.start(lambda _: FAILED) for _ in range(2)]

    await a.send(1)

    await fragile.until(is_circuit(b, "open"))


async def test_a_circuit_is_not_told_again_by_those_that_heard_of_it(deployment):
    """Or news would go round for ever, each time with a later end."""
    a, b = [await deployment.start(lambda _: FAILED) for _ in range(2)]
    await a.send(1)
    await deployment.until(is_circuit(b, "open"))
    await a.engine.runtime.ref("commons").ask(Snapshot())

    late = await deployment.start()
    await deployment.until(is_circuit(late, "open"))

    assert (await late.provider()).circuit.opened_by == a.id
