"""A provider whose library blocks, inside the whole engine: a thread that hangs keeps its slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import clarion
from clarion.actors.blocking import on_the_loop
from clarion.app import Engine, Surroundings, running
from clarion.settings import load
from clarion.testing import BlockingProvider, Crash

SLOTS = 2
BOUND_S = 10.0


@pytest.fixture
def library() -> BlockingProvider:
    return BlockingProvider("slow")


@asynccontextmanager
async def engine_with(
    library: BlockingProvider, house: Any, route: list[str]
) -> AsyncIterator[Engine]:
    """Run an engine whose provider "slow" is the blocking one; its circuit stays closed."""
    slow = {
        "kind": "outbox", "timeout": 0.3, "health_every": 0.0,
        "bulkhead": {"max_concurrent": SLOTS}, "breaker": {"failure_threshold": 100},
    }  # fmt: skip
    path = house.configure({"slow": slow, "spare": {"kind": "outbox"}}, {"sms": route})
    around = Surroundings(adapters={"slow": lambda: on_the_loop(library, SLOTS)})
    async with running(load(path), around) as engine:
        try:
            yield engine
        finally:
            library.release()


async def slots(engine: Engine) -> Any:
    snapshot = await engine.service.providers()
    return next(each for each in snapshot.providers if each.name == "slow")


async def hang_all(engine: Engine, library: BlockingProvider, house: Any) -> list[str]:
    """Send as many as there are slots, and wait until the time limit has ended each."""
    library.hang()
    receipts = [
        await engine.service.send(**house.sms(n, delivery="at_most_once")) for n in range(SLOTS)
    ]
    ended = [await receipt.settled(timeout=BOUND_S) for receipt in receipts]
    assert [each.status for each in ended] == ["unknown"] * SLOTS
    return [receipt.id for receipt in receipts]


async def test_a_call_ends_at_its_time_limit_and_its_slot_when_the_thread_returns(house, library):
    """Unknown for the notification; taken for the bulkhead, until the library lets go."""
    async with engine_with(library, house, ["slow"]) as engine:
        hung = await hang_all(engine, library, house)
        next_one = await engine.service.send(**house.sms("next"))
        await house.until(lambda: library.inside == SLOTS)
        standing = await slots(engine)
        waiting = await engine.service.get(next_one.id)

        assert (standing.in_flight, standing.reason) == (
            SLOTS,
            f"all {SLOTS} slots are taken, {SLOTS} by threads that hang",
        )
        assert (waiting.status, len(library.threads)) == ("queued", SLOTS)

        library.release()
        final = await next_one.settled(timeout=BOUND_S)

    assert final.status == "sent"
    assert sorted(library.sent) == sorted([*hung, next_one.id])


@pytest.mark.parametrize("actor", ["supervisor", "provider:slow", "breaker:slow"])
async def test_the_slots_of_threads_that_hang_outlive_a_crash(house, library, actor):
    """Whoever is new learns of them: never more threads than slots."""
    async with engine_with(library, house, ["slow"]) as engine:
        await hang_all(engine, library, house)
        engine.service.ref(actor).tell(Crash("on purpose"))
        await house.until(lambda: engine.runtime.statistics() and _is_up(engine, actor))
        next_one = await engine.service.send(**house.sms("next"))
        await _until_looked_at(engine, house)

        assert (await slots(engine)).in_flight == SLOTS
        assert len(library.threads) == SLOTS

        library.release()
        final = await next_one.settled(timeout=BOUND_S)

    assert final.status == "sent"


async def test_new_work_goes_to_the_next_provider_while_all_threads_hang(house, library):
    """Its trouble costs its own slots, and nobody else anything."""
    async with engine_with(library, house, ["slow", "spare"]) as engine:
        await hang_all(engine, library, house)

        next_one = await engine.service.send(**house.sms("next"))
        final = await next_one.settled(timeout=BOUND_S)

    assert (final.status, final.provider) == ("sent", "spare")


async def test_an_engine_stops_though_a_thread_hangs(house, library):
    """A daemon thread keeps neither the engine nor the process."""
    async with asyncio.timeout(3 * BOUND_S), engine_with(library, house, ["slow"]) as engine:
        await hang_all(engine, library, house)

        await engine.stop()

        assert library.inside == SLOTS


def _is_up(engine: Engine, actor: str) -> bool:
    found = next(each for each in engine.runtime.statistics() if each.name == actor)
    return found.state == "running" and found.crashes > 0


async def _until_looked_at(engine: Engine, house: Any) -> None:
    """Wait until the provider was considered: its gate is known again after a crash."""

    async def is_known() -> bool:
        return "threads that hang" in (await slots(engine)).reason

    await house.until(is_known)
    await engine.service.ref("queue:sms").ask(clarion.Snapshot())
