"""Chaos by seed: a route and settings, senders, operators, provider moods, crashes and deaths.

`chaos` plans all of it for one `Simulation`; at `calm_at_s` the world turns well, and from then on
everything accepted has to end within `DRAIN_S` virtual seconds.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from clarion.actors.runtime import Crash
from clarion.domain.instant import rfc3339
from clarion.domain.notification import Delivery, Priority
from clarion.domain.redrive import DeadFilter, RedriveRequest
from clarion.errors import ClarionError, IdempotencyConflict, NotFound
from clarion.service import Service
from clarion.settings import load
from clarion.testing.invariant import reconcile
from clarion.testing.settings_file import settings_toml
from clarion.testing.simulated_provider import HEALTHY, MOODS
from clarion.testing.simulation import Simulation

DRAIN_S = 400.0
"""Virtual seconds in which everything has to end once the world is well."""
PERSISTENCE = 300
"""How often an operator or a sender repeats what found nobody, a second apart."""

_ADDRESS = {"email": "ada@example.com", "sms": "+15005550006", "push": "device-1"}
_PRIORITIES = [each.label for each in Priority]
_DISK_ERRORS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)


@dataclass(frozen=True, slots=True)
class Chaos:
    """How wild a seed is."""

    horizon_s: float = 90.0
    """When the world turns well."""
    notifications: int = 300
    deaths: int = 3
    crashes: int = 25
    moods: int = 16
    steering: int = 8
    disk_failures: int = 2
    cancels: int = 8
    redrives: int = 4
    names: tuple[str, ...] = field(default=("alpha", "beta", "gamma"))


def chaos(seed: int, directory: Path, how: Chaos | None = None) -> Simulation:
    """Return the planned simulation of a seed; `run` it until `ends_at_s`."""
    plan = how or Chaos()
    rng = Random(f"{seed} chaos")  # noqa: S311  # chances, not secrets
    path = _write_settings(rng, directory, plan)
    world = Simulation(seed, load(path, env={}))
    _Plot(world, plan, rng).lay()
    return world


def ends_at_s(how: Chaos | None = None) -> float:
    """Return when a simulation of this wildness is over, in virtual seconds."""
    return (how or Chaos()).horizon_s + DRAIN_S


# --- the house ---------------------------------------------------------------------------------


def _write_settings(rng: Random, directory: Path, how: Chaos) -> Path:
    alpha, beta, gamma = how.names
    retry = {
        "max_attempts": rng.choice([2, 3, 5]),
        "initial_delay": rng.choice([0.2, 1.0]),
        "max_delay": rng.choice([2.0, 20.0]),
    }
    weights = {beta: 70, gamma: rng.choice([0, 30])}
    return settings_toml(
        directory / "settings.toml",
        providers={name: _provider(rng) for name in how.names},
        channels={
            "email": {
                "providers": rng.choice([[alpha, beta], [alpha, beta, gamma]]),
                "spill_after": rng.choice([0.2, 1.0, 5.0]),
            },
            "sms": {"providers": [beta, gamma], "strategy": "weighted", "weights": weights},
            "push": {"providers": [rng.choice(how.names)]},
        },
        retry=retry,
        queue={"max_in_memory": rng.choice([8, 16, 64, 2000])},
        defaults={
            "unknown_grace": rng.choice([0.0, 3.0, 15.0]),
            "expires_after": 36_000.0,
            "delivery": rng.choice(list(Delivery)).value,
        },
    )


def _provider(rng: Random) -> dict[str, Any]:
    timeout = rng.choice([2.0, 5.0])
    return {
        "kind": "outbox",
        "timeout": timeout,
        "health_every": rng.choice([0.0, 10.0]),
        "misconfigured_probe": rng.choice([5.0, 20.0]),
        "bulkhead": {"max_concurrent": rng.choice([1, 2, 4, 8])},
        "breaker": {
            "failure_threshold": rng.choice([1, 3, 5]),
            "success_threshold": rng.choice([1, 2]),
            "timeout": rng.choice([2.0, 10.0, 30.0]),
            "half_open_timeout": timeout + rng.choice([0.0, 5.0]),
            "timeout_max": 40.0,
            "window": rng.choice(["consecutive", "count", "time"]),
            "size": rng.choice([5, 20]),
            "minimum_calls": 4,
            "slow_call": rng.choice([0.0, 1.0]),
        },
        "rate_limit": rng.choice([{}, {}, {"per_second": 10.0, "burst": 3}]),
    }


# --- the plot ----------------------------------------------------------------------------------


class _Plot:
    """Plans one world, with its own chances."""

    def __init__(self, world: Simulation, how: Chaos, rng: Random) -> None:
        self._world = world
        self._how = how
        self._rng = rng
        self._number = 0

    def lay(self) -> None:
        """Plan everything."""
        self._senders()
        for count, plan in (
            (self._how.moods, self._mood),
            (self._how.crashes, self._crash),
            (self._how.deaths, self._death),
            (self._how.steering, self._steer),
            (self._how.disk_failures, self._disk),
            (self._how.cancels, self._cancel),
            (self._how.redrives, self._redrive),
            (10, self._audit),
        ):
            for _ in range(self._rng.randint(0, 2 * count)):
                plan(self._rng.uniform(0.0, self._how.horizon_s))
        self._world.plan(self._how.horizon_s, "all is well", _make_well, is_stubborn=True)

    # --- senders ---------------------------------------------------------------------------

    def _senders(self) -> None:
        left = self._rng.randint(self._how.notifications // 2, self._how.notifications)
        while left > 0:
            n = min(left, self._rng.choice([1, 1, 1, 1, 8, 60]))
            left -= n
            at = self._rng.uniform(0.0, self._how.horizon_s * 0.9)
            items = [self._fields(at) for _ in range(n)]
            if n == 1:
                # Whoever has a key asks again after a death, not knowing what became of it.
                is_stubborn = "idempotency_key" in items[0]
                patience_s = self._rng.choice([0.001, 0.01, 30.0])
                send = partial(_send, item=items[0], patience_s=patience_s)
                self._world.plan(at, "send", send, is_stubborn=is_stubborn)
            else:
                self._world.plan(at, f"batch {n}", partial(_batch, items=items))

    def _fields(self, at: float) -> dict[str, Any]:
        rng = self._rng
        self._number += 1
        channel = rng.choice(list(_ADDRESS))
        fields: dict[str, Any] = {
            "channel": channel,
            "to": _ADDRESS[channel],
            "text": f"number {self._number}",
            "subject": "Hello",
            "priority": rng.choices(_PRIORITIES, [1, 2, 6, 2])[0],
            "delivery": rng.choice(list(Delivery)).value,
            "tenant": rng.choice(["", "a", "b", "c"]) or None,
            "reference": str(self._number),
        }
        wall_at = self._world.wall_now() + at
        if rng.random() < 0.2:
            wall_at += rng.uniform(1.0, 60.0)
            fields["send_at"] = rfc3339(wall_at)
        if rng.random() < 0.2:
            fields["expires_at"] = rfc3339(wall_at + rng.uniform(3.0, 60.0))
        if rng.random() < 0.3:
            fields["idempotency_key"] = f"key {self._number}"
        return {name: value for name, value in fields.items() if value is not None}

    # --- trouble ---------------------------------------------------------------------------

    def _mood(self, at: float) -> None:
        name, rng = self._rng.choice(self._how.names), self._rng
        moods = rng.choices(list(MOODS.values()), k=rng.choice([1, 1, 2]))
        if rng.random() < 0.5:
            moods.append(HEALTHY)
        words = "/".join(mood.name for mood in moods)

        def change(world: Simulation) -> None:
            world.accounts[name].moods = tuple(moods)

        self._world.plan(at, f"{name}: {words}", change)
        if rng.random() < 0.5:
            after = at + rng.uniform(1.0, 40.0)
            self._world.plan(after, f"{name}: well", lambda world: world.accounts[name].calm())

    def _crash(self, at: float) -> None:
        names = [
            "supervisor", "journal", "redrive",
            *(f"queue:{channel}" for channel in _ADDRESS),
            *(f"{kind}:{name}" for kind in ("breaker", "provider") for name in self._how.names),
        ]  # fmt: skip
        name = self._rng.choice(names)
        often = self._rng.choices([1, 3, 15], [30, 5, 1])[0]
        for number in range(often):
            self._world.plan(at + number * 0.02, f"crash {name}", lambda world: _crash(world, name))

    def _death(self, at: float) -> None:
        where = self._rng.choice(["before a commit", "after a commit", "anywhere", "SIGTERM"])
        if where == "SIGTERM":
            self._world.plan(at, where, lambda world: world.stop())
        elif where == "anywhere":
            self._world.plan(at, "kill", lambda world: world.kill())
        else:
            self._world.plan(at, f"kill {where}", lambda world: world.kill_at(where))

    def _disk(self, at: float) -> None:
        code = self._rng.choice(_DISK_ERRORS)

        def fail(world: Simulation) -> None:
            world.disk.error_code = code

        def mend(world: Simulation) -> None:
            world.disk.error_code = None

        self._world.plan(at, "disk fails", fail)
        self._world.plan(at + self._rng.uniform(0.01, 15.0), "disk works", mend)

    def _steer(self, at: float) -> None:
        channel, name = self._rng.choice(list(_ADDRESS)), self._rng.choice(self._how.names)
        action = self._rng.choice(["open", "close", "reset"])
        words, act = self._rng.choice([
            (f"pause {channel}", lambda service: service.pause(channel)),
            (f"resume {channel}", lambda service: service.resume(channel)),
            (f"disable {name}", lambda service: service.set_provider(name, is_enabled=False)),
            (f"enable {name}", lambda service: service.set_provider(name, is_enabled=True)),
            (f"{action} {name}", lambda service: service.set_breaker(name, action)),
        ])  # fmt: skip

        async def steer(world: Simulation) -> None:
            world.forget(words)
            world.wish(words)
            if words == f"{action} {name}":
                world.steered.add(name)
            if "reset" in words:
                world.accounts[name].forget_silence()
            if await _try(world, act):
                world.grant(words)

        self._world.plan(at, words, steer)

    def _cancel(self, at: float) -> None:
        back = self._rng.randint(1, 30)

        async def cancel(world: Simulation) -> None:
            # One of the latest: it is likely to be out, or to wait.
            ids = list(world.promised)[-back:]
            if ids:
                id = ids[0]
                if await _try(world, lambda service: service.cancel(id)):
                    world.grant(f"cancel {id}")

        self._world.plan(at, "cancel", cancel)

    def _redrive(self, at: float) -> None:
        rng = self._rng
        reason = rng.choice([None, None, "recipient", "exhausted"])
        request = RedriveRequest(DeadFilter(reason=reason), rng.choice([1.0, 10.0, 500.0]))
        is_regretted = rng.random() < 0.2

        async def redrive(world: Simulation) -> None:
            begun = await _try(world, lambda service: service.aftermath.redrive(request))
            if begun and is_regretted:
                await asyncio.sleep(3.0)
                await _try(world, _cancel_last)

        self._world.plan(at, "redrive", redrive)

    def _audit(self, at: float) -> None:
        self._world.plan(at, "audit", reconcile)


# --- what people do ----------------------------------------------------------------------------


async def _try(world: Simulation, ask: Callable[[Service], Awaitable[Any]]) -> bool:
    """Ask once; whether it was answered with a yes."""
    if world.engine is None:
        return False
    try:
        await ask(world.engine.service)
    except ClarionError as error:
        world.note(f"refused: {type(error).__name__}")
        return False
    return True


async def _cancel_last(service: Service) -> None:
    found = await service.aftermath.redrives()
    if found:
        await service.aftermath.cancel(found[0].id)


async def _insist(world: Simulation, ask: Callable[[Service], Awaitable[Any]]) -> None:
    for _ in range(PERSISTENCE):
        if await _try(world, ask):
            return
        await asyncio.sleep(1.0)
    world.accuse("an operator's wish was refused for too long")


async def _send(world: Simulation, item: Mapping[str, Any], patience_s: float) -> None:
    """Send one; who has a key may give up waiting for the answer, and asks again with it."""
    fields = dict(item)
    key = fields.pop("idempotency_key", None)

    async def submit(service: Service) -> None:
        async with asyncio.timeout(patience_s if key else None):
            made = await service.submit(fields, idempotency_key=key)
        world.promise(made.id, item)

    for _ in range(1 if key is None else 5):
        with suppress(TimeoutError):
            if await _try(world, submit):
                return
        await asyncio.sleep(3.0)
        patience_s = 30.0


async def _batch(world: Simulation, items: list[dict[str, Any]]) -> None:
    if world.engine is None:
        return
    found = await world.engine.service.submit_many(items)
    for item, made in zip(items, found, strict=True):
        if isinstance(made, (IdempotencyConflict, NotFound)):
            world.accuse(f"a sound item was refused: {made}")
        elif not isinstance(made, ClarionError):
            world.promise(made.id, item)


def _crash(world: Simulation, name: str) -> None:
    if world.engine is None:
        return
    world.forget(f"crash of {name}")
    world.engine.service.ref(name).tell(Crash("chaos"))


async def _make_well(world: Simulation) -> None:
    world.disk.error_code = None
    world.forget_kill()
    for account in world.accounts.values():
        account.calm()
    for name in world.accounts:
        world.wish(f"enable {name}")
        await _insist(world, partial(Service.set_provider, name=name, is_enabled=True))
    # What no operator has moved recovers by itself.
    for name in sorted(world.steered):
        world.accounts[name].forget_silence()
        world.forget("reset")
        await _insist(world, partial(Service.set_breaker, name=name, action="reset"))
    for channel in world.settings.channels:
        world.wish(f"resume {channel}")
        await _insist(world, partial(Service.resume, channel=channel))
