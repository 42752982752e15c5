"""The writes (and ordered reads) that the Journal can ask of the store, as plain data.

Each command runs inside the writer's transaction, in the order in which it was submitted. Nearly
all are conditional or insert-if-absent, so running one twice changes nothing. `is_owed` marks what
must not be lost while the disk is full: the writer keeps it and tries again; everything else fails
then with `StorageUnavailable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from clarion.domain.notification import Call, Draft, Job, JobState, ProviderCall, Status
from clarion.domain.receipt import Receipt
from clarion.domain.value import value_class


@dataclass(slots=True, eq=False)
class Command:
    """Base: `channel` says whose lane it concerns, `reply` is carried along untouched."""

    is_owed: ClassVar[bool] = False
    is_intake: ClassVar[bool] = False
    """Commands concern admitted work: the Journal's mailbox never refuses one."""

    channel: str
    reply: Any = field(default=None, kw_only=True)
    origin: int = field(default=0, kw_only=True)
    """Incarnation of the Queue that asked; results of a forerunner are told apart by it."""
    is_submitted: bool = field(default=False, init=False, repr=False)
    """Set by the writer: a command that is redelivered to the Journal is not written twice."""

    def without_story(self) -> Command | None:
        """Return what has to be written though the rest of it cannot be; None: nothing."""
        return None


@dataclass(slots=True, eq=False)
class Accept(Command):
    """Tx1: insert notifications and jobs, with idempotency keys, flows and counts.

    Result: a list, one item per draft in order: `AcceptedRow`, `ReplayedRow` or `ConflictRow`.
    """

    drafts: Sequence[Draft]
    jobs: Sequence[Job]
    """One per draft, stamped; dropped where the draft's key was seen before."""
    answers: Sequence[dict[str, Any] | None] | None = None
    """Per draft, the JSON object that a replay of its idempotency key is answered with."""


@value_class
class AcceptedRow:
    """The notification is new and durable."""

    job: Job


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """The idempotency key was used before with the same body: the first answer again."""

    answer: dict[str, Any]
    """What was answered then (the JSON object of the notification)."""


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """The idempotency key was used before with another body."""

    key: str


@dataclass(slots=True, eq=False)
class Intend(Command):
    """Tx2: note before the wire that each call may be out.

    Per call, where id and `call = number - 1` match and the row is not sending: set
    `call = number`, `sending`, `sending_since`, state SENDING, and `possibly_duplicated` where
    the job is doubtful. Result: the list of the calls that matched.
    """

    calls: Sequence[Call]
    now: float
    demand: int = 0


@dataclass(slots=True, eq=False)
class Settle(Command):
    """Tx3: end a notification.

    Where id and call match (and, for `number` None, the row is not sending): delete the job,
    update the notification, insert `record` if there is one, move the counts.
    Result: bool, whether a row matched.
    """

    is_owed: ClassVar[bool] = True

    job: Job
    number: int | None
    """The call that ended it; None for an end without one (expired, cancelled)."""
    status: Status
    reason: str | None
    now: float
    record: ProviderCall | None = None
    detail: str | None = None

    def without_story(self) -> Settle | None:
        """Leave out what is told of the call: else it would never end."""
        if self.record is None and self.detail is None:
            return None
        return replace(self, record=None, detail=None)


@dataclass(slots=True, eq=False)
class Defer(Command):
    """Tx3 otherwise: the call ended and the job goes on.

    Where id and call match and the row is sending: clear `sending`, write the job's progress
    (state READY, or TIMED with `due_at`; tried, attempt, flags, waiting), insert `record` if there
    is one (none for a refusal or a recall). Result: `Deferred`; None where no row matched.
    """

    is_owed: ClassVar[bool] = True

    job: Job
    number: int
    due_at: float | None
    tried: tuple[str, ...]
    attempt: int
    waiting: str | None
    now: float
    is_doubtful: bool = False
    is_walk_unknown: bool = False
    is_walk_burning: bool = False
    probes: int = 0
    bugs: int = 0
    record: ProviderCall | None = None
    is_ours: bool = True
    """Whether this node keeps it in memory; else any node may take it."""

    def without_story(self) -> Defer | None:
        """Leave out what is told of the call: else the job would never go on."""
        return None if self.record is None else replace(self, record=None)


@dataclass(frozen=True, slots=True)
class Deferred:
    """A job goes on."""

    is_cancel_requested: bool
    """Asked for while the call was out, on whatever node."""


@dataclass(slots=True, eq=False)
class Promote(Command):
    """Timers that fell due: TIMED and SCHEDULED rows become READY with the job's `vt`.

    Result: the list of jobs whose row matched (still timed). Counts move for scheduled ones.
    """

    is_owed: ClassVar[bool] = True

    jobs: Sequence[Job]
    now: float


@dataclass(slots=True, eq=False)
class BringForward(Command):
    """TIMED rows fall due `by_s` seconds earlier, but not before `now`. Result: how many.

    Not to be run twice; those behind `now` stay as they are.
    """

    is_owed: ClassVar[bool] = True

    by_s: float
    now: float


@dataclass(frozen=True, slots=True)
class EndedRow:
    """A job that the disk ended by itself: how, and where it stood before."""

    id: str
    status: Status
    former: JobState | None
    """None for a state that there is not."""


@dataclass(slots=True, eq=False)
class Cancel(Command):
    """Cancel one notification, whatever its stage; decided on the row.

    Result: `CancelResult`. A row that is not sending is ended (`cancelled`, or `unknown` with
    reason cancelled where it is doubtful); a sending one gets `cancel_requested`.
    """

    id: str
    now: float


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What became of a cancel: "cancelled", "requested", "final" or "missing"."""

    verdict: str
    id: str
    status: Status | None = None
    former: JobState | None = None
    """Of one that was cancelled: where it stood on disk."""


@dataclass(slots=True, eq=False)
class Receive(Command):
    """Keep what a provider told, and make the moves that follow; decided on the rows.

    A job that a receipt ends is deleted even while a call of it is out: its end is only noted.
    Result: a list, one `Received` per receipt in order.
    """

    receipts: Sequence[Receipt]
    now: float


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a receipt: "moved", "kept", "repeated", or "unknown" (no such message)."""

    verdict: str
    id: str
    old: Status | None = None
    new: Status | None = None
    """Set where it moved the notification."""
    waited_s: float = 0.0
    """Since the notification was accepted."""
    former: JobState | None = None
    """Where its job stood on disk, if it had one."""

    @property
    def has_ended_job(self) -> bool:
        """Whether Clarion has nothing more to do for it, and had before."""
        return self.new is not None and self.old is not None and self.old.is_live


@dataclass(slots=True, eq=False)
class Expire(Command):
    """End up to `limit` waiting (not sending) jobs of the lane whose time is over.

    `default_expires_after_s` finds those without an expiry of their own by their id. Result: a
    list of `EndedRow`: `expired`, or `unknown` (reason expired) where doubtful.
    """

    now: float
    default_expires_after_s: float
    limit: int = 500


@dataclass(slots=True, eq=False)
class Sweep(Command):
    """Once per process, before the first Queue: every job with an intent left by a dead process.

    at_most_once ends as `unknown`; at_least_once becomes READY, doubtful, `restarts + 1`, and gets
    a provider_calls row (outcome unknown, reason "process_died"). `channel` is "" (all lanes).
    Result: the number of rows.
    """

    is_owed: ClassVar[bool] = True

    now: float


@dataclass(slots=True, eq=False)
class Load(Command):
    """What a Queue needs to start; ordered behind all that its forerunner asked.

    Result: `LoadedLane`.
    """

    head: int
    """Ready jobs to load per priority."""
    timers_until: float
    timers: int


@dataclass(slots=True)
class LoadedLane:
    """A lane as the disk has it."""

    ready: dict[int, list[Job]]
    """Per priority, in (vt, id) order, at most `head` each."""
    is_spilled: dict[int, bool]
    """Per priority: whether more ready rows are left on disk."""
    sending: list[Job]
    timed: list[Job]
    """TIMED and SCHEDULED jobs due until `timers_until`, earliest first, at most `timers`."""
    next_timer_at: float | None
    """Due time of the earliest timer that was not loaded; None when all were."""
    flows: dict[tuple[int, str], float]
    """(priority, flow) -> its last fair stamp."""
    depth: dict[str, int]
    """Live status -> how many rows, from `counts`."""
    waiting: int
    """How many rows are TIMED."""
    is_paused: bool
    undecodable: list[str]
    """Ids of rows that could not be decoded; they were ended as `poison`."""


@dataclass(slots=True, eq=False)
class Refill(Command):
    """More ready jobs of one priority: this node's behind `after` in (vt, id) order, and nobody's.

    Result: `RefilledRows`.
    """

    priority: int
    after: tuple[float, str] | None
    limit: int


@dataclass(frozen=True, slots=True)
class RefilledRows:
    """What a `Refill` found."""

    jobs: list[Job]
    """Behind `after`, in order."""
    is_spilled: bool
    """Whether more of them are left."""
    claimed: list[Job] = field(default_factory=list)
    """Those that nobody had: they are this node's now, wherever in the order they stand."""
    is_more_unclaimed: bool = False
    ended: list[EndedRow] = field(default_factory=list)
    """Those that are poison."""


@dataclass(slots=True, eq=False)
class LoadTimers(Command):
    """TIMED and SCHEDULED jobs due until `until`: this node's, and nobody's, which become its own.

    Result: `(jobs, next_timer_at, ended)`; `ended` has an `EndedRow` for each that is poison.
    """

    until: float
    limit: int


@dataclass(slots=True, eq=False)
class SetControl(Command):
    """Remember an operator's decision over restarts: (kind, name) -> value, with who and when.

    kinds: "lane" ("paused" | "running"), "provider" ("disabled" | "enabled"),
    "breaker" ("open" | "closed" | "reset" …). Result: None.
    """

    kind: str
    name: str
    value: str
    who: str
    now: float


@dataclass(slots=True, eq=False)
class Purge(Command):
    """Remove records that ended before `before`, out of the next `limit` ones behind id `after`.

    "" begins a pass, which forgets old redrives too. Live ones stay, and dead letters of channels
    in which a redrive runs. Expired idempotency keys go as well. Result: `PurgedRows`.
    """

    after: str
    before: float
    limit: int
    now: float


@dataclass(frozen=True, slots=True)
class PurgedRows:
    """What a `Purge` removed."""

    gone: dict[tuple[str, str], int]
    """(channel, status) -> how many."""
    after: str | None
    """Where to go on; None at the end."""


@dataclass(slots=True, eq=False)
class Discard(Command):
    """Poison: end the row `id` that could not be decoded or keeps killing its actor."""

    id: str
    now: float
