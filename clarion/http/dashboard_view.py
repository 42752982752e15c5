"""From what the engine answered to what the page shows: marks, rows, ages, masked addresses.

A mark says a state three times: by a word, by the shape of a symbol and by a colour, so that
nobody depends on the colour. Addresses are masked: the page is looked at over shoulders and in
screenshots; the API shows them in clear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clarion.actors.messages import LaneSnapshot
from clarion.actors.supervisor_messages import ProviderSnapshot
from clarion.domain.notification import Notification, Status
from clarion.domain.outcome import Outcome
from clarion.http.outlook import Tone
from clarion.lane_view import SilentLane
from clarion.telemetry.mask import mask_address

_SHORT_ID: Final = 8
"""Letters of an id that are shown: its end, for ids of one moment begin alike."""
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Mark:
    """A state for the eye: `shape` names a symbol of the template `symbol.html.jinja`."""

    word: str
    tone: Tone
    shape: str


PROVIDER_MARKS: Final[Mapping[str, Mark]] = {
    "ok": Mark("takes messages", "ok", "tick"),
    "ramping": Mark("ramping up", "busy", "half"),
    "open": Mark("circuit open", "bad", "cross"),
    "half_open": Mark("probing", "warn", "half"),
    "forced_open": Mark("forced open", "bad", "cross"),
    "disabled": Mark("disabled", "off", "bar"),
    "misconfigured": Mark("misconfigured", "bad", "alarm"),
    "throttled": Mark("throttled", "warn", "clock"),
    "stalled": Mark("stalled", "warn", "clock"),
    "down": Mark("down", "bad", "cross"),
}
"""Every state of a `ProviderSnapshot`."""

_OPEN_STATES: Final = frozenset({"ok", "ramping", "stalled"})
"""The states in which its slots may be used."""

CIRCUIT_WORDS: Final[Mapping[str, str]] = {
    "closed": "closed",
    "open": "open",
    "half_open": "half-open",
    "forced_open": "forced open",
    "disabled": "switched off, everything passes",
}
"""Every state of a breaker."""

STATUS_MARKS: Final[Mapping[Status, Mark]] = {
    Status.SCHEDULED: Mark("scheduled", "off", "clock"),
    Status.QUEUED: Mark("queued", "busy", "clock"),
    Status.SENDING: Mark("sending", "busy", "half"),
    Status.SENT: Mark("sent", "ok", "tick"),
    Status.DELIVERED: Mark("delivered", "ok", "tick"),
    Status.UNDELIVERED: Mark("undelivered", "bad", "cross"),
    Status.FAILED: Mark("failed", "bad", "cross"),
    Status.UNKNOWN: Mark("unknown", "warn", "alarm"),
    Status.EXPIRED: Mark("expired", "warn", "bar"),
    Status.CANCELLED: Mark("cancelled", "off", "bar"),
    Status.SUPPRESSED: Mark("suppressed", "off", "bar"),
}

OUTCOME_MARKS: Final[Mapping[str, Mark]] = {
    Outcome.ACCEPTED: Mark("accepted", "ok", "tick"),
    Outcome.THROTTLED: Mark("throttled", "warn", "clock"),
    Outcome.TRANSIENT: Mark("provider trouble", "warn", "cross"),
    Outcome.UNKNOWN: Mark("no clear answer", "warn", "alarm"),
    Outcome.RECIPIENT: Mark("recipient refused", "bad", "cross"),
    Outcome.PERMANENT: Mark("message refused", "bad", "cross"),
    Outcome.MISCONFIGURED: Mark("account refused", "bad", "alarm"),
    Outcome.REFUSED: Mark("not let through", "off", "bar"),
    Outcome.RECALLED: Mark("called back", "off", "bar"),
}
_EVENT_MARKS: Final[Mapping[str, Mark]] = {
    "accepted": Mark("accepted", "busy", "tick"),
    "calling": Mark("calling", "busy", "half"),
    "waiting": Mark("waiting", "busy", "clock"),
}


# --- numbers and times -----------------------------------------------------------------------


def number(n: int) -> str:
    """Write a count with its thousands apart."""
    return f"{n:,}"


def span(seconds: float) -> str:
    """Write a duration as one number and its unit, rounded down: "12 s", "5 min", "3 h", "2 d"."""
    seconds = max(0, int(seconds))
    if seconds < _MINUTE_S:
        return f"{seconds} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds // _HOUR_S} h"
    return f"{seconds // _DAY_S} d"


def moment(rfc3339: str) -> str:
    """Write an RFC 3339 instant in UTC as people read it."""
    return rfc3339.replace("T", " ").replace("Z", " UTC")


# --- lanes and providers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One lane as the page shows it."""

    lane: LaneSnapshot
    marks: tuple[Mark, ...]
    note: str


def lane_row(lane: LaneSnapshot) -> LaneRow:
    """Say how a lane stands."""
    if isinstance(lane, SilentLane):
        return LaneRow(lane, (Mark("silent", "bad", "cross"),), lane.problem)
    marks = []
    if lane.is_held:
        marks.append(Mark("held", "bad", "alarm"))
    if lane.is_paused:
        marks.append(Mark("paused", "warn", "pause"))
    if not lane.is_accepting:
        marks.append(Mark("not accepting", "bad", "cross"))
    note = (lane.held_reason or "") if lane.is_held else ""
    return LaneRow(lane, tuple(marks) or (_moving(lane),), note)


def _moving(lane: LaneSnapshot) -> Mark:
    if lane.ready or lane.in_flight:
        return Mark("moving", "ok", "tick")
    if lane.waiting or lane.scheduled:
        return Mark("waiting for its time", "busy", "clock")
    return Mark("empty", "ok", "tick")


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One provider as the page shows it; percentages are of its `max_concurrent`."""

    provider: ProviderSnapshot
    mark: Mark
    circuit: str
    taken_percent: int
    slots_percent: int


def provider_row(provider: ProviderSnapshot) -> ProviderRow:
    """Say how a provider stands."""
    circuit = provider.circuit.state
    most = max(1, provider.max_concurrent)
    slots = provider.slots if provider.state in _OPEN_STATES else 0
    return ProviderRow(
        provider,
        PROVIDER_MARKS.get(provider.state) or Mark(provider.state, "warn", "alarm"),
        CIRCUIT_WORDS.get(circuit, circuit),
        taken_percent=min(100, round(100 * provider.in_flight / most)),
        slots_percent=min(100, round(100 * slots / most)),
    )


# --- notifications ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """A notification as the page shows it: its JSON object, and what only the page has."""

    shown: Mapping[str, Any]
    mark: Mark
    short_id: str
    to: str
    age: str


def card(notification: Notification, shown: Mapping[str, Any], now: float) -> Card:
    """Return what a row or a page of its own shows of a notification; `now` is epoch seconds."""
    return Card(
        shown,
        STATUS_MARKS[notification.status],
        notification.id[-_SHORT_ID:],
        mask_address(notification.content.to),
        span(now - notification.created_at),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a timeline."""

    event: Mapping[str, Any]
    mark: Mark
    headline: str
    detail: str
    """What the provider said; "" where the step before has said it already."""
    why: str = ""
    """Why this provider was chosen; only a call has been chosen for."""


def steps(timeline: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Give the events of a timeline their marks and sentences."""
    said = ["", *(event["detail"] or "" for event in timeline)]
    return [
        _step(event, "" if before == now else now)
        for event, before, now in zip(timeline, said, said[1:], strict=False)
    ]


def _step(event: Mapping[str, Any], detail: str) -> Step:
    name, provider = event["event"], event["provider"] or "a provider"
    match name:
        case "call" | "probe":
            outcome = event["outcome"]
            mark = OUTCOME_MARKS.get(outcome) or Mark(outcome, "warn", "alarm")
            tried = "A probe of" if name == "probe" else "A call to"
            return Step(event, mark, f"{tried} {provider}", detail, event["why"])
        case "accepted":
            return Step(event, _EVENT_MARKS[name], "Clarion took it and wrote it to disk", detail)
        case "calling":
            return Step(event, _EVENT_MARKS[name], f"It is being handed to {provider}", detail)
        case "waiting":
            return Step(event, _EVENT_MARKS[name], "It goes on at this time", detail)
        case "receipt":
            mark = Mark(event["outcome"] or "told", "busy", "tick")
            return Step(event, mark, f"{provider} told what became of it", detail)
        case _ if name in STATUS_MARKS:
            return Step(event, STATUS_MARKS[Status(name)], f"It ended as {name}", detail)
        case _:
            # A word that the page does not know yet is shown as it is, not as an error.
            return Step(event, Mark(name, "busy", "clock"), f"It was {name}", detail)


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the counts."""

    status: Status
    mark: Mark
    n: int


def tiles(by_status: Mapping[str, int]) -> list[Tile]:
    """Return every status with its count, in the order of a notification's life."""
    return [Tile(status, STATUS_MARKS[status], by_status.get(status, 0)) for status in Status]
