"""A simulated world over settings that a test writes, driven step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from clarion.settings import load
from clarion.testing import settings_toml
from clarion.testing.simulation import Simulation

ADDRESS = {"email": "ada@example.com", "sms": "+15005550006"}

BuildWorld = Callable[..., Simulation]


@pytest.fixture(scope="session")
def build_world(tmp_path_factory: pytest.TempPathFactory) -> BuildWorld:
    """Return what makes a world of simulated providers and the routes over them."""

    def build(
        providers: Mapping[str, Mapping[str, Any]],
        channels: Mapping[str, Any],
        seed: int = 1,
        **sections: Any,
    ) -> Simulation:
        path = settings_toml(
            tmp_path_factory.mktemp("world") / "settings.toml",
            providers={name: {"kind": "outbox", **table} for name, table in providers.items()},
            channels=channels,
            **sections,
        )
        return Simulation(seed, load(path, env={}))

    return build


@pytest.fixture(scope="session")
def send() -> Callable[..., None]:
    """Return what lets somebody send `n` notifications in one batch at an instant."""

    def plan(world: Simulation, at: float, n: int = 1, channel: str = "email", **more: Any) -> None:
        item = {"channel": channel, "to": ADDRESS[channel], "subject": "Hi", "text": "Hello"}

        async def submit(world: Simulation) -> None:
            assert world.engine is not None
            found = await world.engine.service.submit_many([item | more for _ in range(n)])
            for each in found:
                world.promise(each.id, item | more)

        world.plan(at, f"send {n}", submit)

    return plan
