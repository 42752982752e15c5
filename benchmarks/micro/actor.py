"""Messages: ask and tell, beside a thread per actor (pykka) and a bare asyncio.Queue.

Who asks a pykka actor is a thread that blocks, as its users have it: one that asks and waits, one
that asks many times and then waits, or many threads. Tasks ask ours in the same three ways.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pykka

from benchmarks.micro.case import OURS, Case, Group, Repeat
from clarion.actors.runtime import Actor, Ref, Runtime, handles
from clarion.policies.clock import SystemClock

STOP_S = 5.0
MANY = 100
"""Asks under way at a time, or callers."""


@dataclass(frozen=True, slots=True)
class Add:
    """Add one to the sum, and answer with it."""

    is_intake: ClassVar[bool] = False
    number: int


class OurSum(Actor):
    """Keeps a sum, on Clarion's engine."""

    def __init__(self) -> None:
        super().__init__()
        self._sum = 0

    @handles(Add)
    def add(self, message: Add) -> int:
        """Add."""
        self._sum += message.number
        return self._sum


class PykkaSum(pykka.ThreadingActor):
    """Keeps a sum, in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._sum = 0

    def on_receive(self, message: Add) -> int:
        """Add."""
        self._sum += message.number
        return self._sum


@asynccontextmanager
async def _our_actor() -> AsyncIterator[Ref]:
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    ref = runtime.spawn("sum", OurSum)
    yield ref
    await runtime.close(STOP_S)


@asynccontextmanager
async def _our_asks() -> AsyncIterator[Repeat]:
    async with _our_actor() as ref:

        async def repeat(count: int) -> None:
            for _ in range(count):
                await ref.ask(Add(1))

        yield repeat


@asynccontextmanager
async def _our_asks_under_way() -> AsyncIterator[Repeat]:
    async with _our_actor() as ref:

        async def repeat(count: int) -> None:
            for _ in range(count // MANY):
                for reply in [ref.ask(Add(1)) for _ in range(MANY)]:
                    await reply

        yield repeat


@asynccontextmanager
async def _our_callers() -> AsyncIterator[Repeat]:
    async with _our_asks() as ask:

        async def repeat(count: int) -> None:
            await asyncio.gather(*(ask(count // MANY) for _ in range(MANY)))

        yield repeat


@asynccontextmanager
async def _our_tells() -> AsyncIterator[Repeat]:
    async with _our_actor() as ref:

        async def repeat(count: int) -> None:
            for _ in range(count - 1):
                ref.tell(Add(1))
            await ref.ask(Add(1))

        yield repeat


@asynccontextmanager
async def _pykka_asks() -> AsyncIterator[Repeat]:
    ref = PykkaSum.start()

    async def repeat(count: int) -> None:
        for _ in range(count):
            ref.ask(Add(1))

    yield repeat
    ref.stop()


@asynccontextmanager
async def _pykka_asks_under_way() -> AsyncIterator[Repeat]:
    ref = PykkaSum.start()

    async def repeat(count: int) -> None:
        for _ in range(count // MANY):
            for reply in [ref.ask(Add(1), block=False) for _ in range(MANY)]:
                reply.get()

    yield repeat
    ref.stop()


@asynccontextmanager
async def _pykka_callers() -> AsyncIterator[Repeat]:
    ref = PykkaSum.start()

    def ask(count: int) -> None:
        for _ in range(count):
            ref.ask(Add(1))

    async def repeat(count: int) -> None:
        callers = [threading.Thread(target=ask, args=(count // MANY,)) for _ in range(MANY)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    yield repeat
    ref.stop()


@asynccontextmanager
async def _pykka_tells() -> AsyncIterator[Repeat]:
    ref = PykkaSum.start()

    async def repeat(count: int) -> None:
        for _ in range(count - 1):
            ref.tell(Add(1))
        ref.ask(Add(1))

    yield repeat
    ref.stop()


Item = tuple[Add, "asyncio.Future[int] | None"]


@asynccontextmanager
async def _queue() -> AsyncIterator[asyncio.Queue[Item]]:
    inbox: asyncio.Queue[Item] = asyncio.Queue()

    async def consume() -> None:
        total = 0
        while True:
            message, reply = await inbox.get()
            total += message.number
            if reply is not None:
                reply.set_result(total)

    consuming = asyncio.create_task(consume())
    yield inbox
    consuming.cancel()


@asynccontextmanager
async def _queue_asks() -> AsyncIterator[Repeat]:
    async with _queue() as inbox:
        loop = asyncio.get_running_loop()

        async def repeat(count: int) -> None:
            for _ in range(count):
                reply: asyncio.Future[int] = loop.create_future()
                inbox.put_nowait((Add(1), reply))
                await reply

        yield repeat


@asynccontextmanager
async def _queue_asks_under_way() -> AsyncIterator[Repeat]:
    async with _queue() as inbox:
        loop = asyncio.get_running_loop()

        async def repeat(count: int) -> None:
            for _ in range(count // MANY):
                replies: list[asyncio.Future[int]] = [loop.create_future() for _ in range(MANY)]
                for reply in replies:
                    inbox.put_nowait((Add(1), reply))
                for reply in replies:
                    await reply

        yield repeat


@asynccontextmanager
async def _queue_callers() -> AsyncIterator[Repeat]:
    async with _queue_asks() as ask:

        async def repeat(count: int) -> None:
            await asyncio.gather(*(ask(count // MANY) for _ in range(MANY)))

        yield repeat


@asynccontextmanager
async def _bare_asks() -> AsyncIterator[Repeat]:
    """Two tasks that wake each other by a future each: the least that an answer can cost."""
    loop = asyncio.get_running_loop()
    question: asyncio.Future[asyncio.Future[int]] = loop.create_future()

    async def answer() -> None:
        nonlocal question
        while True:
            reply = await question
            question = loop.create_future()
            reply.set_result(1)

    async def repeat(count: int) -> None:
        for _ in range(count):
            reply: asyncio.Future[int] = loop.create_future()
            question.set_result(reply)
            await reply

    answering = asyncio.create_task(answer())
    await asyncio.sleep(0)
    yield repeat
    answering.cancel()


@asynccontextmanager
async def _queue_tells() -> AsyncIterator[Repeat]:
    async with _queue() as inbox:

        async def repeat(count: int) -> None:
            for _ in range(count - 1):
                inbox.put_nowait((Add(1), None))
            last: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            inbox.put_nowait((Add(1), last))
            await last

        yield repeat


GROUPS = (
    Group(
        "ask an actor, one question after the other",
        (
            Case(OURS, _our_asks),
            Case("pykka (thread)", _pykka_asks),
            Case("asyncio.Queue", _queue_asks),
            Case("two bare futures", _bare_asks),
        ),
    ),
    Group(
        "ask an actor, a hundred questions under way",
        (
            Case(OURS, _our_asks_under_way),
            Case("pykka (thread)", _pykka_asks_under_way),
            Case("asyncio.Queue", _queue_asks_under_way),
        ),
    ),
    Group(
        "ask an actor, a hundred callers that each wait",
        (
            Case(OURS, _our_callers),
            Case("pykka (thread)", _pykka_callers),
            Case("asyncio.Queue", _queue_callers),
        ),
    ),
    Group(
        "tell an actor",
        (
            Case(OURS, _our_tells),
            Case("pykka (thread)", _pykka_tells),
            Case("asyncio.Queue", _queue_tells),
        ),
    ),
)
