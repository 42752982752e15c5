"""Every exception of Clarion.

::

    ClarionError
    ├── SettingsError              the settings are wrong; lists every fault
    ├── InvalidNotification        a request is wrong; lists every fault with its JSON pointer
    ├── Refused                    a request was understood and not accepted; nothing was stored
    │   ├── MailboxFull            an actor's intake is full: try again soon
    │   ├── LaneFull               a lane holds max_pending notifications
    │   ├── LaneClosed             a lane is down or shutting down
    │   ├── StorageUnavailable     the disk is full or failing: nothing can be made durable now
    │   └── Unanswered             no answer came in time: whether it took effect is not known
    ├── IdempotencyConflict        the key was used with another body
    ├── NotFound                   no such notification, lane or provider
    ├── Conflict                   the notification's state does not allow this
    ├── CircuitOpen                a breaker rejects the call
    ├── RedisAway                  Redis cannot be used now; nobody's work depends on it
    ├── ActorError
    │   ├── ActorDead              the actor stopped before it answered
    │   ├── AskTimeout             no answer within the deadline
    │   └── WouldDeadlock          a blocking wait on the event loop's own thread
    └── StoreLocked                another process writes to the database
        └── StoreTaken             ... and has written since this one lost it: only a restart helps
"""

from __future__ import annotations

from dataclasses import dataclass


class ClarionError(Exception):
    """Base of everything that Clarion raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input: a sentence, and where (a JSON pointer or a key)."""

    detail: str
    pointer: str


class SettingsError(ClarionError):
    """The settings cannot be used; `faults` lists everything that is wrong with them."""

    def __init__(self, faults: list[Fault]) -> None:
        lines = "\n".join(f"  {fault.pointer}: {fault.detail}" for fault in faults)
        n = len(faults)
        super().__init__(f"the settings have {n} fault{'s' if n != 1 else ''}:\n{lines}")
        self.faults = faults


class InvalidNotification(ClarionError):
    """A request does not describe a notification that can be sent; `faults` lists why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults))
        self.faults = faults


class Refused(ClarionError):
    """A request was understood and not accepted; nothing was stored.

    `retry_after_s` is the time in seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MailboxFull(Refused):
    """An actor's intake is full: more arrives than can be written down."""


class LaneFull(Refused):
    """A lane already holds `queue.max_pending` notifications."""


class LaneClosed(Refused):
    """A lane does not accept now: it is starting, failing or shutting down."""


class StorageUnavailable(Refused):
    """The store cannot write now: the disk is full or failing."""


class Unanswered(Refused):
    """No answer came in time: unlike other refusals, this one may have taken effect."""


class IdempotencyConflict(ClarionError):
    """The idempotency key was used before, with another body."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was already used with another body")
        self.key = key


class NotFound(ClarionError):
    """No such thing: `kind` says what was looked for, `name` which one."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind = kind
        self.name = name


class Conflict(ClarionError):
    """The present state does not allow what was asked."""


class CircuitOpen(ClarionError):
    """A breaker rejects the call; `retry_after` is in seconds, None while it is forced open."""

    def __init__(self, name: str, retry_after: float | None) -> None:
        wait = "until it is reset" if retry_after is None else f"for {retry_after:.1f} s"
        super().__init__(f"the circuit of {name!r} is open {wait}")
        self.name = name
        self.retry_after = retry_after


class RedisAway(ClarionError):
    """Redis cannot be used now; `reason` says why, `retry_in_s` when trying again makes sense."""

    def __init__(self, name: str, reason: str, retry_in_s: float) -> None:
        super().__init__(f"{name} cannot be used: {reason}")
        self.reason = reason
        self.retry_in_s = retry_in_s


class ActorError(ClarionError):
    """Base of what can go wrong between actors."""


class ActorDead(ActorError):
    """The actor stopped, or is not there, so no answer will come."""


class AskTimeout(ActorError):
    """No answer came within the deadline; the message is dropped if it is still unread."""


class WouldDeadlock(ActorError):
    """A blocking `.get()` on the event loop would wait for itself; await the reply instead."""


class StoreLocked(ClarionError):
    """Another process writes to the database."""


class StoreTaken(StoreLocked):
    """Another process has written since this one lost the database: its memory is of the past."""
