"""Clarion itself on a trace: the real engine, with its default settings, in virtual time."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.resilience.story import Call, Message, Story
from benchmarks.resilience.trace import GOOD, PROVIDERS, SICK, Trace
from clarion.settings import load
from clarion.testing.settings_file import settings_toml
from clarion.testing.simulation import EPOCH_AT, Simulation

DRAIN_S = 120.0
"""What came last has its time to arrive."""
_ITEM = {"channel": "sms", "to": "+15005550006", "text": "Your code is 123 456"}


def run(trace: Trace) -> Story:
    """Go through a trace."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        world = _world(Path(name), trace)
        world.run(trace.end_s + DRAIN_S)
        assert not world.violations, world.violations
        return _story(world)


def _world(directory: Path, trace: Trace) -> Simulation:
    path = settings_toml(
        directory / "settings.toml",
        providers={name: {"kind": "outbox"} for name in PROVIDERS},
        channels={
            "sms": {
                "providers": list(PROVIDERS),
                "strategy": "weighted",
                "weights": dict.fromkeys(PROVIDERS, 50),
            }
        },
    )
    world = Simulation(trace.seed, load(path, env={}))
    for account in world.accounts.values():
        account.moods = (GOOD,)
    for at in (trace.onset_s, trace.recovery_s):
        world.plan(at, "the mood changes", partial(_change, trace=trace, at=at))
    for at in trace.arrivals():
        world.plan(at, "send", _send)
    return world


def _change(world: Simulation, trace: Trace, at: float) -> None:
    world.accounts[SICK].moods = trace.moods(at)


async def _send(world: Simulation) -> None:
    assert world.engine is not None, "the process never dies here"
    await world.engine.service.submit(dict(_ITEM))


def _story(world: Simulation) -> Story:
    with closing(sqlite3.connect(world.path)) as connection:
        calls = connection.execute(
            "SELECT started_at, provider, outcome = 'accepted' FROM provider_calls ORDER BY 1"
        ).fetchall()
        messages = connection.execute(
            "SELECT created_at, CASE status WHEN 'sent' THEN updated_at END FROM notifications"
        ).fetchall()
    return Story(
        [Call(at - EPOCH_AT, provider, bool(is_accepted)) for at, provider, is_accepted in calls],
        [
            Message(created_at - EPOCH_AT, None if sent_at is None else sent_at - EPOCH_AT)
            for created_at, sent_at in messages
        ],
    )
