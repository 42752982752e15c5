"""The notification: its statuses and allowed moves, the draft that asks for one, the live job.

Instants inside the engine are float seconds since the Unix epoch (UTC), named `…_at`; they become
RFC 3339 text at the HTTP edge only. Durations are float seconds from a monotonic clock, `…_s`.

::

    scheduled ──> queued <──> sending ──> sent ──> delivered | undelivered
        │           │            ├─────> failed ──(redrive)──> queued
        │           │            └─────> unknown ──> sent | delivered | undelivered | queued
        │           ├──────────> sent | delivered | undelivered (by a receipt; `sending` too)
        └───────────┴──────────> expired | cancelled | unknown | failed (poison) | suppressed
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from clarion.domain.value import value_class


class Channel(StrEnum):
    """The ways to reach a recipient."""

    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    WEBHOOK = "webhook"
    CHAT = "chat"


class Priority(IntEnum):
    """The order between notifications of one lane; smaller goes first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @property
    def label(self) -> str:
        """The word used in JSON, metrics and columns."""
        return self.name.lower()


class Delivery(StrEnum):
    """What may happen after an unknown outcome: a second try that is marked, or none."""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class Status(StrEnum):
    """Where a notification stands."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"

    @property
    def is_live(self) -> bool:
        """Whether Clarion still has something to do for it."""
        return self in LIVE


LIVE = frozenset({Status.SCHEDULED, Status.QUEUED, Status.SENDING})

_ENDS = {Status.EXPIRED, Status.CANCELLED, Status.UNKNOWN, Status.FAILED, Status.SUPPRESSED}
_BY_RECEIPT = {Status.SENT, Status.DELIVERED, Status.UNDELIVERED}
MOVES: dict[Status, frozenset[Status]] = {
    Status.SCHEDULED: frozenset({Status.QUEUED, Status.SENDING, *_ENDS}),
    Status.QUEUED: frozenset({Status.SENDING, *_BY_RECEIPT, *_ENDS}),
    Status.SENDING: frozenset({Status.QUEUED, *_BY_RECEIPT, *_ENDS}),
    Status.SENT: frozenset({Status.DELIVERED, Status.UNDELIVERED}),
    Status.DELIVERED: frozenset(),
    Status.UNDELIVERED: frozenset(),
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.UNKNOWN: frozenset({Status.QUEUED, *_BY_RECEIPT}),
    Status.EXPIRED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.SUPPRESSED: frozenset(),
}
"""Every move that a notification may make; final stays final, with the contract's exceptions."""


class Reason(StrEnum):
    """Why a notification ended as it did."""

    EXHAUSTED = "exhausted"
    PERMANENT = "permanent"
    RECIPIENT = "recipient"
    POISON = "poison"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN_OUTCOME = "unknown_outcome"
    PROVIDER = "provider"
    """The provider took it and failed; neither the recipient nor the message is to blame."""


class JobState(IntEnum):
    """Where a live job stands on disk (`jobs.state`)."""

    READY = 0
    TIMED = 1
    SENDING = 2
    SCHEDULED = 3

    @property
    def status(self) -> Status:
        """The public status of a notification in this state."""
        return _STATUS_OF_STATE[self]


_STATUS_OF_STATE = {
    JobState.READY: Status.QUEUED,
    JobState.TIMED: Status.QUEUED,
    JobState.SENDING: Status.SENDING,
    JobState.SCHEDULED: Status.SCHEDULED,
}


@value_class
class Content:
    """What is sent, and to whom."""

    to: str
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    data: dict[str, Any] | None = None
    headers: dict[str, str] | None = None


@value_class
class Draft:
    """A validated wish to send, before it has an id."""

    channel: str
    content: Content
    priority: Priority = Priority.NORMAL
    send_at: float | None = None
    expires_at: float | None = None
    delivery: Delivery | None = None
    tenant: str | None = None
    reference: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    fingerprint: str = ""
    """Hash of the body as it was sent; compared when an idempotency key returns."""
    correlation_id: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """A live notification as its Queue holds it; mirrors a row of `jobs` joined to its record.

    Mutable on purpose: the Queue of its channel is its only owner, everyone else gets it by
    reference and reads.
    """

    id: str
    channel: str
    content: Content
    priority: Priority
    flow: str
    vt: float
    """Fair stamp: the place in the lane inside its priority."""
    state: JobState
    created_at: float
    expires_at: float
    delivery: Delivery
    due_at: float | None = None
    """For TIMED and SCHEDULED: when it becomes ready."""
    call: int = 0
    """Number of the last intended call; grows only, so it fences off late answers."""
    attempt: int = 0
    """Attempts burnt so far."""
    tried: tuple[str, ...] = ()
    """Providers already tried in the present walk."""
    sending: str | None = None
    """The provider of the call that may be out."""
    sending_since: float | None = None
    is_doubtful: bool = False
    """An unresolved UNKNOWN call lies behind it: some provider may have it."""
    is_walk_unknown: bool = False
    """A call of the present walk came to UNKNOWN."""
    is_walk_burning: bool = False
    """A call of the present walk failed in a way that costs an attempt."""
    is_expiry_explicit: bool = False
    possibly_duplicated: bool = False
    cancel_requested: bool = False
    probes: int = 0
    """Failed probes, and calls that its recipient's host could not take; spaces them out."""
    bugs: int = 0
    restarts: int = 0
    """Deaths of the process with a call in flight."""
    waiting: str | None = None
    """What it waits for: "retry", "receipt", "schedule", or None."""
    tenant: str | None = None
    reference: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    correlation_id: str = ""
    is_ours: bool = True
    """Whether this node has it; one that its lane has no room for is left to whoever has."""

    @property
    def status(self) -> Status:
        """The public status."""
        return self.state.status


@dataclass(slots=True, eq=False)
class Call:
    """One request to one provider for one job; travels by reference from intent to settlement."""

    job: Job
    number: int
    """Equals the job's `call` from the intent on."""
    provider: str
    is_probe: bool = False
    why: str = ""
    """Why this provider was chosen, for the timeline."""
    considered: tuple[tuple[str, str], ...] = ()
    """(provider, why it was passed over) of the providers that were not chosen."""
    is_fallback: bool = False
    started_at: float = 0.0
    out_since: float = 0.0
    """Monotonic: what its age is measured from, since the wall clock may be set at any time.

    `math.inf` while it stands by for a slot: it has no age yet.
    """

    @property
    def is_standing_by(self) -> bool:
        """Whether it waits, with its intent on disk, for a slot: nobody has sent it yet."""
        return self.out_since == math.inf

    @property
    def key(self) -> tuple[str, int]:
        """What a slot, an intent and an answer are matched by."""
        return (self.job.id, self.number)


@value_class
class ProviderCall:
    """A call that ended, as the timeline keeps it (a row of `provider_calls`)."""

    notification_id: str
    number: int
    provider: str
    outcome: str
    reason: str
    detail: str
    started_at: float
    ended_at: float
    why: str = ""
    considered: tuple[tuple[str, str], ...] = ()
    provider_message_id: str | None = None
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class Intervention:
    """What a person did about a notification that had ended (a row of `interventions`)."""

    at: float
    event: str
    """"redriven", "discarded" or "resolved"."""
    who: str
    detail: str


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """A receipt as the timeline keeps it (a row of `receipts`)."""

    provider: str
    event: str
    code: str
    detail: str
    at: float
    received_at: float
    call: int | None = None
    moved_to: Status | None = None
    """The status that the notification got by it; None where it changed nothing."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification as users see it; `held`, `held_reason` and `explanation` are added on top."""

    id: str
    channel: str
    content: Content
    status: Status
    priority: Priority
    delivery: Delivery
    created_at: float
    updated_at: float
    expires_at: float
    waiting: str | None = None
    next_attempt_at: float | None = None
    attempts: int = 0
    provider: str | None = None
    possibly_duplicated: bool = False
    cancel_requested: bool = False
    reason: str | None = None
    detail: str | None = None
    """The last provider's words, for the explanation."""
    tenant: str | None = None
    reference: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    calls: tuple[ProviderCall, ...] = ()
    receipts: tuple[KeptReceipt, ...] = ()
    """What providers told later, in the order in which it came."""
    interventions: tuple[Intervention, ...] = ()
    """What people did about it, in that order."""
    held: bool = False
    held_reason: str | None = None
    discarded_at: float | None = None
