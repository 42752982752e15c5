"""Circuits on a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clarion.domain.notification import Content, Delivery, Job, JobState, Priority
from clarion.policies.breaker import Breaker
from clarion.policies.breaker_settings import BreakerSettings
from clarion.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock) -> Callable[..., Breaker]:
    """Return what makes a breaker of the defaults without jitter, changed by keywords."""

    def build(
        *, rng: Callable[[], float] = lambda: 0.0, on_change: Any = None, **settings: Any
    ) -> Breaker:
        made = BreakerSettings(**{"jitter": 0.0, **settings})
        return Breaker("stripe", made, clock=clock.monotonic, rng=rng, on_change=on_change)

    return build


@pytest.fixture(scope="session")
def make_job() -> Callable[..., Job]:
    """Return what makes a ready job, changed by keywords."""

    def build(id: str = "one", **fields: Any) -> Job:
        values: dict[str, Any] = {
            "channel": "email",
            "content": Content(to="ada@example.com", text="Hello"),
            "priority": Priority.NORMAL,
            "flow": "",
            "vt": 1.0,
            "state": JobState.READY,
            "created_at": 0.0,
            "expires_at": 1e9,
            "delivery": Delivery.AT_LEAST_ONCE,
        }
        return Job(id, **(values | fields))

    return build
