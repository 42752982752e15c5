"""The whole engine in virtual time, from one seed: hours of outage in a second.

A `Simulation` is the world that outlives every process of Clarion: the database file, the provider
accounts, the operators' and senders' plan, the chances. It runs one life of an `Engine` after the
other, each on a loop of its own, kills it where it is told to, and writes a trace. The same seed
gives the same trace, byte for byte. What should be true in the end is asked by `invariant`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from bisect import insort
from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog
from structlog.typing import EventDict

from clarion.app import Engine, Surroundings
from clarion.settings import Settings
from clarion.storage import command
from clarion.storage.store import SqliteStore
from clarion.testing.simulated_provider import Account
from clarion.testing.simulated_thread import SimulatedThreads, SimulatedWriter
from clarion.testing.virtual_time import VirtualTimeLoop

EPOCH_AT = 1_700_000_000.0
DOWN_S = (0.2, 5.0)
"""How long a dead process stays down."""
_UNHEARD = frozenset({"event", "traceback"})
"""Not in the trace: a traceback has paths and line numbers, and is long."""
_ONLY_READS = (command.Load, command.Refill, command.LoadTimers)

Action = Callable[["Simulation"], Coroutine[Any, Any, None] | None]


class ProcessKilled(BaseException):
    """The simulated process died where it stood."""


@dataclass(order=True, slots=True)
class Step:
    """One thing that somebody does at `at` (virtual seconds); `name` is for the trace.

    A stubborn one is done again where the process died before it was through.
    """

    at: float
    name: str = field(compare=False)
    act: Action = field(compare=False)
    is_stubborn: bool = field(default=False, compare=False)


class SimulatedStore(SqliteStore):
    """A real SQLite file without fsyncs, on a disk that may fail, with kill points at commits."""

    def __init__(self, url: str, *, now: Callable[[], float], world: Simulation) -> None:
        super().__init__(url.removeprefix("sqlite:///"), now=now)
        self._world = world
        self._batch: list[str] = []

    def open(self) -> None:
        """Open the file; power cuts are not simulated, so nothing waits for the disk."""
        super().open()
        self.connection.execute("PRAGMA synchronous = OFF")

    def begin(self) -> None:
        """Begin a transaction, unless the disk fails."""
        self._world.disk.check()
        self._batch.clear()
        super().begin()

    def apply(self, each: command.Command) -> Any:
        """Carry out a command; the disk may fail at any of them."""
        self._world.disk.check(is_write=not isinstance(each, _ONLY_READS))
        self._batch.append(type(each).__name__)
        return super().apply(each)

    def commit(self) -> None:
        """Commit, unless the process dies before; it may die after, too."""
        self._world.disk.check()
        self._world.kill_point("before a commit")
        super().commit()
        self._world.note(f"commit {' '.join(self._batch)}")
        self._world.kill_point("after a commit")

    def probe(self) -> None:
        """Try to write, unless the disk fails."""
        self._world.disk.check()
        super().probe()


@dataclass(slots=True)
class Disk:
    """The disk under the database."""

    error_code: int | None = None
    """An SQLite error code that every write fails with; None while it works."""

    def check(self, *, is_write: bool = True) -> None:
        """Raise what the disk has to say; a full one can be read."""
        if self.error_code is not None and (is_write or self.error_code == sqlite3.SQLITE_IOERR):
            error = sqlite3.OperationalError("the simulated disk fails")
            error.sqlite_errorcode = self.error_code
            raise error


class Simulation:
    """One world; see the module."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.seed = seed
        self.settings = settings
        self.path: Path = settings.base_dir / settings.storage.url.removeprefix("sqlite:///")
        self.accounts = {
            name: Account(
                name, settings.providers[name].max_concurrent, self, self.rng(f"account {name}")
            )
            for channel in settings.channels.values()
            for name in channel.providers
        }
        self.disk = Disk()
        self.steps: list[Step] = []
        self.trace: list[str] = []
        self.logs: list[MutableMapping[str, Any]] = []
        self.violations: list[str] = []
        self.promised: dict[str, Mapping[str, Any]] = {}
        """Notification id -> the request that was answered with it."""
        self.deaths = 0
        self.is_dead = False
        self.forgotten: list[tuple[float, str]] = []
        """(wall clock, what) of the events that make an actor forget probes that are out."""
        self.forgotten_at: list[tuple[float, str]] = []
        """The same, in virtual seconds."""
        self.wished: list[tuple[float, str]] = []
        """(virtual second, words) of what operators and senders asked for."""
        self.granted: list[tuple[float, str]] = []
        """The same, of what they were told is done."""
        self.steered: set[str] = set()
        """Providers whose circuits an operator has moved."""
        self.was_clock_set = False
        self.engine: Engine | None = None
        self._lives = self.rng("engine")
        self._delays = self.rng("delays")
        self._now_s = 0.0
        self._wall_lead_s = 0.0
        self._loop: VirtualTimeLoop | None = None
        self._kill_at: str | None = None
        self._is_stopping = False

    def rng(self, purpose: str) -> Random:
        """Return a source of chances of its own: one more draw here changes nothing there."""
        return Random(f"{self.seed} {purpose}")  # noqa: S311  # chances, not secrets

    # --- the world -------------------------------------------------------------------------

    def now(self) -> float:
        """Return the virtual seconds since the beginning of the world."""
        return self._now_s if self._loop is None else self._loop.time()

    def wall_now(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        return EPOCH_AT + self._wall_lead_s + self.now()

    def set_clock(self, by_s: float) -> None:
        """Set the wall clock forward (as a machine that slept does), or, below 0, back."""
        self.note(f"clock set by {by_s:g} s")
        self._wall_lead_s += by_s
        self.was_clock_set = True

    def note(self, event: str) -> None:
        """Write a line of the trace."""
        self.trace.append(f"{self.now():.6f} {event}")

    def accuse(self, violation: str) -> None:
        """Note that a promise was broken."""
        self.note(f"VIOLATION {violation}")
        self.violations.append(f"at {self.now():.3f} s: {violation}")

    def promise(self, id: str, request: Mapping[str, Any]) -> None:
        """Remember that a request was answered with this id."""
        self.note(f"promised {id}")
        self.promised[id] = request

    def forget(self, what: str) -> None:
        """Remember that something forgets which probes are out."""
        self.forgotten.append((self.wall_now(), what))
        self.forgotten_at.append((self.now(), what))

    def wish(self, words: str) -> None:
        """Remember that somebody asks for something."""
        self.wished.append((self.now(), words))

    def grant(self, words: str) -> None:
        """Remember that somebody was told that it is done."""
        self.granted.append((self.now(), words))

    def plan(self, at: float, name: str, act: Action, *, is_stubborn: bool = False) -> None:
        """Let somebody do something at `at` seconds, or as soon as the process is up again."""
        insort(self.steps, Step(at, name, act, is_stubborn))

    def kill(self, where: str = "anywhere") -> None:
        """Kill the process now."""
        assert self._loop is not None
        self.note(f"killed {where}")
        self.deaths += 1
        self.is_dead = True
        self.forget("death")
        for account in self.accounts.values():
            account.cut_off()
        self._loop.halt(ProcessKilled(where))

    def kill_at(self, where: str) -> None:
        """Kill the process when it next comes to "before a commit" or "after a commit"."""
        self._kill_at = where

    def forget_kill(self) -> None:
        """Let a planned death not come."""
        self._kill_at = None

    def kill_point(self, where: str) -> None:
        """Die here if that was planned. Raises: ProcessKilled."""
        if self._kill_at == where:
            self._kill_at = None
            self.kill(where)
            raise ProcessKilled(where)

    def stop(self) -> None:
        """Stop the process as SIGTERM does: drain, flush, end; it is started again."""
        self._is_stopping = True

    # --- lives -----------------------------------------------------------------------------

    def run(self, until_s: float) -> None:
        """Live through the plan until `until_s`, in as many lives as it takes, then stop."""
        with self._listening():
            while self._live(until_s) or self.now() < until_s:
                self._now_s += self._lives.uniform(*DOWN_S)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        with structlog.testing.capture_logs(processors=[self._hear]) as logs:
            self.logs = logs
            yield

    def _hear(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        if self.is_dead:
            # A dead process says nothing, and its tasks are taken down in no order.
            raise structlog.DropEvent
        words = " ".join(f"{key}={event[key]}" for key in event if key not in _UNHEARD)
        self.note(f"log {event['event']} {words}")
        return event

    def _live(self, until_s: float) -> bool:
        """Run one life; return whether the process died."""
        self.is_dead = False
        loop = self._loop = VirtualTimeLoop(self._now_s)
        loop.set_exception_handler(self._callback_failed)
        life = _Life(self, loop)
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(life.run(until_s))
        except ProcessKilled:
            return True
        finally:
            self._now_s = loop.time()
            life.bury()
            for account in self.accounts.values():
                account.cut_off()
            self._loop = self.engine = None
        return False

    def _callback_failed(self, _loop: Any, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ProcessKilled):
            self.accuse(f"{context.get('message')}: {context.get('exception')!r}")

    def due_step(self) -> Step | None:
        """Take what is planned for now, or was while nobody lived; None when nothing is."""
        if self.is_dead or not self.steps or self.steps[0].at > self.now():
            return None
        return self.steps.pop(0)

    @property
    def is_stopping(self) -> bool:
        """Whether the process was asked to stop; asking resets it."""
        is_stopping, self._is_stopping = self._is_stopping, False
        return is_stopping

    def delay_s(self) -> float:
        """Draw how long a thread takes to get its turn; mostly short, now and then long."""
        draw = self._delays.random()
        return draw * 0.002 if draw < 0.97 else draw * 0.2

    def chances(self) -> Random:
        """Return the engine's own source of chances."""
        return self._lives


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


class _Life:
    """One process: its loop, its threads, its engine."""

    def __init__(self, world: Simulation, loop: VirtualTimeLoop) -> None:
        self._world = world
        self._loop = loop
        self._threads = SimulatedThreads(loop, world.delay_s)
        self._writer: SimulatedWriter | None = None
        self._store: SimulatedStore | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, until_s: float) -> None:
        world = self._world
        world.note("start")
        self._engine = engine = Engine(world.settings, self._surroundings())
        starting = asyncio.ensure_future(engine.start())
        starting.add_done_callback(lambda _: self._opened())
        while not engine.failed.is_set() and world.now() < until_s:
            self._act()
            if world.is_stopping:
                break
            next_at = world.steps[0].at if world.steps else until_s
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(next_at, until_s)):
                    await engine.failed.wait()
        world.note("stop")
        world.engine = None
        await starting
        await engine.drain()
        await engine.stop()

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

    def _open_store(self, url: str, *, now: Callable[[], float]) -> SimulatedStore:
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

    def bury(self) -> None:
        """Free what a dead process frees: its file, its lock."""
        if self._writer is not None:
            self._writer.stop()
        if self._store is not None:
            self._store.close()
        self._engine.reader.close()
