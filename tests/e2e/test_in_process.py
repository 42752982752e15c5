"""The same engine inside another program, and plain actor messaging."""

from __future__ import annotations

import asyncio

import clarion


async def test_send_and_wait_for_the_end(house):
    """`receipt.settled` gives the notification with its final status."""
    provider = await house.sendgrid()
    path = house.configure({"only": provider.settings()}, {"email": ["only"]})
    async with clarion.start(path) as service:
        receipt = await service.send(**house.email(1))
        final = await receipt.settled(timeout=10)
    assert final.status == "sent"
    assert final.id == receipt.id
    assert provider.deliveries[receipt.id] == 1


async def test_actors_are_asked_from_the_loop_and_from_a_thread(house):
    """`service.ref(name).ask(...)` is awaitable here and `.get()`-able there."""
    path = house.configure({"out": {"kind": "outbox"}}, {"email": ["out"]})
    async with clarion.start(path) as service:
        ref = service.ref("breaker:out")
        state = await ref.ask(clarion.Snapshot())
        assert state.state == "closed"
        again = await asyncio.to_thread(lambda: ref.ask(clarion.Snapshot()).get(timeout=5))
        assert again.state == "closed"


async def test_controls_outlive_the_process(house):
    """A paused lane, a disabled provider and a forced breaker are so again after a restart."""
    path = house.configure(
        {"a": {"kind": "outbox"}, "b": {"kind": "outbox"}}, {"email": ["a", "b"]}
    )
    async with clarion.start(path) as service:
        await service.pause("email", who="test")
        await service.set_provider("a", is_enabled=False, who="test")
        await service.set_breaker("b", "open", who="test")
    async with clarion.start(path) as service:
        (lane,) = await service.queues()
        assert lane.is_paused
        states = {each.name: each for each in (await service.providers()).providers}
        assert not states["a"].is_enabled
        assert states["b"].circuit.state == "forced_open"
