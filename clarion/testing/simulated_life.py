"""One life of a simulated process: its loop, its threads, its engine, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from clarion.app import Engine, Surroundings
from clarion.testing.simulated_store import SimulatedStore
from clarion.testing.simulated_thread import SimulatedThreads, SimulatedWriter
from clarion.testing.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from clarion.testing.simulation import Simulation, Step


class ProcessKilled(SystemExit):
    """The simulated process died where it stood.

    What derives from SystemExit is let through by tasks and callbacks: the loop runs nothing more.
    """


class _WorldClock:
    """Implements `policies.clock.Clock` on the world's time."""

    def __init__(self, world: Simulation) -> None:
        self._world = world

    def monotonic(self) -> float:
        """Return the virtual seconds."""
        return self._world.now()

    def now(self) -> float:
        """Return the wall clock."""
        return self._world.wall_now()


class Life:
    """One process; it writes nothing and calls nobody once it is dead."""

    def __init__(self, world: Simulation, loop: VirtualTimeLoop) -> None:
        self._world = world
        self._loop = loop
        self._threads = SimulatedThreads(loop, world.delay_s)
        self._writer: SimulatedWriter | None = None
        self._store: SimulatedStore | None = None
        self._engine: Engine | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._roused = asyncio.Event()
        loop.set_exception_handler(self._callback_failed)
        world.rouse = self._roused.set

    def live(self, until_s: float) -> bool:
        """Live until `until_s`; return whether the process died before."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                try:
                    runner.run(self._run(until_s))
                except ProcessKilled:
                    self._die()
                    return True
        finally:
            self._bury()
        return False

    def _callback_failed(self, _loop: Any, context: dict[str, Any]) -> None:
        # What a dead process had not got to see to is nobody's fault.
        if not self._world.is_dead:
            self._world.accuse(f"{context.get('message')}: {context.get('exception')!r}")

    def _die(self) -> None:
        """See that what is still to run runs no more; its tasks are only taken down."""
        self._loop.die()
        if self._writer is not None:
            self._writer.stop()

    async def _run(self, until_s: float) -> None:
        world = self._world
        world.note("start")
        self._engine = engine = Engine(world.settings, self._surroundings())
        starting = asyncio.ensure_future(engine.start())
        starting.add_done_callback(lambda _: self._opened())
        failing = asyncio.ensure_future(engine.failed.wait())
        failing.add_done_callback(lambda _: self._roused.set())
        while not engine.failed.is_set() and world.now() < until_s:
            self._roused.clear()
            self._act()
            if world.is_stopping:
                break
            next_at = world.steps[0].at if world.steps else until_s
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(next_at, until_s)):
                    await self._roused.wait()
        failing.cancel()
        world.note("stop")
        world.engine = None
        await starting
        await engine.drain()
        await engine.stop()
        self._loop.call_no_more()

    def _opened(self) -> None:
        if not self._world.is_dead:
            self._world.note("open")
            self._world.engine = self._engine

    def _surroundings(self) -> Surroundings:
        chances = self._world.chances()
        return Surroundings(
            clock=_WorldClock(self._world),
            rng=chances.random,
            random_bits=chances.getrandbits,
            executor=self._threads,
            open_store=self._open_store,
            make_writer=self._make_writer,
            adapters={name: each.adapter for name, each in self._world.accounts.items()},
            is_loop_watched=False,
        )

    def _open_store(
        self, url: str, *, now: Callable[[], float], **_of_a_server: object
    ) -> SimulatedStore:
        self._store = SimulatedStore(url, now=now, world=self._world)
        return self._store

    def _make_writer(self, *args: Any, **options: Any) -> SimulatedWriter:
        self._writer = SimulatedWriter(*args, threads=self._threads, **options)
        return self._writer

    def _act(self) -> None:
        while (step := self._world.due_step()) is not None:
            self._world.note(f"step {step.name}")
            doing = step.act(self._world)
            if doing is not None:
                task = self._loop.create_task(doing, name=step.name)
                self._tasks.add(task)
                task.add_done_callback(partial(self._acted, step))

    def _acted(self, step: Step, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if step.is_stubborn:
                self._world.plan(step.at, step.name, step.act, is_stubborn=True)
        elif task.exception() is not None:
            self._world.accuse(f"step {step.name} failed: {task.exception()!r}")

    def _bury(self) -> None:
        """Free what a dead process frees: its file, its lock."""
        if self._writer is not None:
            self._writer.stop()
        if self._store is not None:
            self._store.close()
        if self._engine is not None:
            self._engine.reader.close()
