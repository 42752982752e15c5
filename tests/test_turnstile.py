"""The line before much work: few at a time, none for too long, and a true word to the others."""

from __future__ import annotations

import asyncio

import pytest

from clarion.errors import Refused
from clarion.testing.virtual_time import run_virtual
from clarion.turnstile import Turnstile

ITEM_S = 0.001


def lived(n: int, *, patience_s: float, item_s: float = ITEM_S):
    """Let `n` batches of a thousand come at once; return how many worked at once, when, and who
    was told what."""
    most, at_work = 0, 0
    done: list[float] = []
    told: list[float] = []

    async def batch(stile: Turnstile) -> None:
        nonlocal most, at_work
        try:
            async with stile.turn(1000):
                at_work += 1
                most = max(most, at_work)
                # Two side by side take twice as long.
                await asyncio.sleep(1000 * item_s * 2)
                at_work -= 1
                done.append(asyncio.get_running_loop().time())
        except Refused as error:
            told.append(error.retry_after_s)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stile = Turnstile(2, patience_s=patience_s, item_s=ITEM_S, monotonic=loop.time)
        await asyncio.gather(*(batch(stile) for _ in range(n)))
        told.append(-1.0)
        async with stile.turn(1):
            pass

    run_virtual(main())
    return most, done, told[:-1]


def test_all_pass_in_turn_where_the_line_is_short():
    """Two at a time, and nobody is turned away."""
    most, done, told = lived(10, patience_s=20.0)

    assert (most, len(done), told) == (2, 10, [])


def test_whoever_would_wait_too_long_is_told_when_the_line_is_gone():
    """A sender that comes again then finds it empty; the others are all served in time."""
    most, done, told = lived(60, patience_s=20.0)

    assert most == 2
    assert len(done) == 21
    assert len(told) == 39
    assert told[0] == pytest.approx(max(done), abs=2.0)


def test_the_line_is_measured_by_what_the_work_took():
    """Where items take ten times as long, the same patience holds a tenth of them."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        stile = Turnstile(2, patience_s=20.0, item_s=ITEM_S, monotonic=loop.time)
        for _ in range(20):
            async with stile.turn(1000):
                await asyncio.sleep(1000 * 10 * ITEM_S * 2)
        passed = 0

        async def batch() -> None:
            nonlocal passed
            async with stile.turn(1000):
                passed += 1
                await asyncio.sleep(1.0)

        found = await asyncio.gather(*(batch() for _ in range(60)), return_exceptions=True)
        assert all(isinstance(each, Refused) for each in found if each is not None)
        return passed

    assert run_virtual(main()) == pytest.approx(3, abs=1)


def test_one_that_fails_leaves_the_line():
    """Its items are not waited for any more."""

    async def main() -> None:
        stile = Turnstile(1, patience_s=0.5, item_s=1.0, monotonic=lambda: 0.0)
        with pytest.raises(KeyError):
            async with stile.turn(10):
                raise KeyError
        async with stile.turn(10):
            pass

    run_virtual(main())
