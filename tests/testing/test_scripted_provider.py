"""The scripted provider answers line by line, and waits only when it is told to."""

from __future__ import annotations

import asyncio

import pytest

from clarion.domain.notification import Channel, Content
from clarion.domain.outcome import Answer, Outcome
from clarion.providers.base import Adapter, Outgoing, Wire
from clarion.testing import ManualClock, ScriptedProvider, Step

BUSY = Answer(Outcome.TRANSIENT, "http_503")


def outgoing(id_: str = "n1") -> Outgoing:
    return Outgoing(id_, "email", Content(to="ada@example.com", text="hi"), 1, "c1")


async def test_the_script_is_used_line_by_line_and_then_everything_is_accepted() -> None:
    """A list gives one result per send; when it is used up, sends are accepted."""
    provider = ScriptedProvider([BUSY, Answer(Outcome.PERMANENT, "too_big")])

    outcomes = [(await provider.send(outgoing(), Wire())).outcome for _ in range(3)]

    assert outcomes == [Outcome.TRANSIENT, Outcome.PERMANENT, Outcome.ACCEPTED]


async def test_a_callable_script_sees_each_message() -> None:
    """A callable decides by the message."""
    provider = ScriptedProvider(
        lambda out: BUSY if out.notification_id == "bad" else Answer(Outcome.ACCEPTED, "ok")
    )

    bad = await provider.send(outgoing("bad"), Wire())
    good = await provider.send(outgoing("good"), Wire())

    assert (bad, good.outcome) == (BUSY, Outcome.ACCEPTED)


async def test_sends_are_recorded_with_their_time_and_answer() -> None:
    """Each send is kept with the instant at which it started."""
    clock = ManualClock(now=50.0)
    provider = ScriptedProvider([BUSY], clock=clock)

    clock.advance(1.0)
    await provider.send(outgoing("n7"), Wire())

    [sent] = provider.sends
    assert (sent.at, sent.outgoing.notification_id, sent.answer) == (51.0, "n7", BUSY)


async def test_an_exception_in_the_script_is_raised_after_the_wire_is_marked() -> None:
    """A bug of an adapter shows by phase: the step says whether the request was written."""
    provider = ScriptedProvider([Step(RuntimeError("a bug"), is_written=False), ValueError("late")])
    early, late = Wire(), Wire()

    with pytest.raises(RuntimeError, match="a bug"):
        await provider.send(outgoing(), early)
    with pytest.raises(ValueError, match="late"):
        await provider.send(outgoing(), late)

    assert (early.is_written, late.is_written) == (False, True)
    assert provider.in_flight == 0


async def test_held_sends_wait_until_they_are_released_oldest_first() -> None:
    """`hold` keeps sends inside, `release(n)` lets the n oldest go on."""
    provider = ScriptedProvider()
    provider.hold()
    first, second = (asyncio.create_task(provider.send(outgoing(), Wire())) for _ in range(2))
    await provider.wait_for(2)

    provider.release(1)
    await first

    assert (second.done(), provider.in_flight, provider.max_in_flight) == (False, 1, 2)
    provider.release()
    assert (await second).outcome is Outcome.ACCEPTED


async def test_a_held_send_that_is_cancelled_leaves_the_provider() -> None:
    """A send that its Provider actor gives up takes no place any more."""
    provider = ScriptedProvider([Step(is_held=True)])
    task = asyncio.create_task(provider.send(outgoing(), Wire()))
    await provider.wait_for(1)

    task.cancel()
    await asyncio.wait([task])
    provider.release()

    assert (task.cancelled(), provider.in_flight, provider.sends[0].answer) == (True, 0, None)


async def test_waiting_for_sends_that_never_come_ends() -> None:
    """Every wait has a timeout."""
    provider = ScriptedProvider()

    with pytest.raises(TimeoutError):
        await provider.wait_for(1, timeout_s=0.01)


async def test_it_is_an_adapter_for_every_channel() -> None:
    """The engine can use it wherever it uses a real adapter."""
    provider = ScriptedProvider()
    adapter: Adapter = provider

    await adapter.open()
    health = await adapter.probe()
    await adapter.close()

    assert adapter.channels == frozenset(Channel)
    assert health.is_healthy
    assert (provider.times_opened, provider.times_probed, provider.times_closed) == (1, 1, 1)


async def test_opening_can_fail() -> None:
    """A provider that cannot start is scripted by `open_error`."""
    provider = ScriptedProvider()
    provider.open_error = OSError("no such host")

    with pytest.raises(OSError, match="no such host"):
        await provider.open()
    assert provider.times_opened == 0
