"""What an operator wants to know first: is anything wrong, what is it, and what to do about it.

Pure: from one round of answers to a headline and a list of troubles, the worst first. What has no
trouble here is fine; a route that merely ramps up or probes as it should gets no alarm of its own
beyond a warning that it is not back yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clarion.actors.commons_messages import CommonsSnapshot
from clarion.actors.journal_messages import JournalSnapshot
from clarion.actors.membership_messages import MembershipSnapshot
from clarion.actors.messages import LaneSnapshot
from clarion.actors.supervisor_messages import ProviderSnapshot, SupervisorSnapshot
from clarion.http.dashboard.deed import Deed, steer
from clarion.lane_view import SilentLane
from clarion.service import Control
from clarion.storage.reader import Page

Tone = Literal["ok", "busy", "warn", "bad", "off"]
"""How a thing is shown; a word and a symbol always say the same."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One round of answers; a part is None where it was not to be had, and `missing` says why."""

    lanes: list[LaneSnapshot] | None = None
    engine: SupervisorSnapshot | None = None
    journal: JournalSnapshot | None = None
    stats: dict[str, Any] | None = None
    controls: Mapping[tuple[str, str], Control] | None = None
    latest: Page | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Name of the part -> why it is missing."""
    is_started: bool = True
    is_draining: bool = False
    commons: CommonsSnapshot | None = None
    """What nodes share; None where nothing is shared, or it does not say."""
    nodes: MembershipSnapshot | CommonsSnapshot | None = None
    """Which nodes there are; None where this is the only one, or it does not say."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is not as it should be."""

    tone: Tone
    what: str
    todo: str
    command: str = ""
    """What to type for it; "" where nothing is to be typed."""
    button: Deed | None = None
    """What does the same as the command."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The first line of the page and what stands behind it."""

    tone: Tone
    headline: str
    troubles: tuple[Trouble, ...]


def outlook(seen: Seen) -> Outlook:
    """Judge one round of answers."""
    troubles = sorted(_troubles(seen), key=lambda each: each.tone != "bad")
    bad = sum(each.tone == "bad" for each in troubles)
    warnings = len(troubles) - bad
    if bad:
        more = f" and {_n(warnings, 'warning')}" if warnings else ""
        return Outlook("bad", f"{_n(bad, 'problem')}{more}", tuple(troubles))
    if warnings:
        headline = f"Delivering, with {_n(warnings, 'warning')}"
        return Outlook("warn", headline, tuple(troubles))
    return Outlook("ok", "All is well", ())


def _n(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _troubles(seen: Seen) -> Iterator[Trouble]:
    yield from _of_phase(seen)
    yield from _of_store(seen)
    yield from _of_engine(seen)
    if seen.commons is not None:
        yield from _of_commons(seen.commons)
    for lane in seen.lanes or ():
        yield from _of_lane(lane)
    if seen.engine is not None:
        for provider in seen.engine.providers:
            if not _is_told(provider, seen.lanes or ()):
                yield from _of_provider(provider)
    yield from _of_counts(seen)


def _of_phase(seen: Seen) -> Iterator[Trouble]:
    if seen.is_draining:
        todo = "Nothing to do: what was accepted is on disk and goes on after the next start."
        yield Trouble("warn", "Clarion is shutting down and accepts nothing more", todo)
    elif not seen.is_started:
        todo = "Wait a moment and load the page again; /readyz answers 200 once it is ready."
        yield Trouble("warn", "Clarion is starting", todo)


# --- the store and the actors ----------------------------------------------------------------


def _of_store(seen: Seen) -> Iterator[Trouble]:
    if seen.journal is not None and not seen.journal.is_writable:
        yield Trouble(
            "bad",
            f"Nothing can be written to the store: {seen.journal.reason}",
            "New notifications are refused, accepted ones are safe. Make room on the disk or mend"
            " it; Clarion goes on by itself as soon as it can write.",
        )
    unread = seen.missing.get("latest") or seen.missing.get("stats")
    if unread is not None:
        yield Trouble(
            "bad",
            f"The store cannot be read: {unread}",
            "Look whether the disk is full, failing or very busy; then test it.",
            "clarion check",
        )


def _of_commons(commons: CommonsSnapshot) -> Iterator[Trouble]:
    if commons.reason:
        yield Trouble(
            "warn",
            f"{commons.store} is away: {commons.reason}",
            "Nothing is lost, and it is used again as soon as it is back. Until then limits are per"
            f" node, divided by the live nodes ({commons.live}), and each node finds out for itself"
            " which provider is down.",
        )
    elif commons.eviction:
        yield Trouble(
            "warn",
            f"{commons.store} may throw away what the nodes share",
            f"Its maxmemory-policy is {commons.eviction}: set it to noeviction.",
        )


def _of_engine(seen: Seen) -> Iterator[Trouble]:
    if "engine" in seen.missing:
        yield Trouble(
            "bad",
            f"The supervisor does not say how the providers stand: {seen.missing['engine']}",
            "It restarts by itself within seconds and nothing accepted is lost. If it stays silent,"
            " look in the log for supervisor_crashed and restart the process.",
        )
    if "journal" in seen.missing:
        yield Trouble(
            "bad",
            f"The journal does not answer: {seen.missing['journal']}",
            "Until it does, nothing is accepted and nothing sent; what was accepted is on disk."
            " Look in the log for what the disk is doing.",
        )
    if seen.engine is not None:
        yield from _of_actors(seen.engine)


def _of_actors(engine: SupervisorSnapshot) -> Iterator[Trouble]:
    for name, state in sorted(engine.actors.items()):
        # A lane or a provider in trouble is told with its own words below.
        if state != "running" and not name.startswith(("queue:", "provider:", "breaker:")):
            yield Trouble(
                "bad" if state == "failed" else "warn",
                f"The actor {name} is {state}",
                "It is restarted by itself; its last error is in the log as actor_crashed.",
            )


def _of_counts(seen: Seen) -> Iterator[Trouble]:
    if seen.stats is None:
        return
    accepted, total = seen.stats["accepted"], sum(seen.stats["by_status"].values())
    if accepted != total:
        yield Trouble(
            "bad",
            f"The counts do not reconcile: {accepted} accepted, {total} accounted for",
            "Stop the server and count anew from the rows; keep the database file for a report.",
            "clarion check --recount",
        )


# --- lanes -----------------------------------------------------------------------------------


def _of_lane(lane: LaneSnapshot) -> Iterator[Trouble]:
    if isinstance(lane, SilentLane):
        todo = (
            "Its notifications are on disk. The log says why it fails (actor_crashed)."
            if lane.is_failed
            else "Its notifications are on disk. If it stays silent, look in the log for it."
        )
        yield Trouble("bad", f"The lane {lane.channel} is down: {lane.problem}", todo)
        return
    if lane.is_held:
        # With nothing in it, nobody waits for anything yet.
        tone: Tone = "bad" if lane.ready or lane.waiting or lane.in_flight else "warn"
        yield Trouble(tone, _held(lane), _what_holds(lane))
    if lane.is_paused:
        yield Trouble(
            "warn",
            f"The lane {lane.channel} is paused by an operator; {_waiting(lane)}",
            "It goes on accepting. When the reason for the pause is over:",
            f"clarion queues resume {lane.channel}",
            steer("resume", lane.channel, "Resume"),
        )


def _held(lane: LaneSnapshot) -> str:
    return f"The lane {lane.channel} is held, no provider can take its messages; {_waiting(lane)}"


def _waiting(lane: LaneSnapshot) -> str:
    n = lane.ready + lane.waiting
    if n == 0:
        return "nothing waits in it"
    return f"{n:,} {'waits' if n == 1 else 'wait'} in it"


def _what_holds(lane: LaneSnapshot) -> str:
    reason = lane.held_reason or "no provider takes messages"
    return (
        f"{reason[:1].upper()}{reason[1:]}. Nothing is lost and no attempt is used up: it goes on"
        " by itself as soon as one of them takes messages again."
    )


# --- providers -------------------------------------------------------------------------------


def _is_told(provider: ProviderSnapshot, lanes: Iterable[LaneSnapshot]) -> bool:
    """Whether held lanes have told of its circuit already: each of them names it."""
    held = {lane.channel for lane in lanes if lane.is_held}
    return provider.state in ("open", "half_open") and held.issuperset(provider.channels)


def _of_provider(provider: ProviderSnapshot) -> Iterator[Trouble]:
    trouble = _of_state(provider)
    if trouble is not None:
        yield trouble
    elif provider.health is not None and not provider.health.is_healthy:
        yield Trouble(
            "warn",
            f"The health probe of {provider.name} fails: {provider.health.detail}",
            "It still takes messages. If it goes on, look at the provider's status page.",
        )


def _of_state(provider: ProviderSnapshot) -> Trouble | None:
    name = provider.name
    match provider.state:
        case "open" | "half_open":
            return _of_circuit(provider)
        case "misconfigured":
            detail = provider.circuit.misconfigured_detail or provider.reason
            what = f"{name} refuses our account: {detail}"
            todo = f"Mend its credentials or sender in [providers.{name}] and restart. To try:"
            return Trouble("bad", what, todo, "clarion check")
        case "forced_open":
            what = f"The circuit of {name} is forced open by an operator"
            todo = "It gets no messages until somebody undoes that:"
            return Trouble(
                "warn", what, todo, f"clarion breakers reset {name}",
                steer("reset", name, "Reset"),
            )  # fmt: skip
        case "disabled":
            todo = "It gets no messages until somebody enables it:"
            what = f"{name} is disabled by an operator"
            return Trouble(
                "warn", what, todo, f"clarion providers enable {name}",
                steer("enable", name, "Enable"),
            )  # fmt: skip
        case "throttled":
            todo = "Nothing to do: it is left alone for as long as it asked."
            return Trouble("warn", f"{name} asked us to slow down", todo)
        case "stalled":
            what = f"{name} is stalled: all its {provider.slots} slots are taken, none comes free"
            todo = "New work goes to the next provider. Look at its status page for slow answers."
            return Trouble("warn", what, todo)
        case "down":
            todo = "It is started again by itself; its last error is in the log as actor_crashed."
            return Trouble("bad", f"{name} is down: {provider.reason or 'it crashed'}", todo)
        case _ if provider.circuit.state == "disabled":
            todo = "Its failures open nothing until somebody undoes that:"
            what = f"The circuit of {name} is held closed by an operator"
            return Trouble(
                "warn", what, todo, f"clarion breakers reset {name}",
                steer("reset", name, "Reset"),
            )  # fmt: skip
        case _:
            return None


def _of_circuit(provider: ProviderSnapshot) -> Trouble:
    failures = _n(provider.circuit.failures, "failure")
    what = f"{provider.name} fails: its circuit opened after {failures}"
    if provider.state == "half_open":
        what = f"{provider.name} is being probed after its failures"
    todo = "Nothing to do here: it is tried again by itself. Look at the provider's status page."
    return Trouble("warn", what, todo)
