"""The messages between the actors: commands and past facts, by actor.

`Internal` ones answer or settle work that was admitted already: they are never refused and are
served before new intake. All others are requests from outside and meet the mailbox bound. Hot
messages are slotted and not frozen (a frozen dataclass costs four times as much to make); nobody
changes a message. Commands of `storage.command` are what the Journal is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from clarion.domain.notification import Call, Draft, Job, Status
from clarion.domain.outcome import Answer, Health
from clarion.domain.receipt import Receipt
from clarion.policies.routing import RouteState, Wants
from clarion.storage.command import CancelResult


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
    expired: Sequence[str]
    received: Sequence[str]
    """Ids of jobs that a receipt ended, waiting or with a call out."""
    origin: int


@dataclass(slots=True, eq=False)
class Refilled(Internal):
    """Journal -> Queue: ready rows behind the head."""

    priority: int
    jobs: list[Job]
    is_spilled: bool
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


# --- to the Supervisor -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready(Internal):
    """Queue -> Supervisor: the lane has work, and which places it could use."""

    channel: str
    wants: Wants


@dataclass(slots=True, eq=False)
class Dispatch(Internal):
    """Queue -> Supervisor: the calls for a Demand; what it reserved beyond them is returned."""

    channel: str
    demand: int
    epoch: int
    calls: Sequence[Call]
    wants: Wants
    """What the remaining jobs could still use."""


@dataclass(slots=True, eq=False)
class Freed(Internal):
    """Breaker -> Supervisor: a call ended; slot, ramp, limit and circuit change in one message."""

    call: Call
    answer: Answer
    circuit: CircuitReport


@dataclass(frozen=True, slots=True)
class CircuitReport(Internal):
    """Breaker -> Supervisor: the circuit, at every change and when asked."""

    provider: str
    state: str
    failures: int
    retry_at: float | None
    """Monotonic instant from which a probe is admitted; None when closed or forced."""
    open_count: int
    """Openings in a row without a close: the exponent of the open time."""
    throttled_until: float | None = None
    """Monotonic; set by a THROTTLED answer."""
    misconfigured_until: float | None = None
    """Monotonic; set by a MISCONFIGURED answer, until a real send succeeds."""
    misconfigured_detail: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class LaneReport(Internal):
    """Queue -> Supervisor: a lane after its start or on request; voids its older demands."""

    channel: str
    epoch: int
    incarnation: int
    wants: Wants
    in_flight: tuple[Call, ...]
    """Dispatched calls that have not settled."""


@dataclass(frozen=True, slots=True)
class SlotReturned(Internal):
    """Queue -> Supervisor: a call that the Queue inherited or gave up has no slot any more."""

    provider: str
    key: tuple[str, int]


@dataclass(frozen=True, slots=True)
class SetProvider(Request):
    """Operator: enable or disable a provider. Replies None once durable."""

    name: str
    is_enabled: bool
    who: str = "api"


@dataclass(frozen=True, slots=True)
class SetBreaker(Request):
    """Operator: "open" (force), "close" (admit all now) or "reset". Replies None once durable."""

    name: str
    action: str
    who: str = "api"


@dataclass(frozen=True, slots=True)
class HealthChecked(Internal):
    """Provider -> Supervisor: what the health probe found."""

    provider: str
    health: Health


@dataclass(frozen=True, slots=True)
class ActorCrashed(Internal):
    """Runtime -> Supervisor: a child failed and waits for its restart."""

    name: str
    cause: str
    message_type: str
    crash_number: int


@dataclass(frozen=True, slots=True)
class ProviderSnapshot:
    """How a provider stands; what `GET /v1/providers` and `/health` show."""

    name: str
    kind: str
    channels: tuple[str, ...]
    state: str
    """"ok", "ramping", "open", "half_open", "forced_open", "disabled", "misconfigured",
    "throttled", "stalled", "down"."""
    circuit: CircuitReport
    is_enabled: bool
    in_flight: int
    slots: int
    """Places it may use now (smaller than `max_concurrent` while ramping)."""
    max_concurrent: int
    health: Health | None
    reason: str
    """Why it takes nothing now; "" when it does."""
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class SupervisorSnapshot:
    """All gates, and what happened to the children."""

    providers: tuple[ProviderSnapshot, ...]
    actors: dict[str, str]
    """Name -> "running", "restarting", "failed" (over its restart budget)."""
    restarts: dict[str, int]


# --- to a Breaker and a Provider -------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Deliver(Internal):
    """Supervisor -> Breaker -> Provider: one call; the Breaker adds its permit."""

    call: Call
    permit: Any = None


@dataclass(slots=True, eq=False)
class Record(Internal):
    """Provider -> Breaker: the outcome of a permit."""

    permit: Any
    call: Call
    answer: Answer


@dataclass(frozen=True, slots=True)
class Lingering(Internal):
    """Provider -> Supervisor: all calls that are settled though their threads have not returned."""

    provider: str
    calls: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ReportCircuit(Internal):
    """Supervisor -> Breaker: tell me your state."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Steer(Internal):
    """Supervisor -> Breaker: an operator's "open", "close" or "reset"."""

    action: str


@dataclass(frozen=True, slots=True)
class ProbeHealth(Internal):
    """Supervisor -> Provider: run the health probe now (it sends nothing)."""


# --- to the Journal --------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Committed(Internal):
    """Writer -> Journal: one batch is through (or each of its commands failed for itself)."""

    done: Sequence[Any]
    """`storage.writer.Done` items, in order."""


@dataclass(frozen=True, slots=True)
class JournalSnapshot:
    """How the store stands."""

    is_writable: bool
    reason: str
    pending: int
    """Commands submitted and not committed yet."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A notification reached a final status; told to waiters after the commit."""

    id: str
    status: Status
