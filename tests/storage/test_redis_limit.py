"""A limit that nodes share, over a real server whose clock the test moves: it is never exceeded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clarion.policies.grant import (
    HORIZON_S,
    LATENESS_S,
    QUIET_S,
    Grant,
    GrantedBucket,
    Limit,
    spread,
)
from clarion.policies.presence import GONE_S, alone_from
from clarion.storage.redis_script import Script
from clarion.storage.redis_state import RedisState
from clarion.storage.shared_state import Places

EPOCH = 1_800_000_000.0


def now_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that waits for nobody."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


class World:
    """A server under a clock of our own, which it also asks inside of scripts."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.now = EPOCH
        self.shared = RedisState(self, prefix)  # type: ignore[arg-type]  # a pool for tests

    async def run_script(self, script: Script, keys: Sequence[str], values: Sequence[Any]) -> Any:
        seconds, micro = divmod(round(self.now * 1e6), 1_000_000)
        text = script.text.replace("redis.call('TIME')", f"{{{seconds}, {micro}}}")
        return self.client.eval(text, len(keys), *keys, *values)

    def take(self, node: str, limit: Limit, n: int, *, ahead_s=0.0, is_drained=False) -> Places:
        return now_of(
            self.shared.take("acme", limit, node, n, ahead_s=ahead_s, is_drained=is_drained)
        )

    def age(self) -> None:
        """Let the server have lived for long: its bucket is full."""
        self.take("nobody", Limit(1.0, 1), 1)
        self.client.delete(f"{{{self.prefix}}}:limit:acme")
        self.now += 3600.0

    def flush(self) -> None:
        """Make it forget what it knows of us, as a FLUSHALL or a restart without a log does."""
        for key in self.client.scan_iter(f"{{{self.prefix}}}:*"):
            self.client.delete(key)


@pytest.fixture
def world(redis_url, redis_prefix) -> Iterator[World]:
    with redis.Redis.from_url(redis_url) as client:
        world = World(client, redis_prefix)
        world.age()
        yield world


def instants(places: Places, limit: Limit, ahead_s: float = 0.0) -> list[float]:
    return spread(places.first, places.n, limit.gap_s, places.shown + ahead_s)


def too_many(calls: Sequence[float], per_second: float, burst: float) -> str:
    """Say in which window there were more calls than the limit admits; "" for none."""
    times = sorted(calls)
    # Against each start, the worst end is where (calls - rate * time) is greatest.
    least = float("inf")
    for n, at in enumerate(times):
        least = min(least, n - per_second * at)
        if n + 1 - per_second * at - least > burst + 1e-3:
            return f"{n + 1} calls until {at - EPOCH:.3f}: {[round(t - EPOCH, 3) for t in times]}"
    return ""


# --- the schedule ------------------------------------------------------------------------------


def test_a_full_bucket_gives_its_burst_at_once_less_what_lateness_takes(world):
    limit = Limit(10.0, 5)

    found = instants(world.take("a", limit, 8), limit)

    assert found.count(world.now) == 4
    assert found == sorted(found)
    assert not too_many([at + LATENESS_S * (n < 5) for n, at in enumerate(found)], 10.0, 5)


def test_places_of_several_nodes_lie_on_one_schedule(world):
    limit = Limit(10.0, 2)

    found = [
        at for node in ("a", "b", "a", "b") for at in instants(world.take(node, limit, 2), limit)
    ]

    assert len(found) == len(set(found)) == 8
    assert not too_many(found, 10.0, 2)


def test_nothing_is_given_further_ahead_than_the_horizon(world):
    limit, given_by = Limit(100.0, 1), []

    while (places := world.take("a", limit, 30)).n:
        given_by.append(places.first - world.now)

    assert len(given_by) == 4
    assert max(given_by) <= HORIZON_S
    assert places.first > world.now


def test_who_asks_again_when_it_was_told_to_is_given_some(world):
    limit = Limit(0.1, 1)
    world.take("a", limit, 1)
    refused = world.take("b", limit, 1)

    world.now = refused.first

    assert refused.n == 0
    assert world.take("b", limit, 1).n == 1


def test_the_same_node_goes_on_without_a_guard_and_another_has_one(world):
    limit = Limit(10.0, 1)
    first = instants(world.take("a", limit, 3), limit)

    second = instants(world.take("a", limit, 3), limit)
    third = instants(world.take("b", limit, 3), limit)

    assert second[0] - first[-1] == pytest.approx(0.1, abs=1e-4)
    assert third[0] - second[-1] == pytest.approx(0.1 + LATENESS_S, abs=1e-4)


def test_who_asks_ahead_is_given_nothing_before(world):
    limit = Limit(100.0, 1)

    found = instants(world.take("a", limit, 3, ahead_s=0.2), limit, 0.2)

    assert found == pytest.approx([world.now + 0.2 + k / 100 for k in range(3)], abs=1e-4)


@pytest.mark.parametrize(
    "garbage", ["", "x", "12", "NaN a", "-5 a", "99999999999999999999 a", "1e99 a", "\x00\xff a"]
)
def test_garbage_in_the_place_of_a_schedule_costs_a_pause_at_most(world, garbage):
    limit = Limit(10.0, 1)
    world.client.set(f"{{{world.prefix}}}:limit:acme", garbage)

    world.take("a", limit, 1)
    world.now += QUIET_S + 1.0

    assert world.take("a", limit, 1).n == 1


def test_a_clock_that_was_set_back_costs_a_pause_at_most(world):
    limit = Limit(10.0, 1)
    world.take("a", limit, 1)

    world.now -= 7200.0
    world.take("a", limit, 1)
    world.now += QUIET_S + 1.0

    assert world.take("a", limit, 1).n == 1


def test_a_schedule_that_nobody_needs_is_gone(world):
    limit = Limit(10.0, 3)
    world.take("a", limit, 3)

    left_ms = world.client.pttl(f"{{{world.prefix}}}:limit:acme")

    assert 0 < left_ms < 2000


def test_after_another_life_of_the_server_the_bucket_is_empty(own_redis):
    """A restart from an old log: it has the schedule of then, and gives nothing on top."""
    limit = Limit(1.0, 3)
    world = World(own_redis.client(), "clarion")
    world.age()
    before = instants(world.take("a", limit, 3), limit)
    world.client.set("{clarion}:limit:acme", f"{world.now * 1e6 - 60e6:.0f} a")

    own_redis.kill()
    own_redis.start()
    world.client = own_redis.client()
    world.now += 0.5
    refused = world.take("a", limit, 1)
    world.now = refused.first
    after = instants(world.take("a", limit, 3), limit)

    assert refused.n == 0
    assert not too_many([*before, *after], 1.0, 3)


# --- several nodes, at their worst -------------------------------------------------------------


class SimulatedNode:
    """Asks and calls as the engine does, as late as it may."""

    def __init__(self, name: str, world: World, limit: Limit, nodes: int) -> None:
        self.name = name
        self._world = world
        self._limit = limit
        self._nodes = nodes
        self.bucket = GrantedBucket(limit, lambda: world.now)
        self.beat_at = world.now
        self.is_cut_off = False

    def act(self, here: int, chance: random.Random, calls: list[float]) -> None:
        """Ask if it would, and make the calls that it may, or leave them for later."""
        now = self._world.now
        if not self.is_cut_off:
            self.bucket.rejoin(now)
            self.beat_at = now
        elif now - self.beat_at >= GONE_S:
            self.bucket.go_alone(self._nodes, alone_from(self.beat_at))
        wanted = self.bucket.asks_for(now)
        if wanted and not self.is_cut_off:
            self._ask(wanted, here / self._nodes, chance)
        n = self.bucket.available(now)
        if n and chance.random() < 0.6:
            self.bucket.take(n, now)
            unused = chance.randint(0, n)
            self.bucket.give_back(unused)
            calls += [now] * (n - unused)

    def _ask(self, n: int, share: float, chance: random.Random) -> None:
        limit = self._limit.part(share)
        n = min(n, limit.most(round(share * self._nodes)))
        ahead_s = chance.choice([0.0, 0.0, 0.1])
        places = self._world.take(
            self.name, limit, n, ahead_s=ahead_s, is_drained=self.bucket.has_used_unseen
        )
        self.bucket.give(
            Grant(instants(places, limit, ahead_s), share=share)
            if places.n
            else Grant(again_at=places.first, share=share),
            self._world.now,
        )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32),
    per_second=st.sampled_from([0.5, 2.0, 10.0, 40.0, 150.0]),
    burst=st.integers(1, 30),
    n_nodes=st.integers(1, 4),
    flushed=st.sets(st.integers(0, 600), max_size=2),
)
def test_no_window_has_more_calls_than_the_limit_admits(
    world, seed, per_second, burst, n_nodes, flushed
):
    """Nodes that ask and call when they like, late, with a server that forgets all at times."""
    world.flush()
    world.age()
    chance, limit = random.Random(seed), Limit(per_second, burst)
    nodes = [SimulatedNode(f"n{k}", world, limit, n_nodes) for k in range(n_nodes)]
    calls: list[float] = []

    for step in range(600):
        world.now += chance.choice([0.0005, 0.003, 0.01, 0.05])
        if step in flushed:
            world.flush()
        chance.choice(nodes).act(n_nodes, chance, calls)

    assert not too_many(calls, per_second, burst)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32),
    per_second=st.sampled_from([2.0, 10.0, 40.0]),
    burst=st.integers(4, 12),
    cut_off=st.sets(st.integers(0, 2), min_size=1),
)
def test_nodes_that_are_cut_off_and_come_back_stay_within_the_limit(
    world, seed, per_second, burst, cut_off
):
    """Some of three, or all: they stand still, go on at their part, and come back."""
    world.flush()
    world.age()
    chance, limit = random.Random(seed), Limit(per_second, burst)
    nodes = [SimulatedNode(f"n{k}", world, limit, 3) for k in range(3)]
    calls: list[float] = []
    began = world.now

    for _ in range(1500):
        world.now += chance.choice([0.002, 0.01, 0.03])
        for n, node in enumerate(nodes):
            node.is_cut_off = n in cut_off and began + 2.0 < world.now < began + 14.0
            if not node.is_cut_off:
                node.bucket.rejoin(world.now)
        here = sum(world.now - node.beat_at < GONE_S for node in nodes)
        for node in nodes:
            node.act(max(1, here), chance, calls)

    assert not too_many(calls, per_second, burst)


@pytest.mark.parametrize(("burst", "least"), [(1, 0.75), (20, 0.95)])
def test_what_the_limit_admits_is_used(world, burst, least):
    """Three nodes with work enough, none late: a limit kept by standing still would be no use."""
    limit, calls = Limit(50.0, burst), []
    nodes = [SimulatedNode(f"n{k}", world, limit, 3) for k in range(3)]
    began = world.now

    for _ in range(10_000):
        world.now += 0.001
        for node in nodes:
            wanted = node.bucket.asks_for(world.now)
            if wanted:
                node._ask(wanted, 1.0, random.Random(0))
            n = node.bucket.available(world.now)
            node.bucket.take(n, world.now)
            calls += [world.now] * n

    assert not too_many(calls, 50.0, burst)
    assert len(calls) >= least * 50.0 * (world.now - began)
    by_node = [sum(1 for _ in group) for _, group in itertools.groupby(calls)]
    assert max(by_node) <= burst
