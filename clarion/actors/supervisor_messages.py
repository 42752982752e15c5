"""The messages to the Supervisor, and what it answers; see `messages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clarion.actors.messages import Internal, Request
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Health
from clarion.domain.value import value_class
from clarion.policies.routing import Wants


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
    circuit: CircuitReport | None
    """None where it stands as was told last."""


@value_class
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
    throttled_in_a_row: int = 0
    """THROTTLED answers without a success in between: the exponent of a pause of our own."""
    misconfigured_until: float | None = None
    """Monotonic; set by a MISCONFIGURED answer, until a real send succeeds."""
    misconfigured_detail: str = ""
    epoch: int = 0
    opened_by: str = ""
    """The node whose circuit opened this one; "" where it opened by its own results."""


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
class ProviderStarted(Internal):
    """Provider -> Supervisor: a session is open, calls may come."""

    provider: str


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
