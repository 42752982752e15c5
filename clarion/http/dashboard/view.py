"""From what the engine answered to what a page shows: marks, ages, cards, masked addresses.

A mark says a state three times: by a word, by the shape of a symbol and by a colour, so that
nobody depends on the colour. Addresses are masked: the page is looked at over shoulders and in
screenshots; the API shows them in clear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clarion.domain.notification import Notification, Status
from clarion.domain.outcome import Outcome
from clarion.http.dashboard.deed import Deed, decisions
from clarion.http.dashboard.outlook import Tone
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


# --- notifications ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """A notification as the page shows it: its JSON object, and what only the page has."""

    shown: Mapping[str, Any]
    mark: Mark
    short_id: str
    to: str
    age: str
    unchanged: str
    """For how long it has been as it is."""
    deeds: tuple[Deed, ...]


def card(notification: Notification, shown: Mapping[str, Any], now: float) -> Card:
    """Return what a row or a page of its own shows of a notification; `now` is epoch seconds."""
    return Card(
        shown,
        STATUS_MARKS[notification.status],
        notification.id[-_SHORT_ID:],
        mask_address(notification.content.to),
        span(now - notification.created_at),
        span(now - notification.updated_at),
        decisions(notification),
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
