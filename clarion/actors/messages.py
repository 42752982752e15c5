"""The messages between the actors: commands and past facts. Here: what any actor and a Queue takes.

Those of the others stand in `supervisor_messages`, `call_messages` (Breaker and Provider),
`journal_messages` and `redrive_messages`.

`Internal` ones answer or settle work that was admitted already: they are never refused and are
served before new intake. All others are requests from outside and meet the mailbox bound. Hot
messages are slotted and not frozen (a frozen dataclass costs four times as much to make); nobody
changes a message. Commands of `storage.command` are what the Journal is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from clarion.domain.notification import Call, Draft, Job
from clarion.domain.outcome import Answer
from clarion.domain.receipt import Receipt
from clarion.policies.routing import RouteState
from clarion.storage.command import CancelResult, EndedRow, Received, RefilledRows


class Request:
    """From outside: bounded intake."""

    __slots__ = ()
    is_intake: ClassVar[bool] = True


class Internal:
    """Between actors: never refused, served first."""

    __slots__ = ()
    is_intake: ClassVar[bool] = False


# --- requests that any actor answers ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot(Request):
    """Ask an actor how it is; each answers with its own snapshot class below."""


# --- to a Queue ------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Enqueue(Request):
    """Accept drafts. Replies with one item per draft: AcceptedRow | ReplayedRow | ConflictRow.

    Raises (as the reply): LaneFull, LaneClosed, StorageUnavailable.
    """

    drafts: Sequence[Draft]


@dataclass(frozen=True, slots=True)
class CancelNotification(Request):
    """Cancel one notification. Replies with `storage.command.CancelResult`."""

    id: str


@dataclass(slots=True, eq=False)
class ReceiveReceipts(Request):
    """Keep what a provider told. Replies with one `storage.command.Received` per receipt."""

    receipts: Sequence[Receipt]


@dataclass(frozen=True, slots=True)
class PauseLane(Request):
    """Stop taking work from the lane; accepting goes on. Replies None once durable."""

    who: str = "api"


@dataclass(frozen=True, slots=True)
class ResumeLane(Request):
    """Undo `PauseLane`. Replies None once durable."""

    who: str = "api"


@dataclass(slots=True, eq=False)
class Accepted(Internal):
    """Journal -> Queue: these jobs are durable, out of `asked` drafts that are answered now."""

    jobs: list[Job]
    asked: int
    origin: int


@dataclass(slots=True, eq=False)
class Intended(Internal):
    """Journal -> Queue: these calls may go out. `error` is set when nothing was written."""

    demand: int
    origin: int
    calls: Sequence[Call]
    asked: Sequence[Call]
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class Settled(Internal):
    """Provider (or Breaker, for a refusal) -> Queue: a call came to its end."""

    call: Call
    answer: Answer


@dataclass(slots=True, eq=False)
class Recalled(Internal):
    """Supervisor -> Queue: these calls never left; `reason` for the log."""

    calls: Sequence[Call]
    reason: str


@dataclass(slots=True, eq=False)
class Written(Internal):
    """Journal -> Queue: settles, defers and promotes that the disk has now."""

    ended: Sequence[tuple[str, int | None]]
    """(id, call) of finished settles."""
    promoted: Sequence[Job]
    cancelled: Sequence[CancelResult]
    gone: Sequence[EndedRow]
    """Jobs that expired, or were poison, while they waited."""
    received: Sequence[Received]
    """Receipts that ended a job, waiting or with a call out."""
    deferred: int
    """How many were put behind a timer."""
    origin: int
    vanished: Sequence[str] = ()
    """Jobs that were to be promoted, and whose rows are gone or stand elsewhere by now."""


@dataclass(slots=True, eq=False)
class Refilled(Internal):
    """Journal -> Queue: ready rows behind the head, and those that nobody had."""

    priority: int
    found: RefilledRows
    origin: int


@dataclass(slots=True, eq=False)
class TimersLoaded(Internal):
    """Journal -> Queue: timers of the near future."""

    jobs: list[Job]
    next_timer_at: float | None
    origin: int


@dataclass(frozen=True, slots=True)
class StorageChanged(Internal):
    """Journal -> Queues: whether the store can write; `reason` says why not."""

    is_writable: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Room for `n` calls at one provider, offered by a Demand."""

    provider: str
    n: int
    is_probe: bool = False
    is_fallback_only: bool = False
    why: str = ""
    ahead: int = 0
    """How many of the `n` will wait for a slot."""


@dataclass(slots=True, eq=False)
class Demand(Internal):
    """Supervisor -> Queue: these places are reserved for your lane; fill what you can."""

    id: int
    epoch: int
    places: tuple[Place, ...]
    passed_over: tuple[tuple[str, str], ...]
    """(provider, why it takes nothing now)."""


@dataclass(frozen=True, slots=True)
class Route(Internal):
    """Supervisor -> Queue: the lane's providers in order, at every change."""

    epoch: int
    states: tuple[RouteState, ...]


@dataclass(frozen=True, slots=True)
class ReportLane(Internal):
    """Supervisor -> Queue: tell me all about you (after the Supervisor's restart)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Drain(Internal):
    """App -> Queue: take no more work (shutdown). Replies None when the last call has ended."""


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """How a lane stands; what `GET /v1/queues`, `held` and the metrics show."""

    channel: str
    is_paused: bool
    is_held: bool
    held_reason: str | None
    ready: int
    scheduled: int
    waiting: int
    """Timed: retries and receipts."""
    in_flight: int
    oldest_at: float | None
    """Accept time of the job at the head of the lane; None when empty."""
    in_memory: int
    is_accepting: bool
    route: tuple[RouteState, ...]
