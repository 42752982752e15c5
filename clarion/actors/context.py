"""What is handed out of an address: the reference to it, and the context of its instances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pykka

from clarion.actors.future import Died, Reply
from clarion.actors.mailbox import Envelope
from clarion.actors.report import log_failure
from clarion.errors import ActorError, MailboxFull

if TYPE_CHECKING:
    from clarion.actors.address import Address
    from clarion.actors.runtime import Runtime
    from clarion.policies.clock import Clock


class Ref:
    """How everyone else reaches an actor: valid for as long as the address is, over crashes."""

    __slots__ = ("_address", "_put", "_runtime", "_watch", "name")

    def __init__(self, address: Address) -> None:
        self.name = address.name
        self._address = address
        self._runtime = address.runtime
        self._put = address.mailbox.put
        self._watch = address.runtime.deadlines.watch

    def __repr__(self) -> str:
        return f"<Ref {self.name}>"

    @property
    def actor_ref(self) -> pykka.ActorRef[Any]:
        """The pykka reference underneath, with pykka's semantics. Raises: ActorDead."""
        if self._address.actor_ref is None:
            raise Died(f"no instance of {self.name} could be made yet")
        return self._address.actor_ref

    def is_alive(self) -> bool:
        """Say whether the address takes messages: it does until it is stopped, crashed or not."""
        return self._address.state != "stopped"

    def tell(self, message: Any) -> None:
        """Send, from any thread, without an answer. Raises: ActorDead, MailboxFull."""
        self._put(Envelope(message))

    def ask(self, message: Any, timeout_s: float | None = None) -> Reply:
        """Send, from any thread, and return the reply to await (or to `.get()` in a thread).

        `timeout_s` None means the runtime's default; inside a handler the deadline of the ask in
        hand bounds it. ActorDead and MailboxFull fail the reply, nothing is raised here.
        """
        runtime = self._runtime
        limit_s = runtime.ask_timeout_s if timeout_s is None else timeout_s
        reply = Reply(limit_s, (self.name, type(message)))
        try:
            self._put(Envelope(message, reply))
        except (ActorError, MailboxFull) as error:
            reply.set_exception(error)
            return reply
        if runtime.is_own_thread():  # from elsewhere, its time starts when it gets to the loop
            self._watch(reply, runtime.deadline_in_hand())
        return reply


class TimerHandle:
    """A message to self that is still to come."""

    __slots__ = ("__weakref__", "_handle", "_timers")

    def __init__(self, timers: set[TimerHandle]) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._timers = timers

    def start(
        self, loop: asyncio.AbstractEventLoop, delay_s: float, fire: Callable[[], None]
    ) -> None:
        """Call `fire` on the loop after `delay_s` seconds."""

        def due() -> None:
            self._timers.discard(self)
            fire()

        self._timers.add(self)
        self._handle = loop.call_later(max(0.0, delay_s), due)

    def cancel(self) -> None:
        """Let it not come; harmless when it came already."""
        self._timers.discard(self)
        if self._handle is not None:
            self._handle.cancel()


class Context:
    """What an address gives to each of its instances: references, timers and tasks."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: set[TimerHandle] = set()
        self.runtime: Runtime = address.runtime
        self.clock: Clock = address.runtime.clock

    @property
    def ref(self) -> Ref:
        """The actor's own reference."""
        return self._address.ref

    @property
    def reply(self) -> Reply | None:
        """Where the answer to the message in hand goes; see `Actor.reply`."""
        return self._address.current_reply

    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """The address's tasks that have not ended."""
        return frozenset(self._tasks)

    def ref_of(self, name: str) -> Ref:
        """Return another actor's reference. Raises: NotFound."""
        return self.runtime.ref(name)

    def start_task(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a task of the address: it outlives a crash, not the stop.

        An exception that escapes is logged. Raises: ActorDead after the stop.
        """
        if self._address.state == "stopped":
            coroutine.close()
            raise Died(f"{self._address.name} has stopped and starts no task {name!r}")
        task = self._address.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log_failure("task_failed", self._address.name, error, task=task.get_name())

    def later(self, delay_s: float, message: Any) -> TimerHandle:
        """Tell self `message` after `delay_s` seconds, past the bound; a crash cancels it."""
        timer = TimerHandle(self._timers)
        mailbox = self._address.mailbox
        timer.start(self._address.loop, delay_s, lambda: mailbox.put_unbounded(Envelope(message)))
        return timer

    def cancel_timers(self) -> None:
        """Cancel what the instance that ends had still to tell itself."""
        for timer in list(self._timers):
            timer.cancel()
