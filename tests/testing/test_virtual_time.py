"""The loop with a time of its own: no waiting, the same order each time, no silent end."""

from __future__ import annotations

import asyncio

import pytest

from clarion.testing.simulated_thread import SimulatedThreads
from clarion.testing.virtual_time import (
    TimeStandsStill,
    VirtualClock,
    VirtualTimeLoop,
    run_virtual,
)


def test_hours_pass_at_once_and_in_order():
    """Timers fire by their instant, whatever order they were set in."""
    seen = []

    async def wait(hours: float) -> None:
        await asyncio.sleep(hours * 3600.0)
        seen.append((hours, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(wait(3), wait(1), wait(2))

    run_virtual(main())

    assert seen == [(1, 3600.0), (2, 7200.0), (3, 10800.0)]


def test_a_cancelled_timer_moves_no_time():
    """Only what happens counts: a timeout that was not needed leaves no trace."""

    async def main() -> float:
        async with asyncio.timeout(1000.0):
            await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main(), start_s=5.0) == 7.0


@pytest.mark.parametrize("start_s", [0.0, 50.3, 1e6])
def test_the_shortest_delay_moves_time(start_s):
    """A timer never runs before its instant, so whoever sets it anew until then comes there."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        until = start_s + 1e-9
        while loop.time() < until:
            await asyncio.sleep(until - loop.time())
        return loop.time()

    assert run_virtual(main(), start_s=start_s) == start_s + 1e-9


def test_waiting_for_what_cannot_come_is_an_error():
    """A lost wake-up shows as such, not as a test that hangs."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeStandsStill, match="nothing is left"):
        run_virtual(main())


def test_turning_for_ever_at_one_instant_is_an_error(monkeypatch):
    """A livelock shows as such."""
    monkeypatch.setattr("clarion.testing.virtual_time.STANDSTILL", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(TimeStandsStill, match="turns of the loop"):
        run_virtual(main())


def test_the_clock_is_the_loops():
    """The wall clock and the monotonic one move together."""
    loop = VirtualTimeLoop(10.0)
    clock = VirtualClock(loop, epoch_at=1000.0)
    loop.run_until_complete(asyncio.sleep(5.0))

    assert (clock.monotonic(), clock.now()) == (15.0, 1015.0)
    loop.close()


def test_a_simulated_thread_waits_runs_and_waits():
    """What it does is done before its result is seen; an error comes the same way."""
    ran_at = []

    async def main() -> tuple[str, float, Exception | None]:
        loop = asyncio.get_running_loop()
        threads = SimulatedThreads(loop, lambda: 2.0)
        result = await loop.run_in_executor(threads, lambda: ran_at.append(loop.time()) or "done")
        seen_at = loop.time()
        failing = loop.run_in_executor(threads, lambda: 1 / 0)
        (error,) = await asyncio.gather(failing, return_exceptions=True)
        return result, seen_at, error

    result, seen_at, error = run_virtual(main())

    assert (result, ran_at, seen_at) == ("done", [2.0], 4.0)
    assert isinstance(error, ZeroDivisionError)
