"""Dead letters and what people do about them: redrives, discards, and what a request may ask.

::

    running ──> done          every dead letter of the filter was looked at
       └──────> cancelled     by a person; what was moved by then goes on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from clarion.domain.instant import parse_instant
from clarion.domain.notification import Reason
from clarion.domain.text import line_fault, pointer_to
from clarion.errors import Fault, InvalidNotification

DEFAULT_RATE = 10.0
"""Notifications a second: some probes' worth for a provider that has just come back."""
MIN_RATE = 0.001
"""One in a quarter of an hour: shared among lanes it is still a number to divide by."""
MAX_RATE = 1000.0
MAX_TEXT = 1000
MAX_IDS = 500
"""Of one filter: what a page of the list holds."""
MAX_ID = 64

DEAD_REASONS = (Reason.EXHAUSTED, Reason.PERMANENT, Reason.RECIPIENT, Reason.POISON)


class RedriveState(StrEnum):
    """Where a redrive stands."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters; None means any. `since` is inclusive, `until` is not (epoch seconds).

    `ids`, in order and each once, names them one by one; a request has no other field beside it.
    """

    reason: str | None = None
    provider: str | None = None
    channel: str | None = None
    since: float | None = None
    until: float | None = None
    ids: tuple[str, ...] | None = None

    def matches(self, channel: str, reason: str | None, provider: str | None) -> bool:
        """Say whether a dead letter that ended in the right time is meant."""
        return (
            self.channel in (None, channel)
            and self.reason in (None, reason)
            and self.provider in (None, provider)
        )


@dataclass(frozen=True, slots=True)
class RedriveRequest:
    """What a person asked for."""

    filter: DeadFilter
    rate: float = DEFAULT_RATE
    """Notifications a second at most."""
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class RedrivePart:
    """The part of a redrive that concerns one lane (a row of `redrives`)."""

    id: str
    channel: str
    wanted: DeadFilter
    rate: float
    state: RedriveState
    matched: int
    """How many there were when it began; corrected at the end."""
    moved: int
    skipped: int
    """Gone or unreadable when it was their turn."""
    who: str
    created_at: float
    updated_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redrive over all its lanes."""

    parts: tuple[RedrivePart, ...]

    @property
    def id(self) -> str:
        """Its id."""
        return self.parts[0].id

    @property
    def state(self) -> RedriveState:
        """Running while some part is; cancelled where a part was."""
        states = {part.state for part in self.parts}
        for state in (RedriveState.RUNNING, RedriveState.CANCELLED):
            if state in states:
                return state
        return RedriveState.DONE


# --- requests --------------------------------------------------------------------------------


def redrive_request(
    fields: Mapping[str, Any], channels: Sequence[str], *, takes_rate: bool = True
) -> RedriveRequest:
    """Read the body of a request for a redrive or a discard; null counts as left out.

    `channels` are those that are configured; a discard takes no rate.
    Raises InvalidNotification with every fault.
    """
    known = _readers(channels) | ({"rate": _rate} if takes_rate else {})
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, value in fields.items():
        if value is None and name in known:
            continue
        try:
            found[name] = _read(name, value, known)
        except ValueError as error:
            faults.append(Fault(str(error), pointer_to("", name)))
    beside = [name for name in found if name in _TRAITS] if "ids" in found else []
    if beside:
        faults.append(Fault(f"ids name them all already: leave out {', '.join(beside)}", "/ids"))
    if faults:
        raise InvalidNotification(faults)
    is_dry_run, rate = found.pop("dry_run", False), found.pop("rate", DEFAULT_RATE)
    return RedriveRequest(DeadFilter(**found), rate, is_dry_run)


Read = Callable[[Any], Any]

_TRAITS = ("reason", "provider", "channel", "since", "until")
"""By what a filter without ids finds them."""


def _readers(channels: Sequence[str]) -> dict[str, Read]:
    return {
        "reason": _choice(DEAD_REASONS),
        "provider": _line,
        "channel": _choice(channels),
        "since": parse_instant,
        "until": parse_instant,
        "ids": _ids,
        "dry_run": _flag,
    }


def _read(name: str, value: Any, known: Mapping[str, Read]) -> Any:
    if name not in known:
        raise ValueError(f"there is no field {name[:100]!r}; there are {', '.join(known)}")
    try:
        return known[name](value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _choice(choices: Sequence[str]) -> Read:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return read


def _line(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    fault = line_fault(value, MAX_TEXT)
    if fault is not None:
        raise ValueError(fault)
    return value


def _ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_IDS:
        raise ValueError(f"must be an array of 1 to {MAX_IDS} ids")
    for n, id in enumerate(value):
        if not isinstance(id, str) or not 1 <= len(id) <= MAX_ID or not id.isascii():
            raise ValueError(f"must hold ids of notifications; the one at {n} cannot be one")
    return tuple(sorted(set(value)))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _rate(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not isfinite(value) or not MIN_RATE <= value <= MAX_RATE:
        limits = f"{MIN_RATE:g} to {MAX_RATE:g}"
        raise ValueError(f"must be a number of notifications a second, from {limits}")
    return float(value)
