"""Several engines in one process, each with a store of its own, that share a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from clarion.actors.commons_messages import CommonsSnapshot
from clarion.actors.supervisor_messages import ProviderSnapshot
from clarion.app import Engine, Surroundings, running
from clarion.settings import load
from clarion.testing import ScriptedProvider, settings_toml

BREAKER = {
    "failure_threshold": 2, "success_threshold": 1, "timeout": 300.0, "half_open_timeout": 30.0,
    "jitter": 0.0,
}  # fmt: skip
"""Open for longer than any test waits: what happens sooner has another cause."""


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Poll until a plain or async condition is true, and return what it gave."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.005)


class NodeUnderTest:
    """One engine, and its own connection to the provider `acme`."""

    def __init__(self, engine: Engine, acme: ScriptedProvider) -> None:
        self.engine = engine
        self.acme = acme
        self.id = engine.nodes.own.id

    async def commons(self) -> CommonsSnapshot:
        found = await self.engine.service.commons()
        assert found is not None
        return found

    async def provider(self) -> ProviderSnapshot:
        return (await self.engine.service.providers()).providers[0]

    async def circuit(self) -> str:
        return (await self.provider()).circuit.state

    async def is_there(self) -> bool:
        return not (await self.commons()).reason

    async def sees(self, n: int) -> bool:
        return len((await self.commons()).nodes) == n

    async def send(self, n: int) -> None:
        """Accept n notifications."""
        for each in range(n):
            await self.engine.service.send(
                channel="email", to=f"user{each}@example.com", subject="Hi", text="Hello"
            )

    async def sent(self) -> int:
        found = await self.engine.service.stats()
        return found["by_status"].get("sent", 0)


class Deployment:
    """Starts nodes on one Redis."""

    until = staticmethod(until)

    def __init__(self, directory: Path, url: str, prefix: str, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._redis = {"url": url, "prefix": prefix}
        self._stack = stack
        self._numbers = count(1)
        self.nodes: list[NodeUnderTest] = []

    async def start(self, script: Any = (), **acme: Any) -> NodeUnderTest:
        """Start a node, and wait until it has found the Redis."""
        node = await self.start_alone(script, **acme)
        await until(node.is_there)
        return node

    async def start_alone(self, script: Any = (), **acme: Any) -> NodeUnderTest:
        """Start a node that need not find a Redis."""
        home = self._directory / f"node{next(self._numbers)}"
        home.mkdir()
        path = settings_toml(
            home / "settings.toml",
            providers={"acme": {"kind": "outbox", "health_every": 0.0, **acme}},
            channels={"email": ["acme"]},
            breaker=BREAKER,
            retry={"initial_delay": 0.01, "max_delay": 0.05, "max_attempts": 1000},
            redis=self._redis,
        )
        provider = ScriptedProvider(script)
        around = Surroundings(adapters={"acme": lambda: provider}, is_loop_watched=False)
        engine = await self._stack.enter_async_context(running(load(path, env={}), around))
        self.nodes.append(NodeUnderTest(engine, provider))
        return self.nodes[-1]

    def calls(self) -> Sequence[float]:
        """Return when the nodes called the provider, all together, in order."""
        return sorted(sent.at for node in self.nodes for sent in node.acme.sends)


@pytest.fixture
async def deployment(tmp_path, redis_url, redis_prefix) -> AsyncIterator[Deployment]:
    """Nodes on the Redis of all tests, under a prefix of their own."""
    async with AsyncExitStack() as stack:
        yield Deployment(tmp_path, redis_url, redis_prefix, stack)


@pytest.fixture
async def fragile(tmp_path, own_redis) -> AsyncIterator[Deployment]:
    """Nodes on a Redis that the test may do anything to."""
    async with AsyncExitStack() as stack:
        yield Deployment(tmp_path, own_redis.url, "clarion", stack)
