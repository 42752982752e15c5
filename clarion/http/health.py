"""`/livez`, `/readyz`, `/health`: whether to restart, whether to send traffic, and what is wrong.

`/health` (application/health+json) tells two things. *Checks* are the parts: the store, each lane,
provider, breaker and actor. *Functions* are what a caller can have of them, so that partial
trouble shows as that: while the disk is full, `accept` fails and `search` passes. The whole is as
bad as its worst check; a provider's trouble is a warning, since the lanes keep all work for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from aiohttp import web

from clarion.actors.commons_messages import CommonsSnapshot
from clarion.actors.journal_messages import JournalSnapshot
from clarion.actors.membership_messages import MembershipSnapshot
from clarion.actors.messages import LaneSnapshot
from clarion.actors.supervisor_messages import ProviderSnapshot, SupervisorSnapshot
from clarion.domain.instant import rfc3339
from clarion.domain.node import Node
from clarion.errors import ClarionError
from clarion.http.answer import answer
from clarion.http.front import FRONT, Front
from clarion.service import SilentLane

HEALTH_TYPE = "application/health+json"
ASK_S = 2.0
"""What a part may take to say how it is; probes give up after some seconds themselves."""

Status = Literal["pass", "warn", "fail"]
T = TypeVar("T")

_RANK: dict[Status, int] = {"pass": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True, slots=True)
class Check:
    """How one part stands; `output` says what to do where it is not well."""

    status: Status
    component: str
    kind: str
    observed: str = ""
    output: str = ""

    def document(self, at: str) -> list[dict[str, Any]]:
        """The JSON array that stands under the part's name."""
        shown = {
            "componentId": self.component, "componentType": self.kind, "status": self.status,
            "observedValue": self.observed, "time": at,
        }  # fmt: skip
        return [{**shown, "output": self.output} if self.output else shown]


@dataclass(frozen=True, slots=True)
class State:
    """What the parts answered; the sentence of an error where one did not."""

    store: JournalSnapshot | str
    reading: str
    """"" while the store can be read, else why not."""
    lanes: list[LaneSnapshot]
    supervisor: SupervisorSnapshot | str
    commons: CommonsSnapshot | str | None = None
    """What nodes share; None where nothing is shared."""
    nodes: MembershipSnapshot | CommonsSnapshot | str | None = None
    """Which nodes there are; None where this is the only one."""


# --- the addresses ---------------------------------------------------------------------------


async def livez(_request: web.Request) -> web.Response:
    """Answer 200: whoever gets it knows that the event loop turns."""
    return answer({"status": "pass"}, content_type=HEALTH_TYPE)


async def readyz(request: web.Request) -> web.Response:
    """Answer 200 while new notifications can be accepted, 503 else."""
    front = request.app[FRONT]
    why = await _why_not_ready(front)
    if why is None:
        return answer({"status": "pass"}, content_type=HEALTH_TYPE)
    return answer({"status": "fail", "output": why}, 503, content_type=HEALTH_TYPE)


async def _why_not_ready(front: Front) -> str | None:
    if front.is_draining():
        return "it is shutting down"
    if not front.is_started():
        return "it is starting"
    store, lanes = await asyncio.gather(_ask(front.service.journal_snapshot()), _lanes(front))
    fault = _store_fault(store)
    if fault:
        return fault
    return None if _accept(store, lanes) != "fail" else "no lane accepts"


async def health(request: web.Request) -> web.Response:
    """Show how every part and every function stands; 503 where the whole fails."""
    front = request.app[FRONT]
    state = await look(front)
    found = checks(state)
    at = rfc3339(front.clock.now())
    status = worst(check.status for check in found.values())
    document: dict[str, Any] = {
        "status": status,
        "version": front.version,
        "serviceId": "clarion",
        "description": "Clarion, a notification service",
        "functions": functions(state),
        "checks": {name: check.document(at) for name, check in found.items()},
    }
    if state.nodes is not None and not isinstance(state.nodes, str):
        document["nodes"] = [node_document(node) for node in state.nodes.nodes]
    return answer(document, 503 if status == "fail" else 200, content_type=HEALTH_TYPE)


# --- asking ----------------------------------------------------------------------------------


async def look(front: Front) -> State:
    """Ask all parts at once; takes a little more than `ASK_S` at most."""
    service = front.service
    (store, stats, supervisor, lanes), (commons, nodes) = await asyncio.gather(
        asyncio.gather(
            _ask(service.journal_snapshot()),
            _ask(service.stats()),
            _ask(service.providers()),
            _lanes(front),
        ),
        asyncio.gather(_ask(service.commons()), _ask(service.nodes())),
    )
    reading = stats if isinstance(stats, str) else ""
    return State(store, reading, lanes, supervisor, commons, nodes)


def node_document(node: Node) -> dict[str, Any]:
    """The JSON object of a node."""
    return {**asdict(node), "since": rfc3339(node.since)}


async def _ask(question: Awaitable[T]) -> T | str:
    try:
        async with asyncio.timeout(ASK_S):
            return await question
    except TimeoutError:
        return f"it did not answer within {ASK_S:g} s"
    except ClarionError as error:
        return str(error)


async def _lanes(front: Front) -> list[LaneSnapshot]:
    found = await _ask(front.service.queues())
    if isinstance(found, str):
        return [_silent(channel, found) for channel in front.service.channels]
    return found


def _silent(channel: str, why: str) -> SilentLane:
    return SilentLane(channel, False, False, None, 0, 0, 0, 0, None, 0, False, (), problem=why)


# --- checks ----------------------------------------------------------------------------------


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst of these; "pass" of none."""
    return max(statuses, key=_RANK.__getitem__, default="pass")


def checks(state: State) -> dict[str, Check]:
    """Return how each part stands, by its name."""
    found = {"storage": _storage(state)}
    if state.commons is not None:
        found["redis"] = _redis(state.commons)
    found |= {f"queue:{lane.channel}": _queue(lane) for lane in state.lanes}
    if isinstance(state.supervisor, str):
        found["actor:supervisor"] = Check("fail", "supervisor", "actor", "silent", state.supervisor)
        return found
    for provider in state.supervisor.providers:
        found[f"provider:{provider.name}"] = _provider(provider)
        found[f"breaker:{provider.name}"] = _breaker(provider)
    found["actor:supervisor"] = Check("pass", "supervisor", "actor", "running")
    for name, actor_state in state.supervisor.actors.items():
        found[f"actor:{name}"] = _actor(name, actor_state, state.supervisor.restarts)
    return found


def _storage(state: State) -> Check:
    fault = _store_fault(state.store)
    if fault:
        return Check("fail", "storage", "datastore", "not writable", fault)
    if state.reading:
        return Check("fail", "storage", "datastore", "not readable", state.reading)
    return Check("pass", "storage", "datastore", "writable")


def _redis(commons: CommonsSnapshot | str) -> Check:
    """It never fails: whatever becomes of it, each node goes on by itself."""
    if isinstance(commons, str):
        return Check("warn", "redis", "datastore", "unknown", f"its actor is silent: {commons}")
    if commons.reason:
        told = (
            f"away: limits are per node, divided by the live nodes ({commons.live}), and each"
            f" node finds out for itself which provider is down; {commons.reason}"
        )
        return Check("warn", "redis", "datastore", "away", told)
    n = len(commons.nodes)
    observed = f"there, {n} {'node' if n == 1 else 'nodes'}"
    if commons.eviction:
        told = (
            f"it may throw away what the nodes share (maxmemory-policy {commons.eviction}):"
            " set it to noeviction"
        )
        return Check("warn", "redis", "datastore", observed, told)
    return Check("pass", "redis", "datastore", observed)


def _store_fault(store: JournalSnapshot | str) -> str:
    if isinstance(store, str):
        return f"the journal is silent: {store}"
    return "" if store.is_writable else f"the store cannot write: {store.reason}"


def _queue(lane: LaneSnapshot) -> Check:
    status, observed, output = _lane_state(lane)
    return Check(status, lane.channel, "queue", observed, output)


def _lane_state(lane: LaneSnapshot) -> tuple[Status, str, str]:
    if isinstance(lane, SilentLane):
        return "fail", "failed" if lane.is_failed else "silent", lane.problem
    if not lane.is_accepting:
        return "fail", "closed", "it does not accept now"
    if lane.is_held:
        reason = lane.held_reason or "no provider can take it now"
        return "warn", "held", f"its work waits, nothing is lost: {reason}"
    if lane.is_paused:
        return "warn", "paused", "paused by an operator: it accepts and sends nothing"
    return "pass", "open", ""


_PROVIDER_STATUS: Mapping[str, Status] = {
    "ok": "pass", "ramping": "pass", "disabled": "pass", "throttled": "warn", "stalled": "warn",
    "open": "warn", "half_open": "warn", "forced_open": "warn", "misconfigured": "warn",
    "down": "warn",
}  # fmt: skip


def _provider(provider: ProviderSnapshot) -> Check:
    status = _PROVIDER_STATUS.get(provider.state, "warn")
    output = "" if status == "pass" and provider.state != "disabled" else provider.reason
    if provider.state == "misconfigured":
        detail = provider.circuit.misconfigured_detail or provider.reason
        output = f"misconfigured: {detail}; correct [providers.{provider.name}] in the settings"
    elif status == "pass" and provider.health is not None and not provider.health.is_healthy:
        status, output = "warn", f"its health probe failed: {provider.health.detail}"
    return Check(status, provider.name, "provider", provider.state, output)


def _breaker(provider: ProviderSnapshot) -> Check:
    circuit = provider.circuit.state
    output = {
        "closed": "",
        "forced_open": "forced open by an operator, until it is reset",
        "disabled": "held closed by an operator, until it is reset: it protects nothing",
    }.get(circuit, provider.reason)
    return Check(
        "pass" if circuit == "closed" else "warn", provider.name, "breaker", circuit, output
    )


def _actor(name: str, state: str, restarts: Mapping[str, int]) -> Check:
    status: Status = "pass" if state == "running" else "warn"
    output = "" if state == "running" else f"it was restarted {restarts.get(name, 0)} times"
    if state == "failed":
        output = "it keeps crashing and is tried again slowly; the log has the tracebacks"
        # A provider's work goes elsewhere, and without the commons each node goes on by itself; a
        # lane or the journal has no second.
        status = "warn" if name.startswith(("provider:", "breaker:", "commons")) else "fail"
    return Check(status, name, "actor", state, output)


# --- functions -------------------------------------------------------------------------------


def functions(state: State) -> dict[str, Any]:
    """Return what a caller can have now: accept, search, receipts, and deliver per channel."""
    return {
        "accept": _accept(state.store, state.lanes),
        "search": "fail" if state.reading else "pass",
        "receipts": "fail" if _store_fault(state.store) else "pass",
        "deliver": {lane.channel: _deliver(lane, state) for lane in state.lanes},
    }


def _accept(store: JournalSnapshot | str, lanes: list[LaneSnapshot]) -> Status:
    if _store_fault(store):
        return "fail"
    accepting = [lane.is_accepting for lane in lanes]
    if all(accepting):
        return "pass"
    return "warn" if any(accepting) else "fail"


def _deliver(lane: LaneSnapshot, state: State) -> Status:
    if _store_fault(state.store) or isinstance(lane, SilentLane) or lane.is_held:
        return "fail"
    takers = [each.can_take for each in lane.route]
    if lane.is_paused or not any(takers):
        return "fail"
    return "pass" if all(takers) else "warn"
