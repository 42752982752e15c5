"""An address: the name, mailbox and tasks of an actor, whose instances come and go.

::

    starting ──on_start ends──> running ──stop──> stopped
        │  ▲                     │                  ▲
        │  └──restart── crashed <┘ escaped          │
        └───raised────────┘  └──────────stop────────┘

One asyncio task per address lives through all of this. While crashed, nothing runs and the
mailbox collects; `Runtime.restart` is the way out. The message that crashed an instance is given
to the next one first, once; then it is quarantined.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Callable
from contextvars import Context as TaskContext
from typing import TYPE_CHECKING, Any

import pykka
import structlog
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr

from clarion.actors.actor import NO_REPLY, Actor, Crash, Handler, newborn
from clarion.actors.context import Context, Ref
from clarion.actors.future import Reply, forward
from clarion.actors.mailbox import Envelope, Mailbox, Stop, bury, fail
from clarion.actors.report import (
    ActorStatistics,
    CrashReport,
    Quarantined,
    State,
    log_crash,
    log_failure,
    traceback_text,
)
from clarion.errors import ActorError, ClarionError

if TYPE_CHECKING:
    from clarion.actors.runtime import Runtime

log = structlog.get_logger(__name__)

FAIR_SHARE = 64
"""Messages handled in a row before the other tasks of the loop get a turn."""

_PROXY_MESSAGES = (ProxyCall, ProxyGetAttr, ProxySetAttr)


class Address:
    """The part of an actor that survives it; internal to the runtime."""

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        factory: Callable[[], Actor],
        on_crash: Callable[[CrashReport], None] | None,
    ) -> None:
        self.runtime = runtime
        self.name = name
        self.loop = runtime.loop
        self.state: State = "starting"
        self.actor_ref: pykka.ActorRef[Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_running = asyncio.Event()
        self.mailbox = Mailbox(
            name, runtime.intake_bound, self.loop,
            on_ask=runtime.deadlines.watch, on_stop=self._note_stop,
        )  # fmt: skip
        self.ref = Ref(self)
        self.context = Context(self)
        self.handled = 0
        self.crashes = 0
        self.last_error: BaseException | None = None
        self._factory = factory
        self._on_crash = on_crash
        self._actor: Actor | None = None
        self._newest: Actor | None = None
        self._handlers: dict[type, Handler] = {}
        self._envelope: Envelope | None = None
        self._retry: Envelope | None = None
        self._since: float | None = None
        self._stops: list[Envelope] = []
        self._may_go_on = asyncio.Event()
        self._is_stop_waiting = False
        self._is_interrupted = False

    # --- seen from outside -------------------------------------------------------------------

    @property
    def current_reply(self) -> Reply | None:
        """The reply of the ask in hand."""
        return None if self._envelope is None else self._envelope.reply_to

    def statistics(self) -> ActorStatistics:
        """Describe the address as it stands."""
        return ActorStatistics(
            self.name, self.state, len(self.mailbox), self.handled, self.crashes,
            self.message_type, None if self._since is None else self.loop.time() - self._since,
        )  # fmt: skip

    @property
    def message_type(self) -> str:
        """Type of the message in hand; "" when there is none."""
        return "" if self._envelope is None else type(self._envelope.message).__name__

    def restart(self) -> None:
        """Let a fresh instance take over; does nothing unless crashed."""
        if self.state == "crashed":
            self._may_go_on.set()

    def interrupt(self) -> None:
        """Make what is in hand a crash, wherever it waits; does nothing between messages."""
        if self._since is not None and self.task is not None and not self._is_interrupted:
            self._is_interrupted = True
            self.task.cancel("interrupted")

    def _note_stop(self) -> None:
        self._is_stop_waiting = True
        self._may_go_on.set()

    # --- birth -------------------------------------------------------------------------------

    def open(self) -> None:
        """Construct the first instance, register it with pykka and start the loop."""
        try:
            self._construct()
        except Exception as error:  # the actor boundary: the loop reports it
            self.last_error = error
        self.start()

    def start(self) -> None:
        """Start the task that is the actor's loop, in a context of its own."""
        # An empty context: log fields and the like of whoever spawns must not stick for life.
        self.task = self.loop.create_task(
            self._live(), name=f"actor:{self.name}", context=TaskContext()
        )
        self.runtime.note_task(self.task, self)

    def adopt(self, actor: Actor) -> None:
        """Give an instance under construction the URN and reference of its forerunners."""
        self._newest = actor
        if self.actor_ref is None:
            self.actor_ref = actor.actor_ref
            pykka.ActorRegistry.register(self.actor_ref)
            return
        actor.actor_urn = self.actor_ref.actor_urn
        actor.actor_stopped = self.actor_ref.actor_stopped
        actor._actor_ref = self.actor_ref  # noqa: SLF001 - pykka has no other way to rebind
        self.actor_ref._actor_weakref = weakref.ref(actor)  # noqa: SLF001 - the same
        self.actor_ref.actor_class = type(actor)

    def _construct(self) -> None:
        token = newborn.set(self)
        try:
            actor = self._factory()
        finally:
            newborn.reset(token)
        newest, self._newest = self._newest, None
        if newest is not actor:
            raise TypeError(f"the factory of {self.name} must make a new Actor at every call")
        self._actor = actor
        self._handlers = type(actor).handler_table

    # --- life --------------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            while self.state != "stopped":
                try:
                    await self._start_instance()
                    await self._serve()
                    await self._stop_instance()
                except BaseException as error:  # the actor boundary; see _is_fatal
                    if self._is_fatal(error):
                        raise
                    self._crash(error)
                    await self._wait_for_restart()
        finally:
            self._bury_all()

    def _is_fatal(self, error: BaseException) -> bool:
        """Tell what ends the address (or the process) from an ordinary failure."""
        if isinstance(error, asyncio.CancelledError):
            return not self._is_handler_cancelled()
        return isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit))

    def _is_handler_cancelled(self) -> bool:
        # cancelling() counts requests to cancel *us*: 0 means that something awaited was.
        self._lay_down()
        return self.task is not None and self.task.cancelling() == 0

    def _lay_down(self) -> None:
        """Note that nothing is in hand to wait for, so an interrupt has had its effect."""
        self._since = None
        if self._is_interrupted and self.task is not None:
            self._is_interrupted = False
            self.task.uncancel()

    async def _start_instance(self) -> None:
        self._since = self.loop.time()
        if self._actor is None:
            if self.last_error is not None and self.crashes == 0:
                raise self.last_error
            self._construct()
        assert self._actor is not None
        await _finished(self._actor.on_start())
        self._lay_down()
        self.state = "running"
        self.is_running.set()

    async def _serve(self) -> None:
        await self._redeliver()
        take, time = self.mailbox.take, self.loop.time
        while not self._stops:
            for _ in range(FAIR_SHARE):
                envelope = take()
                if envelope is None:
                    self._envelope = None
                    await self.mailbox.wait()
                    continue
                reply = envelope.reply_to
                if reply is not None and reply.is_void(time()):
                    continue
                waiting = self._handle(envelope)
                if waiting is not None:
                    await self._finish(waiting, reply)
                elif self._stops:
                    return
            self._envelope = None
            await asyncio.sleep(0)

    async def _redeliver(self) -> None:
        """Give the message that crashed the forerunner its one more chance."""
        envelope = self._retry
        if envelope is None:
            return
        reply = envelope.reply_to
        if reply is None or not reply.is_void(self.loop.time()):
            waiting = self._handle(envelope)
            if waiting is not None:
                await self._finish(waiting, reply)
        self._retry = None

    def _handle(self, envelope: Envelope) -> Awaitable[Any] | None:
        """Give a message to its handler; returns what is still to be awaited."""
        self._envelope = envelope
        self.handled += 1
        message, reply = envelope.message, envelope.reply_to
        handler: Handler = self._handlers.get(type(message), self._handle_other)
        try:
            result = handler(self._actor, message)
        except ClarionError as error:
            if reply is None:
                raise
            reply.set_exception(error)
            return None
        if result is None and reply is None:
            return None
        return self._answer(result, reply)

    def _answer(self, result: Any, reply: Reply | None) -> Awaitable[Any] | None:
        if result is None:
            if reply is not None:
                reply.set(None)
        elif result is NO_REPLY:
            return None
        elif isinstance(result, pykka.Future):
            if reply is not None:
                self._defer(result, reply)
        elif hasattr(result, "__await__"):
            awaitable: Awaitable[Any] = result
            return awaitable
        elif reply is not None:
            reply.set(result)
        return None

    async def _finish(self, waiting: Awaitable[Any], reply: Reply | None) -> None:
        self._since = self.loop.time()
        try:
            result = await waiting
        except ClarionError as error:
            if reply is None:
                raise
            reply.set_exception(error)
        else:
            self._answer(result, reply)
        self._lay_down()

    def _defer(self, future: pykka.Future[Any], reply: Reply) -> None:
        if isinstance(future, Reply):
            future.forward_to(reply)
        else:
            self.context.start_task(forward(future, reply), name=f"forward:{self.name}")

    def _handle_other(self, actor: Actor, message: Any) -> Any:
        """Handle what has no handler: the stop, pykka's proxies, or an unknown message."""
        if type(message) is Stop:
            assert self._envelope is not None
            self._stops.append(self._envelope)
            return NO_REPLY
        if isinstance(message, _PROXY_MESSAGES):
            return actor._handle_receive(message)  # noqa: SLF001 - pykka keeps its proxies
        log.warning("message_unknown", actor=self.name, message_type=self.message_type)
        if self.current_reply is not None:
            raise ActorError(f"{self.name} does not handle {self.message_type} messages")
        return None

    # --- crashes -----------------------------------------------------------------------------

    def _crash(self, error: BaseException) -> None:
        self.crashes += 1
        report = CrashReport(
            self.name, error, traceback_text(error), self.message_type,
            self.state == "starting", self.crashes,
        )  # fmt: skip
        actor, self._actor = self._actor, None
        self._lay_down()
        self.state = "crashed"
        self.is_running.clear()
        self._may_go_on.clear()
        self.last_error = error
        self.context.cancel_timers()
        log_crash(report)
        self._keep_or_quarantine(error)
        self._tell_crash(actor, report)

    def _keep_or_quarantine(self, error: BaseException) -> None:
        message_type = self.message_type
        envelope, self._envelope = self._envelope, None
        if envelope is None:
            return
        if isinstance(envelope.message, Crash):
            fail(envelope, error)
        elif envelope is self._retry:
            self._retry = None
            fail(envelope, error)
            self.runtime.quarantine.append(Quarantined(self.name, envelope.message, error))
            log_failure("message_quarantined", self.name, error, message_type=message_type)
        else:
            self._retry = envelope

    def _tell_crash(self, actor: Actor | None, report: CrashReport) -> None:
        error, on_crash = report.exception, self._on_crash or self.runtime.on_crash
        try:
            if actor is not None:
                actor.on_failure(type(error), error, error.__traceback__)
            if on_crash is not None:
                on_crash(report)
        except Exception as hook_error:  # the actor boundary: as a failing hook
            log_failure("crash_hook_failed", self.name, hook_error)

    async def _wait_for_restart(self) -> None:
        await asyncio.sleep(0)  # an instant restart of a failing start must not starve the loop
        if not self._is_stop_waiting:
            await self._may_go_on.wait()
        self.state = "stopped" if self._is_stop_waiting else "starting"

    # --- death -------------------------------------------------------------------------------

    async def _stop_instance(self) -> None:
        assert self._actor is not None
        self._close_door()
        try:
            await _finished(self._actor.on_stop())
        except BaseException as error:  # the actor boundary: it stops all the same, as in pykka
            if self._is_fatal(error):
                raise
            log_failure("stop_hook_failed", self.name, error)
        self.state = "stopped"

    def _close_door(self) -> None:
        """Take nothing more in; pykka's order: unregistered and dead before on_stop runs."""
        self._envelope = None
        # In this order: a thread that finds the reference alive must find the mailbox open.
        if self.actor_ref is not None and self.actor_ref.is_alive():
            pykka.ActorRegistry.unregister(self.actor_ref)
            self.actor_ref.actor_stopped.set()
        self.mailbox.close()

    def _bury_all(self) -> None:
        """Answer everyone who would wait in vain; whatever it was that ended us."""
        self.state = "stopped"
        in_hand = [each for each in (self._envelope, self._retry) if each is not None]
        self._close_door()
        self._actor = self._retry = self._since = None
        self.is_running.set()
        self.context.cancel_timers()
        left = [*self._stops, *in_hand, *self.mailbox.drain()]
        lost = sum(bury(envelope, self.name) for envelope in left)
        if lost:
            log.warning("messages_lost", actor=self.name, messages=lost)


async def _finished(result: Awaitable[None] | None) -> None:
    if inspect.isawaitable(result):
        await result
