"""A case: one part, done by one library, any number of times; and how cases are timed.

The cases of a group take turns, round after round in one process on one event loop. What counts is
the fastest round of each: noise only ever adds.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

Repeat = Callable[[int], Awaitable[None]]
"""Does the part so many times."""

OURS = "clarion"
WARM_UP = 200


@dataclass(frozen=True, slots=True)
class Case:
    """One library's way to do the part of its group."""

    library: str
    opened: Callable[[], AbstractAsyncContextManager[Repeat]]


@dataclass(frozen=True, slots=True)
class Group:
    """What is compared; the first case is ours."""

    title: str
    cases: Sequence[Case]


@dataclass(frozen=True, slots=True)
class Found:
    """Microseconds for one, by library."""

    title: str
    us: dict[str, float]

    def ratio(self, library: str) -> float:
        """Return their time by ours: above 1, ours is the faster."""
        return self.us[library] / self.us[OURS]


def awaiting(library: str, make: Callable[[], Callable[[], Awaitable[object]]]) -> Case:
    """Return the case of an async function; it is made on the loop, anew for each round."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Repeat]:
        call = make()

        async def repeat(count: int) -> None:
            for _ in range(count):
                await call()

        yield repeat

    return Case(library, opened)


async def measure(group: Group, *, count: int, rounds: int) -> Found:
    """Time each case `rounds` times, in turns."""
    fastest = {case.library: float("inf") for case in group.cases}
    for _ in range(rounds):
        for case in group.cases:
            async with case.opened() as repeat:
                await repeat(WARM_UP)
                started_at = time.perf_counter()
                await repeat(count)
                took_us = (time.perf_counter() - started_at) * 1e6 / count
            fastest[case.library] = min(fastest[case.library], took_us)
    return Found(group.title, fastest)
