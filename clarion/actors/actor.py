"""The base of all actors, and the decorator that makes a method a message handler.

What an actor is written with; how it lives is `address`, who keeps them all is `runtime`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pykka

from clarion.actors.future import Reply
from clarion.actors.mailbox import Mailbox

if TYPE_CHECKING:
    from clarion.actors.address import Address
    from clarion.actors.context import Context

Handler = Callable[[Any, Any], Any]
Method = TypeVar("Method", bound=Callable[..., Any])

_MARK = "_handled_messages"

newborn: ContextVar[Address] = ContextVar("newborn")
"""The address whose actor is being constructed right now."""


class _NoReply:
    """The type of `NO_REPLY`."""

    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY = _NoReply()
"""Returned by a handler that passed `self.reply` on: someone else will answer."""


class InjectedCrash(Exception):
    """What handling a `Crash` raises."""


@dataclass(frozen=True, slots=True)
class Crash:
    """Make any actor crash, to see what its crash costs. Never redelivered."""

    is_intake: ClassVar[bool] = False

    reason: str = "on purpose"


def handles(*message_types: type) -> Callable[[Method], Method]:
    """Make a method the handler of these message types (exactly these, not their subclasses).

    The method may be sync or async and takes the message. Its result answers an ask; a `Reply`
    (or another pykka future) answers when it is done itself while the mailbox goes on; `NO_REPLY`
    leaves the answer to whoever was given `self.reply`.
    """

    def mark(method: Method) -> Method:
        setattr(method, _MARK, message_types)
        return method

    return mark


def handlers_of(actor_class: type) -> dict[type, Handler]:
    """Build the dispatch table of a class; a method overridden by name stays the handler.

    Raises: TypeError when two methods claim the same message.
    """
    names: dict[type, str] = {}
    for base in reversed(actor_class.__mro__):
        claimed: dict[type, str] = {}
        for name, method in vars(base).items():
            for message_type in getattr(method, _MARK, ()):
                if message_type in claimed:
                    raise TypeError(
                        f"{base.__name__} handles {message_type.__name__} twice: "
                        f"in {claimed[message_type]} and {name}"
                    )
                claimed[message_type] = name
        names.update(claimed)
    return {kind: inspect.getattr_static(actor_class, name) for kind, name in names.items()}


class Actor(pykka.Actor):
    """Base of our actors: handles one message at a time on the event loop.

    Construct it through `Runtime.spawn`. `context` and `name` are there from `super().__init__()`
    on. A crash discards the instance; the address, its mailbox and its tasks stay.
    """

    handler_table: ClassVar[dict[type, Handler]] = {}

    name: str
    context: Context

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.handler_table = handlers_of(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        address = newborn.get()
        self.__address = address
        self.name = address.name
        self.context = address.context
        address.adopt(self)

    @property
    def reply(self) -> Reply | None:
        """Where the answer to the message in hand goes; None for a tell. Valid in a handler."""
        return self.__address.current_reply

    def on_start(self) -> Awaitable[None] | None:  # type: ignore[override]  # pykka's is sync
        """Prepare before the first message; sync or async; raising is a crash."""

    def on_stop(self) -> Awaitable[None] | None:  # type: ignore[override]  # pykka's is sync
        """Clean up after the last message; sync or async; not called after a crash."""

    @handles(Crash)
    def _crash_on_purpose(self, message: Crash) -> None:
        raise InjectedCrash(message.reason)

    @staticmethod
    def _create_actor_inbox() -> Mailbox:  # type: ignore[override]  # our typing of Envelope
        address = newborn.get(None)
        if address is None:
            raise RuntimeError("actors are made by Runtime.spawn, which gives them their address")
        return address.mailbox

    @staticmethod
    def _create_future() -> Reply:
        return Reply()

    def _start_actor_loop(self) -> None:
        self.__address.start()


Actor.handler_table = handlers_of(Actor)
