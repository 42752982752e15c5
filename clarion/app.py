"""The composition root: settings -> store -> actors, and the way back.

::

    start: store · writer · Journal (sweep) · Supervisor · Providers · Breakers · Queues
           · Redriver · Commons · HTTP
    stop:  HTTP intake · drain the lanes · Commons · Redriver · Queues · Breakers · Providers
           · Supervisor · flush the writer · Journal · store

`Engine` is the house without its front door; `start` hands it out in process, `server` puts HTTP
before it. Here lives the guardian of the Supervisor, too: the one actor that nobody else restarts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from clarion import blueprint
from clarion.actor_factory import ActorFactory
from clarion.actors.children import SLOW_RETRY_S, Children
from clarion.actors.journal_messages import Committed
from clarion.actors.membership_messages import NewsHeard
from clarion.actors.memory import Memory
from clarion.actors.messages import Drain, Snapshot, StorageChanged
from clarion.actors.queue import Queue
from clarion.actors.runtime import CrashReport, Runtime
from clarion.actors.supervisor_messages import ActorCrashed
from clarion.domain.submission import Rules
from clarion.errors import ClarionError
from clarion.gauges import Gauges
from clarion.nodes import COMMONS, Nodes
from clarion.policies.clock import Clock, SystemClock
from clarion.policies.identifier import IdSource
from clarion.policies.lease import Lease
from clarion.policies.restart import RestartBudget
from clarion.policies.routing import RoutePlan
from clarion.providers.base import Adapter
from clarion.service import Service
from clarion.settings import Settings, load
from clarion.storage.backend import open_patiently, open_store
from clarion.storage.command import Sweep
from clarion.storage.membership import Leave
from clarion.storage.reader import Reader
from clarion.storage.store import Listener, Store
from clarion.storage.writer import Done, Writer
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

START_S = 30.0
"""How long start-up waits for the actors; what is late then is shown by /readyz."""
STOP_S = 5.0
"""How long the parts may take to stop once the lanes are drained."""
HUNG_AFTER_S = 30.0
HUNG_CHECK_S = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine takes from outside, so that a test can put its own in."""

    clock: Clock = field(default_factory=SystemClock)
    rng: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # noqa: S311
    # Ids have to be unique, not secret: the kernel's own randomness is asked for a seed only.
    random_bits: Callable[[int], int] = field(default_factory=lambda: random.Random().getrandbits)  # noqa: S311
    executor: Executor | None = None
    """Runs what would block the loop; None: each part has threads of its own."""
    open_store: Callable[..., Store] = open_store
    make_writer: Callable[..., Writer] = Writer
    """The one that commits, from its own thread once it is started."""
    adapters: Mapping[str, Callable[[], Adapter]] = field(default_factory=dict)
    """By provider: what is used in place of the adapter that the settings name."""
    is_loop_watched: bool = True
    """Whether a thread watches for a blocked loop; senseless where time is virtual."""
    is_given_up: Callable[[], bool] = lambda: False
    """Whether a start that still waits for its store is to end."""


class Engine:
    """One node: its store, its actors and the service before them."""

    def __init__(self, settings: Settings, surroundings: Surroundings | None = None) -> None:
        self._around = around = surroundings or Surroundings()
        self.settings = settings
        self.clock, self._rng = around.clock, around.rng
        self.metrics = Metrics()
        self.runtime = Runtime(clock=self.clock, rng=self._rng, hung_after_s=HUNG_AFTER_S)
        self.children = Children(lambda: RestartBudget(rng=self._rng))
        self.failed = asyncio.Event()
        """Set when the engine cannot go on and the process has to end."""
        self.is_draining = False
        ids = IdSource(self.clock.now, around.random_bits)
        self.new_id = ids.next
        self._memory = Memory()
        self._routes = blueprint.routes(settings)
        self._guard = RestartBudget(rng=self._rng)
        self._writer: Writer | None = None
        self._hung_check: asyncio.Task[None] | None = None
        self.nodes = Nodes(settings, self.clock, self._rng, around.random_bits)
        self._store = around.open_store(
            blueprint.store_url(settings),
            now=self.clock.now,
            node=self.nodes.own.id,
            lease_s=settings.queue.lease,
            about=self.nodes.own,
        )
        self._lease = Lease(settings.queue.lease if self._store.is_shared else None)
        self._listener: Listener | None = None
        self.reader = Reader(blueprint.snapshots(settings, self.clock), executor=around.executor)
        self.service = self._make_service()
        pools = {"storage": self.reader.pool_state, "redis": self.nodes.pool_state}
        self.gauges = Gauges(self.service, self.reader, pools, self.runtime, self.metrics)
        self._make = ActorFactory(
            settings,
            self._routes,
            runtime=self.runtime,
            memory=self._memory,
            lease=self._lease,
            ids=ids,
            clock=self.clock,
            rng=self._rng,
            metrics=self.metrics,
            adapters=around.adapters,
            executor=around.executor,
            tell_others=self.nodes.teller(self.runtime),
        )

    def _make_service(self) -> Service:
        return Service(
            refs=self.runtime.ref,
            reader=self.reader,
            clock=self.clock,
            rules=Rules(channels=frozenset(self.settings.channels)),
            is_lane_failed=lambda channel: f"queue:{channel}" in self.children.failed,
            channels=tuple(self.settings.channels),
            providers=tuple(self._used_providers()),
            new_id=self.new_id,
        )

    @property
    def is_started(self) -> bool:
        """Whether every actor has started once."""
        return all(each.state != "starting" for each in self.runtime.statistics())

    def _used_providers(self) -> list[str]:
        return list(dict.fromkeys(name for route in self._routes for name in route.providers))

    # --- start -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store and start every actor. Raises: StoreLocked, StorageUnavailable."""
        await open_patiently(self._store, self.clock.monotonic, self._around.is_given_up)
        self._lease.renewed(self.clock.monotonic())
        controls = await self.reader.controls()
        blueprint.remember_controls(self._memory, self.settings, controls, self.clock)
        self._writer = self._start_writer()
        # No await from here on: every address is there before the first message is handled.
        self._spawn("journal", partial(self._make.journal, self._writer, self.service.notify_ended))
        self.runtime.ref("journal").tell(Sweep("", self.clock.now()))
        self.runtime.spawn(
            "supervisor",
            partial(self._make.supervisor, self.children, self._give_up),
            on_crash=self._guard_supervisor,
        )
        for name in self._used_providers():
            self._spawn(f"provider:{name}", partial(self._make.provider, name))
            self._spawn(f"breaker:{name}", partial(self._make.breaker, name))
        for route in self._routes:
            self._spawn(f"queue:{route.channel}", partial(self._make_queue, route))
        self._spawn("redrive", self._make.redriver)
        self._spawn("retention", self._make.retention)
        if self.nodes.shared is not None:
            self._spawn(COMMONS, partial(self.nodes.make_commons, self.runtime))
        if self._store.is_shared:
            self._join(controls)
        if self._around.is_loop_watched:
            self.runtime.watch_loop()
        self._hung_check = asyncio.create_task(self._watch_hung(), name="hung-check")
        await self._await_start()

    def _start_writer(self) -> Writer:
        loop = asyncio.get_running_loop()
        writer = self._around.make_writer(
            self._store,
            on_done=self._committed,
            post=loop.call_soon_threadsafe,
            on_state=self._storage_changed,
            on_taken=partial(self._give_up, "writer", "another process has written since"),
            commit_seconds=self.metrics.commit_seconds().observe,
            batch_size=self.metrics.commit_batch_size().observe,
            monotonic=self.clock.monotonic,
        )
        writer.start()
        return writer

    def _committed(self, done: list[Done]) -> None:
        self.runtime.ref("journal").tell(Committed(done))

    def _storage_changed(self, is_writable: bool, reason: str) -> None:
        self.runtime.ref("journal").tell(StorageChanged(is_writable, reason))

    def _join(self, controls: blueprint.Controls) -> None:
        """Keep a place among the nodes that share the store."""
        self._spawn(
            "membership", partial(self._make.membership, self.nodes.own, self.nodes.peers, controls)
        )
        loop, membership = asyncio.get_running_loop(), self.runtime.ref("membership")
        self._listener = self._store.listen(
            lambda: loop.call_soon_threadsafe(membership.tell, NewsHeard())
        )

    def _make_queue(self, route: RoutePlan) -> Queue:
        return self._make.queue(route, is_draining=self.is_draining)

    def _spawn(self, name: str, make: Callable[[], Any]) -> None:
        self.children.add(name)
        self.runtime.spawn(name, make, on_crash=self._child_crashed)

    async def _await_start(self) -> None:
        try:
            async with asyncio.timeout(START_S):
                for each in self.runtime.statistics():
                    await self.runtime.started(each.name, START_S)
        except (TimeoutError, ClarionError) as error:
            log.error("start_incomplete", error=str(error))

    # --- crashes ---------------------------------------------------------------------------

    def _child_crashed(self, report: CrashReport) -> None:
        self.runtime.ref("supervisor").tell(
            ActorCrashed(
                report.name, repr(report.exception), report.message_type, report.crash_number
            )
        )

    def _guard_supervisor(self, _report: CrashReport) -> None:
        decision = self._guard.record(self.clock.monotonic())
        delay_s = SLOW_RETRY_S if decision.is_over else decision.delay_s
        log.error("supervisor_crashed", crashes=decision.number, restart_in_s=round(delay_s, 3))
        asyncio.get_running_loop().call_later(delay_s, self._restart_supervisor)

    def _restart_supervisor(self) -> None:
        self.metrics.actor_restarts("supervisor").inc()
        self.runtime.restart("supervisor")

    def _give_up(self, name: str, why: str = "it keeps crashing") -> None:
        log.critical("giving_up", actor=name, why=f"{why}; all accepted work is on disk")
        self.failed.set()

    async def _watch_hung(self) -> None:
        while True:
            await asyncio.sleep(HUNG_CHECK_S)
            for each in self.runtime.hung():
                log.error(
                    "actor_hung", actor=each.name, message=each.message_type, age_s=each.age_s
                )
                self.runtime.interrupt(each.name)

    # --- stop ------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Accept and dispatch no more, and let calls that are out end, `server.drain` at most."""
        self.is_draining = True
        try:
            async with asyncio.timeout(self.settings.server.drain):
                # All at once: a lane that is told late takes work until then.
                lanes = (self._drain_lane(f"queue:{route.channel}") for route in self._routes)
                await asyncio.gather(*lanes)
        except TimeoutError:
            log.warning("drain_incomplete", left="calls still out keep their intent on disk")

    async def _drain_lane(self, name: str) -> None:
        while True:
            try:
                await self.runtime.ref(name).ask(Drain(), self.settings.server.drain)
            except ClarionError as error:  # its actor crashed meanwhile: tell the next instance
                log.warning("drain_again", actor=name, error=str(error))
                await asyncio.sleep(HUNG_CHECK_S / 100)
            else:
                return

    async def stop(self) -> None:
        """Stop the actors, then make durable what they still had to say."""
        if self._hung_check is not None:
            self._hung_check.cancel()
        if self._listener is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._around.executor, self._listener.close)
        for each in reversed(self.runtime.statistics()):
            if each.name != "journal":
                await self.runtime.stop(each.name, STOP_S)
        if self._store.is_shared and self._writer is not None and not self.failed.is_set():
            await self._leave()
        if self._writer is not None:
            await self._flush(self._writer)
        await self.runtime.close(STOP_S)
        self.reader.close()
        self._store.close()

    async def _leave(self) -> None:
        """Give to the other nodes what this one has, so that they need not miss it first."""
        try:
            await self.runtime.ref("journal").ask(Leave("", self.clock.now()), STOP_S)
        except Exception as error:  # whatever it was, what is left has to be flushed
            log.warning("place_not_given_up", error=repr(error))

    async def _flush(self, writer: Writer) -> None:
        """Commit what the actors told the Journal, and hear of it while the Journal lives."""
        journal = self.runtime.ref("journal")
        try:
            await journal.ask(Snapshot())  # Behind every command that was told before.
        except ClarionError as error:
            log.error("journal_silent", error=str(error))
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._around.executor, writer.close, STOP_S):
            log.error("flush_incomplete", left=writer.pending)


@asynccontextmanager
async def running(
    settings: Settings, surroundings: Surroundings | None = None
) -> AsyncIterator[Engine]:
    """Start an engine, and stop it at the end of the block."""
    engine = Engine(settings, surroundings)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def start(
    settings: Settings | str | Path | None = None, **overrides: Mapping[str, Any]
) -> AsyncIterator[Service]:
    """Run Clarion inside this process, without HTTP, and hand out its service.

    `settings` is a path (default: `settings.toml` where there is one) or loaded settings.
    Raises: SettingsError, StoreLocked, StorageUnavailable.
    """
    loaded = settings if isinstance(settings, Settings) else load(settings, overrides=overrides)
    async with running(loaded) as engine:
        try:
            yield engine.service
        finally:
            await engine.drain()
