"""The mailbox of an address: two lanes, one bound, open to every thread.

Internal messages (class attribute `is_intake` False) answer or settle admitted work: they are
never refused and are served first. All others are intake, at most `bound` of them. Order is kept
per sender inside a lane. A stop is intake that passes the bound, so everything sent before it is
handled first. It belongs to the address and outlives the instances that read it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from pykka.messages import _ActorStop as Stop

from clarion.actors.future import Died, Reply
from clarion.errors import MailboxFull

if TYPE_CHECKING:

    class Envelope:
        """A message and, for an ask, its reply: pykka's own class, as our actors make it."""

        message: Any
        reply_to: Reply | None

        def __init__(self, message: Any, reply_to: Reply | None = None) -> None: ...
else:
    from pykka._envelope import Envelope

T = TypeVar("T")

__all__ = ["Envelope", "Mailbox", "Stop", "bury", "fail"]


class Mailbox:
    """What waits for one actor; pykka's inbox protocol and a little more."""

    def __init__(
        self,
        name: str,
        bound: int,
        loop: asyncio.AbstractEventLoop,
        *,
        on_ask: Callable[[Reply], None],
        on_stop: Callable[[], None],
    ) -> None:
        """`on_ask` hears of asks from other threads, `on_stop` of a stop; both on the loop."""
        self._name = name
        self._bound = bound
        self._loop = loop
        self._thread = get_ident()
        self._on_ask = on_ask
        self._on_stop = on_stop
        self._internal: deque[Envelope] = deque()
        self._intake: deque[Envelope] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self._foreign: deque[Envelope] = deque()
        self._is_fetch_due = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._internal) + len(self._intake) + len(self._foreign)

    def put(self, envelope: Envelope) -> None:
        """Take in a message, from any thread. Raises: ActorDead, MailboxFull."""
        if self._is_closed:
            raise Died(f"{self._name} has stopped")
        if get_ident() != self._thread:
            self._put_from_thread(envelope)
            return
        is_intake = getattr(envelope.message, "is_intake", None)
        if is_intake is False:
            self._internal.append(envelope)
        else:
            if len(self._intake) >= self._bound:
                self._refuse_intake(envelope)
            self._intake.append(envelope)
            if is_intake is None and type(envelope.message) is Stop:
                self._on_stop()
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def put_unbounded(self, envelope: Envelope) -> None:
        """Take in a message on the loop whatever the bound says: an actor's word to itself."""
        if self._is_closed:
            return
        is_internal = getattr(envelope.message, "is_intake", True) is False
        (self._internal if is_internal else self._intake).append(envelope)
        if type(envelope.message) is Stop:
            self._on_stop()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _refuse_intake(self, envelope: Envelope) -> None:
        if type(envelope.message) is not Stop:
            raise MailboxFull(f"the mailbox of {self._name} is full ({self._bound} messages)")

    # --- from other threads ------------------------------------------------------------------

    def _put_from_thread(self, envelope: Envelope) -> None:
        is_intake = getattr(envelope.message, "is_intake", True)
        if is_intake and len(self._intake) + len(self._foreign) >= self._bound:
            self._refuse_intake(envelope)
        self._foreign.append(envelope)
        with self._lock:
            if self._is_fetch_due:
                return
            self._is_fetch_due = True
        try:
            self._loop.call_soon_threadsafe(self._fetch)
        except RuntimeError as error:
            raise Died(f"the event loop of {self._name} is closed") from error

    def _fetch(self) -> None:
        with self._lock:
            # Before the queue is emptied: what is appended from now on calls for a fetch again.
            self._is_fetch_due = False
        while self._foreign:
            envelope = self._foreign.popleft()
            if self._is_closed:
                bury(envelope, self._name)
                continue
            if envelope.reply_to is not None:
                self._on_ask(envelope.reply_to)
            self.put_unbounded(envelope)

    # --- for the actor -----------------------------------------------------------------------

    def take(self) -> Envelope | None:
        """Return the next message, internal ones first; None when there is none."""
        if self._internal:
            return self._internal.popleft()
        if self._intake:
            return self._intake.popleft()
        return None

    def withdraw(self, kind: type[T]) -> list[T]:
        """Take out what was told of a kind of internal messages, in order; on the loop."""
        taken = [each.message for each in self._internal if type(each.message) is kind]
        if taken:
            left = [each for each in self._internal if type(each.message) is not kind]
            self._internal.clear()
            self._internal.extend(left)
        return taken

    async def wait(self) -> None:
        """Wait until there is something to take."""
        if self._internal or self._intake:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Refuse everything from now on."""
        self._is_closed = True

    def drain(self) -> list[Envelope]:
        """Empty the lanes; returns what was never handled."""
        left = []
        for lane in (self._internal, self._intake, self._foreign):
            while lane:  # one by one: another thread may be appending
                left.append(lane.popleft())
        return left

    # --- pykka's inbox protocol --------------------------------------------------------------

    def get(self) -> Envelope:
        """Return the next message. Raises: queue.Empty."""
        envelope = self.take()
        if envelope is None:
            raise queue.Empty
        return envelope

    def empty(self) -> bool:
        """Say whether nothing waits."""
        return len(self) == 0


def bury(envelope: Envelope, name: str) -> bool:
    """Settle a message that will never be handled; True when a plain tell was lost."""
    reply = envelope.reply_to
    if type(envelope.message) is Stop:
        if reply is not None:
            reply.set(None)
        return False
    if reply is None:
        return True
    reply.set_exception(Died(f"{name} stopped before it handled the message"))
    return False


def fail(envelope: Envelope, error: BaseException) -> None:
    """Answer an ask with an error; a tell has nobody to hear it."""
    if envelope.reply_to is not None:
        envelope.reply_to.set_exception(error)
