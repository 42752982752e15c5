"""Rows of the tables: lanes, providers and redrives, each with its state for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from clarion.actors.messages import LaneSnapshot
from clarion.actors.supervisor_messages import ProviderSnapshot
from clarion.domain.instant import rfc3339
from clarion.domain.node import Node
from clarion.domain.redrive import DeadFilter, Redrive, RedriveState
from clarion.http.dashboard.deed import Deed, lane_deed, provider_deeds
from clarion.http.dashboard.view import Mark, moment, span
from clarion.lane_view import SilentLane
from clarion.service import Control

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
    "disabled": "held closed, everything passes",
}
"""Every state of a breaker."""

Controls = Mapping[tuple[str, str], Control]
"""("lane" | "provider" | "breaker", name) -> what an operator decided last."""


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One lane as the page shows it."""

    lane: LaneSnapshot
    marks: tuple[Mark, ...]
    note: str
    deed: Deed | None
    decided: Control | None
    """Who paused it, and when; None while nobody has."""


def lane_row(lane: LaneSnapshot, controls: Controls) -> LaneRow:
    """Say how a lane stands."""
    if isinstance(lane, SilentLane):
        return LaneRow(lane, (Mark("silent", "bad", "cross"),), lane.problem, None, None)
    marks = []
    if lane.is_held:
        marks.append(Mark("held", "bad", "alarm"))
    if lane.is_paused:
        marks.append(Mark("paused", "warn", "pause"))
    if not lane.is_accepting:
        marks.append(Mark("not accepting", "bad", "cross"))
    note = (lane.held_reason or "") if lane.is_held else ""
    return LaneRow(
        lane,
        tuple(marks) or (_moving(lane),),
        note,
        lane_deed(lane.channel, lane.is_paused),
        controls.get(("lane", lane.channel)) if lane.is_paused else None,
    )


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
    deeds: tuple[Deed, ...]
    decided: Control | None
    """Who disabled it or forced its circuit, and when; None while neither is so."""


def provider_row(provider: ProviderSnapshot, controls: Controls) -> ProviderRow:
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
        deeds=provider_deeds(provider.name, provider.is_enabled, circuit),
        decided=_decided(provider, controls),
    )


def _decided(provider: ProviderSnapshot, controls: Controls) -> Control | None:
    if not provider.is_enabled:
        return controls.get(("provider", provider.name))
    if provider.circuit.state in ("forced_open", "disabled"):
        return controls.get(("breaker", provider.name))
    return None


# --- redrives --------------------------------------------------------------------------------

_REDRIVE_MARKS: Final[Mapping[RedriveState, Mark]] = {
    RedriveState.RUNNING: Mark("running", "busy", "half"),
    RedriveState.DONE: Mark("done", "ok", "tick"),
    RedriveState.CANCELLED: Mark("cancelled", "off", "bar"),
}


@dataclass(frozen=True, slots=True)
class RedriveRow:
    """One redrive as the page shows it."""

    id: str
    mark: Mark
    what: str
    matched: int
    moved: int
    skipped: int
    percent: int
    rate: float
    who: str
    age: str
    cancel: str
    """Where to send to for letting it move no more; "" once it has ended."""


def redrive_row(redrive: Redrive, now: float) -> RedriveRow:
    """Say how far a redrive got; `now` is epoch seconds."""
    parts, first = redrive.parts, redrive.parts[0]
    matched, moved, skipped = (
        sum(getattr(part, name) for part in parts) for name in ("matched", "moved", "skipped")
    )
    is_running = redrive.state is RedriveState.RUNNING
    return RedriveRow(
        redrive.id,
        _REDRIVE_MARKS[redrive.state],
        dead_words(first.wanted),
        matched,
        moved,
        skipped,
        # One that found less than it counted is over all the same.
        100 if not is_running else min(100, round(100 * (moved + skipped) / max(1, matched))),
        first.rate,
        first.who,
        span(now - first.created_at),
        f"/redrives/{quote(redrive.id, safe='')}/cancel" if is_running else "",
    )


def dead_words(wanted: DeadFilter) -> str:
    """Say in words which dead letters a filter means."""
    if wanted.ids is not None:
        return "1 chosen one" if len(wanted.ids) == 1 else f"{len(wanted.ids)} chosen ones"
    words = [
        "all" if wanted.reason is None else str(wanted.reason),
        "" if wanted.channel is None else f"of {wanted.channel}",
        "" if wanted.provider is None else f"from {wanted.provider}",
        "" if wanted.since is None else f"since {moment(rfc3339(wanted.since))}",
        "" if wanted.until is None else f"until {moment(rfc3339(wanted.until))}",
    ]
    return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node of those that share something; `age` is how long it has run."""

    node: Node
    is_own: bool
    age: str


def node_rows(nodes: Sequence[Node], own: str, now: float) -> list[NodeRow]:
    """Say which nodes are there, this one first."""
    rows = [NodeRow(node, node.id == own, span(max(0.0, now - node.since))) for node in nodes]
    return sorted(rows, key=lambda each: (not each.is_own, each.node.host, each.node.id))
