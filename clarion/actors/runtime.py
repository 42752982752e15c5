"""The asyncio engine below all actors: pykka's model, one event loop, addresses that outlive bugs.

`Runtime` spawns actors by name, restarts and stops them, and knows how they stand. It decides
nothing: when to restart is the Supervisor's business. How one actor lives is `address`; what is
known to the rest of Clarion is imported from here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

import structlog

from clarion.actors.actor import NO_REPLY, Actor, Crash, InjectedCrash, handles
from clarion.actors.address import Address
from clarion.actors.context import Context, Ref, TimerHandle
from clarion.actors.future import Deadlines, Reply
from clarion.actors.mailbox import Envelope, Stop
from clarion.actors.report import ActorStatistics, CrashReport, Quarantined, log_failure
from clarion.actors.watchdog import LoopWatchdog
from clarion.errors import ActorDead, AskTimeout, NotFound
from clarion.policies.clock import Clock

__all__ = [
    "NO_REPLY", "Actor", "ActorStatistics", "Context", "Crash", "CrashReport", "InjectedCrash",
    "LoopWatchdog", "Quarantined", "Ref", "Reply", "Runtime", "TimerHandle", "handles",
]  # fmt: skip

T = TypeVar("T")

log = structlog.get_logger(__name__)

QUARANTINE_SIZE = 100
"""Messages kept for inspection; older ones are forgotten."""
KILL_GRACE_S = 1.0
"""How long a cancelled task may take to end before it is left to itself."""


class Runtime:
    """Keeps the actors of one event loop, by name."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Callable[[], float],
        ask_timeout_s: float = 5.0,
        hung_after_s: float = 30.0,
        intake_bound: int = 10_000,
        on_crash: Callable[[CrashReport], None] | None = None,
    ) -> None:
        """`on_crash` hears of the crashes of actors that were spawned without one of their own."""
        self.clock = clock
        self.rng = rng
        self.ask_timeout_s = ask_timeout_s
        self.hung_after_s = hung_after_s
        self.intake_bound = intake_bound
        self.on_crash = on_crash
        self.quarantine: deque[Quarantined] = deque(maxlen=QUARANTINE_SIZE)
        self._addresses: dict[str, Address] = {}
        self._by_task: dict[asyncio.Task[Any] | None, Address] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines: Deadlines | None = None
        self._thread = 0
        self._watchdog: LoopWatchdog | None = None

    # --- the loop ----------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the actors: the one that ran at the first use."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._deadlines = Deadlines(self._loop)
            self._thread = get_ident()
        return self._loop

    @property
    def deadlines(self) -> Deadlines:
        """What fails overdue asks."""
        assert self._deadlines is not None
        return self._deadlines

    def is_own_thread(self) -> bool:
        """Say whether the calling thread is the one of the actors."""
        return get_ident() == self._thread

    def deadline_in_hand(self) -> float | None:
        """Return the deadline (loop time) of the ask that the running handler answers."""
        address = self._by_task.get(asyncio.current_task(self._loop))
        if address is None:
            return None
        reply = address.current_reply
        return None if reply is None else reply.deadline

    def note_task(self, task: asyncio.Task[Any], address: Address) -> None:
        """Remember whose task this is, until it ends."""
        self._by_task[task] = address
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        address = self._by_task.pop(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # an exit has gone through the loop already
            log_failure("actor_loop_failed", address.name, error)

    # --- lives -------------------------------------------------------------------------------

    def spawn(
        self,
        name: str,
        factory: Callable[[], Actor],
        *,
        on_crash: Callable[[CrashReport], None] | None = None,
    ) -> Ref:
        """Start an actor on the running loop; `factory` makes each of its instances.

        A constructor that fails is a crash, not an error here. The name of a stopped actor may
        be used again. Raises: ValueError when the name is taken.
        """
        old = self._addresses.get(name)
        if old is not None and old.state != "stopped":
            raise ValueError(f"there is an actor {name!r} already; names are unique")
        loop = self.loop
        if asyncio.get_running_loop() is not loop:
            raise RuntimeError(f"{name!r} must be spawned on the loop of the other actors")
        address = Address(self, name, factory, on_crash)
        self._addresses.pop(name, None)  # so that a name used again goes to the end of the order
        self._addresses[name] = address
        address.open()
        return address.ref

    def restart(self, name: str) -> None:
        """Make a fresh instance behind the same address; does nothing unless it is crashed.

        Raises: NotFound.
        """
        self._address(name).restart()

    def withdraw(self, name: str, kind: type[T]) -> list[T]:
        """Take back the messages of a kind that an actor has not begun with. Raises: NotFound."""
        return self._address(name).mailbox.withdraw(kind)

    def interrupt(self, name: str) -> None:
        """Turn what an actor is waiting for in a handler (or `on_start`) into a crash.

        The way out for a hung one. Raises: NotFound.
        """
        self._address(name).interrupt()

    def ref(self, name: str) -> Ref:
        """Return an actor's reference. Raises: NotFound."""
        return self._address(name).ref

    async def started(self, name: str, timeout_s: float | None = None) -> None:
        """Wait until an instance has started, restarts included (default: the ask timeout).

        Raises: NotFound; AskTimeout (caused by the last crash, if there was one); ActorDead.
        """
        address = self._address(name)
        limit_s = self.ask_timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await address.is_running.wait()
        except TimeoutError:
            raise AskTimeout(f"{name} did not start within {limit_s:g} s") from address.last_error
        if address.state == "stopped":
            raise ActorDead(f"{name} has stopped")

    async def stop(self, name: str, timeout_s: float) -> None:
        """Stop an actor: what was sent before is handled first, then `on_stop`, then its tasks.

        What has not ended after `timeout_s` seconds is cancelled. Raises: NotFound.
        """
        address = self._address(name)
        until = self.loop.time() + timeout_s
        address.mailbox.put_unbounded(Envelope(Stop()))
        if address.task is not None:
            await self._end({address.task}, until, name)
        await self._end(set(address.context.tasks), until, name)

    async def _end(self, tasks: set[asyncio.Task[Any]], until: float, name: str) -> None:
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=max(0.0, until - self.loop.time()))
        if not late:
            return
        names = sorted(task.get_name() for task in late)
        log.warning("stop_overdue", actor=name, cancelled=names)
        for task in late:
            task.cancel()
        await asyncio.wait(late, timeout=KILL_GRACE_S)

    async def close(self, timeout_s: float) -> None:
        """Stop what remains, last spawned first, all within `timeout_s` seconds."""
        if self._loop is not None:
            until = self._loop.time() + timeout_s
            for name in reversed(list(self._addresses)):
                await self.stop(name, max(0.0, until - self._loop.time()))
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog.join(KILL_GRACE_S)
            self._watchdog = None

    def _address(self, name: str) -> Address:
        try:
            return self._addresses[name]
        except KeyError:
            raise NotFound("actor", name) from None

    # --- how they stand ----------------------------------------------------------------------

    def statistics(self) -> list[ActorStatistics]:
        """Describe every actor, in the order of their spawning."""
        return [address.statistics() for address in self._addresses.values()]

    def hung(self) -> list[ActorStatistics]:
        """Name the actors that have had the same message in hand for over `hung_after_s`."""
        return [each for each in self.statistics() if (each.age_s or 0.0) > self.hung_after_s]

    def watch_loop(self, threshold_s: float = 0.5) -> None:
        """Start the thread that notices a blocked loop; not for a loop with virtual time."""
        if self._watchdog is None:
            self._watchdog = LoopWatchdog(
                self.loop, threshold_s=threshold_s, describe=self._describe
            )
            self._watchdog.start()

    def _describe(self, task: asyncio.Task[Any]) -> str:
        address = self._by_task.get(task)
        if address is None:
            return f"task {task.get_name()}"
        return f"{address.name} handling {address.message_type or 'its start or stop'}"

    @property
    def loop_lag_s(self) -> float:
        """Seconds by which the loop last ran late; 0 while nothing watches it."""
        return 0.0 if self._watchdog is None else self._watchdog.lag_s
