"""What people, providers, disks and clocks do to a simulated service: one function a kind of deed.

The details of a deed are plain JSON, so that a story can be written down. Whoever finds nobody at
home notes it and goes away, unless the deed says that they come again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from clarion.actors.runtime import Crash
from clarion.domain.notification import Status
from clarion.domain.redrive import DeadFilter, RedriveRequest
from clarion.errors import ClarionError, IdempotencyConflict, NotFound
from clarion.service import Service, Submission
from clarion.testing.invariant import has_running_redrive, look, reconcile
from clarion.testing.simulated_provider import MOODS
from clarion.testing.simulation import Simulation

Details = Mapping[str, Any]
Deeds = Mapping[str, Callable[[Simulation, Details], Coroutine[Any, Any, None] | None]]

PERSISTENCE = 300
"""How often an operator repeats what found nobody, a second apart."""
_SENT_AGAIN_EVERY_S = 3.0
_TRIES_WITH_KEY = 5
_PATIENCE_S = 30.0
_LOOKS_EVERY_S = 5.0
_TURNS = ("open", "close", "reset")
_DISK_ERRORS = {
    "full": sqlite3.SQLITE_FULL,
    "i/o": sqlite3.SQLITE_IOERR,
    "busy": sqlite3.SQLITE_BUSY,
}


def perform(world: Simulation, *, kind: str, details: Details) -> Coroutine[Any, Any, None] | None:
    """Do one deed."""
    return DEEDS[kind](world, details)


# --- senders -----------------------------------------------------------------------------------


async def _send(world: Simulation, details: Details) -> None:
    """Send one; who has a key may give up waiting for the answer, and asks again with it."""
    item = details["item"]
    fields = dict(item)
    key = fields.pop("idempotency_key", None)
    patience_s = details["patience_s"]

    async def submit(service: Service) -> None:
        async with asyncio.timeout(patience_s if key else None):
            made = await service.submit(fields, idempotency_key=key)
        _keep(world, item, made)

    for _ in range(1 if key is None else _TRIES_WITH_KEY):
        with suppress(TimeoutError):
            if await _try(world, submit):
                return
        patience_s = _PATIENCE_S
        await asyncio.sleep(_SENT_AGAIN_EVERY_S)


async def _batch(world: Simulation, details: Details) -> None:
    """Send many at once."""
    if world.engine is None:
        return
    items = details["items"]
    found = await world.engine.service.submit_many(items)
    for item, made in zip(items, found, strict=True):
        if isinstance(made, (IdempotencyConflict, NotFound)):
            world.accuse(f"a sound item was refused: {made}")
        elif not isinstance(made, ClarionError):
            _keep(world, item, made)


def _keep(world: Simulation, item: Details, made: Submission) -> None:
    key = item.get("idempotency_key")
    if key is not None and world.keys.setdefault(key, made.id) != made.id:
        world.accuse(f"the key {key!r} was answered with {world.keys[key]}, now with {made.id}")
    world.promise(made.id, item)


async def _cancel(world: Simulation, details: Details) -> None:
    # One of the latest: it is likely to be out, or to wait.
    ids = list(world.promised)[-details["back"] :]
    if ids and await _try(world, lambda service: service.cancel(ids[0])):
        world.grant(f"cancel {ids[0]}")


# --- operators ---------------------------------------------------------------------------------


async def _steer(world: Simulation, details: Details) -> None:
    """Pause or resume a lane, disable or enable a provider, turn a breaker."""
    what, name = details["what"], details["name"]

    def act(service: Service) -> Awaitable[None]:
        match what:
            case "pause":
                return service.pause(name)
            case "resume":
                return service.resume(name)
            case "disable" | "enable":
                return service.set_provider(name, is_enabled=what == "enable")
            case _:
                return service.set_breaker(name, what)

    words = f"{what} {name}"
    world.wish(words)
    if what in _TURNS:
        world.steered.add(name)
        world.accounts[name].contract.operator_steers()
    if await _try(world, act):
        world.grant(words)


async def _redrive(world: Simulation, details: Details) -> None:
    request = RedriveRequest(DeadFilter(reason=details["reason"]), details["rate"])
    begun = await _try(world, lambda service: service.aftermath.redrive(request))
    if begun and details["is_regretted"]:
        await asyncio.sleep(3.0)
        await _try(world, _cancel_last)


async def _cancel_last(service: Service) -> None:
    found = await service.aftermath.redrives()
    if found:
        await service.aftermath.cancel(found[0].id)


async def _discard(world: Simulation, details: Details) -> None:
    wanted = DeadFilter(reason=details["reason"])
    await _try(world, lambda service: service.aftermath.discard(wanted))


async def _resolve(world: Simulation, details: Details) -> None:
    """Decide about one that is unknown: somebody has it, or it is sent again."""
    unknown = [id for id, status in world.witness.statuses.items() if status is Status.UNKNOWN]
    if not unknown:
        return
    # By a share, so that a story which is cut down still has one there.
    id = unknown[int(details["share"] * len(unknown))]
    if not details["is_sent"]:
        # Before the answer, which may get lost: whoever asks bears it from then on.
        world.sent_again.add(id)
    else:
        world.taken_on_trust.add(id)
    await _try(world, lambda service: service.resolve(id, details["is_sent"]))


async def _audit(world: Simulation, _details: Details) -> None:
    reconcile(world)
    await _try(world, partial(look, world))


# --- trouble -----------------------------------------------------------------------------------


def _mood(world: Simulation, details: Details) -> None:
    moods = tuple(MOODS[name] for name in details["moods"])
    world.accounts[details["provider"]].moods = moods


def _crash(world: Simulation, details: Details) -> None:
    if world.engine is not None:
        world.engine.service.ref(details["actor"]).tell(Crash("chaos"))


def _kill(world: Simulation, details: Details) -> None:
    if "callbacks" in details:
        world.kill_before(details["callbacks"])
    else:
        world.kill_at(details["where"])


def _terminate(world: Simulation, _details: Details) -> None:
    world.stop()


def _disk(world: Simulation, details: Details) -> None:
    error = details["error"]
    world.disk.error_code = None if error is None else _DISK_ERRORS[error]


async def _clock(world: Simulation, details: Details) -> None:
    """Set the clock of a machine on which the process runs: it cannot know of what was before."""
    await _up(world)
    if not world.has_to_end:
        world.set_clock(details["by_s"])


# --- and all is well ---------------------------------------------------------------------------


async def _well(world: Simulation, _details: Details) -> None:
    """Mend all that can be mended, undo what operators did, and see whether all comes to an end."""
    world.disk.error_code = None
    world.forget_kill()
    await _up(world)
    world.has_to_end = True
    world.correct_clock()
    for account in world.accounts.values():
        account.calm()
    for name in world.accounts:
        world.wish(f"enable {name}")
        await _insist(world, partial(Service.set_provider, name=name, is_enabled=True))
    # What no operator has moved recovers by itself.
    for name in sorted(world.steered):
        world.accounts[name].contract.operator_steers()
        await _insist(world, partial(Service.set_breaker, name=name, action="reset"))
    for channel in world.settings.channels:
        world.wish(f"resume {channel}")
        await _insist(world, partial(Service.resume, channel=channel))
    await _end_with_the_last(world)


async def _up(world: Simulation) -> None:
    while world.engine is None:  # noqa: ASYNC110  # a start sets no event
        await asyncio.sleep(0.1)


async def _end_with_the_last(world: Simulation) -> None:
    while world.steps or world.witness.live or has_running_redrive(world):  # noqa: ASYNC110
        # Its end is in rows and ledgers, which set no event.
        await asyncio.sleep(_LOOKS_EVERY_S)
    world.end()


async def _insist(world: Simulation, ask: Callable[[Service], Awaitable[Any]]) -> None:
    for _ in range(PERSISTENCE):
        if await _try(world, ask):
            return
        await asyncio.sleep(1.0)
    world.accuse("an operator's wish was refused for too long")


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


DEEDS: Deeds = {
    "send": _send,
    "batch": _batch,
    "cancel": _cancel,
    "steer": _steer,
    "redrive": _redrive,
    "discard": _discard,
    "resolve": _resolve,
    "audit": _audit,
    "mood": _mood,
    "crash": _crash,
    "kill": _kill,
    "stop": _terminate,
    "disk": _disk,
    "clock": _clock,
    "well": _well,
}
