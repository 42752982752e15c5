"""The time limit that all calls of a provider share."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from clarion.actors.call_limit import CallLimit


async def call(limit: CallLimit, end: asyncio.Event | None = None) -> str:
    with limit():
        await (end or asyncio.Event()).wait()
    return "ended"


async def test_a_call_that_takes_too_long_ends_with_a_time_out():
    """TimeoutError, as from asyncio.timeout; the task itself is not cancelled."""
    with pytest.raises(TimeoutError):
        await call(CallLimit(0.01))

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_call_has_its_own_time():
    """One that ended leaves the others theirs, and later ones are watched as well."""
    limit, end = CallLimit(0.02), asyncio.Event()
    first, second = asyncio.create_task(call(limit, end)), asyncio.create_task(call(limit))
    await asyncio.sleep(0)
    end.set()

    assert await first == "ended"
    with pytest.raises(TimeoutError):
        await second
    with pytest.raises(TimeoutError):
        await call(limit)


async def test_a_call_that_is_in_time_is_left_alone():
    """Whatever it raises or returns passes, and the timer strikes nobody afterwards."""
    limit = CallLimit(0.01)
    end = asyncio.Event()
    end.set()

    assert await call(limit, end) == "ended"
    with pytest.raises(ValueError, match="its own"), limit():
        raise ValueError("its own")
    await asyncio.sleep(0.03)


async def test_who_cancels_the_task_is_not_taken_for_the_limit():
    """A cancellation stays one, even where the limit strikes at the same time."""
    limit = CallLimit(0.01)
    alone, both = asyncio.create_task(call(limit)), asyncio.create_task(call(limit))
    await asyncio.sleep(0)
    alone.cancel()
    asyncio.get_running_loop().call_later(0.01, both.cancel)

    results = await asyncio.gather(alone, both, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert isinstance(results[1], asyncio.CancelledError | TimeoutError)


async def test_one_timer_serves_all(monkeypatch):
    """A thousand calls set one timer, not a thousand."""
    loop = asyncio.get_running_loop()
    timers = []
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda *a, **k: timers.append(a) or call_at(*a, **k))
    limit, end = CallLimit(60.0), asyncio.Event()
    calls = [asyncio.create_task(call(limit, end)) for _ in range(1000)]
    await asyncio.sleep(0)
    end.set()
    await asyncio.gather(*calls)

    assert len(timers) == 1


async def test_an_answer_that_came_while_the_process_was_stopped_is_read():
    """The timer is due as well then; what has come counts, and only then what has not."""
    limit, (ours, theirs) = CallLimit(0.05), socket.socketpair()
    ours.setblocking(False)

    async def receive() -> bytes:
        with limit():
            return await asyncio.get_running_loop().sock_recv(ours, 8)

    answered, silent = asyncio.create_task(receive()), asyncio.create_task(call(limit))
    await asyncio.sleep(0)
    theirs.send(b"accepted")
    time.sleep(0.4)  # As a SIGSTOP: nothing runs, and the time goes on.

    assert await answered == b"accepted"
    with pytest.raises(TimeoutError):
        await silent
    ours.close()
    theirs.close()


async def test_an_answer_is_read_though_the_process_was_stopped_again_at_once():
    """The time that it had for reading went by in the second stop."""
    limit, (ours, theirs) = CallLimit(0.05), socket.socketpair()
    ours.setblocking(False)

    async def receive() -> bytes:
        with limit():
            return await asyncio.get_running_loop().sock_recv(ours, 8)

    answered = asyncio.create_task(receive())
    await asyncio.sleep(0)
    time.sleep(0.4)
    await asyncio.sleep(0.01)  # It goes on, for less than it has for reading.
    theirs.send(b"accepted")
    time.sleep(0.4)

    assert await answered == b"accepted"
    ours.close()
    theirs.close()


async def test_a_loop_that_is_always_late_ends_calls_all_the_same(monkeypatch):
    """Else a call there would never be over."""
    monkeypatch.setattr("clarion.actors.call_limit.LATE_S", -1.0)

    with pytest.raises(TimeoutError):
        await call(CallLimit(0.01))
