"""Threads for libraries that block: as many as slots, and one that hangs keeps its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from clarion.actors.blocking import Threaded, on_the_loop
from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.testing import BlockingProvider, ScriptedProvider

BOUND_S = 5.0


def outgoing(id: str = "n1") -> Outgoing:
    return Outgoing(id, "sms", Content("+15005550006", text="hi"), 1, "c1")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def library() -> BlockingProvider:
    return BlockingProvider("acme")


@pytest.fixture
async def threaded(library: BlockingProvider) -> AsyncIterator[Threaded]:
    made = Threaded(library, 2)
    await made.open()
    yield made
    library.release()
    await made.close()


async def cut_off(threaded: Threaded, wire: Wire, library: BlockingProvider) -> None:
    """Start a send that hangs, and cut it off as the time limit does."""
    before = library.inside
    task = asyncio.create_task(threaded.send(outgoing("late"), wire))
    await until(lambda: library.inside > before)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_an_adapter_of_the_loop_is_left_as_it_is():
    adapter = ScriptedProvider()

    assert on_the_loop(adapter, 4) is adapter


async def test_a_send_runs_in_a_thread_and_brings_its_answer(threaded, library):
    """The thread is named after its provider, for whoever looks for what hangs."""
    wire = Wire()

    answer = await threaded.send(outgoing(), wire)

    assert (answer.outcome, wire.is_written, wire.lingering) == (Outcome.ACCEPTED, True, None)
    assert library.threads == ["acme-1"]


async def test_calls_run_side_by_side_one_in_each_thread(threaded, library):
    library.hang()

    sends = [asyncio.create_task(threaded.send(outgoing(f"n{i}"), Wire())) for i in range(2)]
    await until(lambda: library.inside == 2)
    library.release()
    answers = await asyncio.gather(*sends)

    assert sorted(library.threads) == ["acme-1", "acme-2"]
    assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED] * 2


async def test_what_a_library_raises_is_raised(threaded, library):
    """The Provider judges what escapes an adapter, as with every other."""
    library.error = ValueError("a bug")
    wire = Wire()

    with pytest.raises(ValueError, match="a bug"):
        await threaded.send(outgoing(), wire)

    assert wire.is_written


async def test_a_library_that_wants_to_end_the_process_only_fails_its_call(threaded, library):
    """pykka would stop every actor for it."""
    library.error = SystemExit(1)
    with pytest.raises(RuntimeError, match="wanted to end the process"):
        await threaded.send(outgoing(), Wire())

    library.error = None

    assert (await threaded.send(outgoing(), Wire())).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("writes_first", [True, False])
async def test_a_call_that_is_cut_off_may_be_out(threaded, library, writes_first):
    """Even what was not written yet: nothing stops the thread from writing it."""
    library.writes_first = writes_first
    library.hang()
    wire = Wire()

    await cut_off(threaded, wire, library)

    assert wire.is_written
    assert wire.lingering is not None
    assert not wire.lingering.done()


async def test_the_lingering_ends_when_the_thread_returns(threaded, library):
    library.hang()
    wire = Wire()
    await cut_off(threaded, wire, library)

    library.release()
    async with asyncio.timeout(BOUND_S):
        late = await wire.lingering

    assert isinstance(late, Answer)
    assert library.sent == ["late"]


async def test_nothing_waits_behind_threads_that_hang(threaded, library):
    """It is answered at once, and before the wire: another provider may have it."""
    library.hang()
    for _ in range(2):
        await cut_off(threaded, Wire(), library)
    wire = Wire()

    answer = await threaded.send(outgoing("next"), wire)

    assert (answer.outcome, answer.reason) == (Outcome.THROTTLED, "no_free_thread")
    assert (answer.surely_not_accepted, wire.is_written) == (True, False)
    assert "all 2 threads" in answer.detail


async def test_a_thread_that_returned_takes_the_next_call(threaded, library):
    """No thread is given up for having hung once, and none is made in its place."""
    library.hang()
    wires = [Wire(), Wire()]
    for wire in wires:
        await cut_off(threaded, wire, library)

    library.release()
    for wire in wires:
        await wire.lingering
    await threaded.send(outgoing("next"), Wire())

    assert library.threads[-1] in {"acme-1", "acme-2"}


async def test_a_probe_does_not_need_a_free_slot(threaded, library):
    """How the provider is can be seen while every call hangs."""
    library.hang()
    for _ in range(2):
        await cut_off(threaded, Wire(), library)

    probe = asyncio.create_task(threaded.probe())
    await until(lambda: library.inside == 3)
    second = await threaded.probe()
    library.release()

    assert (await probe).is_healthy
    assert (second.is_healthy, "still hangs" in second.detail) == (False, True)


async def test_closing_ends_the_threads_and_closes_the_adapter_once(threaded, library):
    await threaded.send(outgoing(), Wire())

    await threaded.close()
    await threaded.close()

    assert library.times_closed == 1
    with pytest.raises(RuntimeError, match="not open"):
        await threaded.send(outgoing(), Wire())


async def test_closing_does_not_wait_for_a_thread_that_hangs(threaded, library):
    """The adapter is closed behind its last call, whenever that is."""
    library.hang()
    await cut_off(threaded, Wire(), library)

    async with asyncio.timeout(BOUND_S):
        await threaded.close()
    closed_early = library.times_closed
    library.release()

    assert closed_early == 0
    assert await asyncio.to_thread(library.wait_until_closed)


async def test_an_adapter_that_cannot_be_opened_leaves_no_thread(library, monkeypatch):
    def fail() -> None:
        raise OSError("no licence")

    monkeypatch.setattr(library, "open", fail)
    threaded = Threaded(library, 2)

    with pytest.raises(OSError, match="no licence"):
        await threaded.open()

    assert await asyncio.to_thread(library.wait_until_closed)
