"""`/v1/queues`, `/v1/providers`, `/v1/breakers`: look at the lanes and providers, and steer them.

What is set outlives a restart, which the service sees to. A command answers 204 once it is
durable.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from clarion.actors.messages import LaneSnapshot
from clarion.actors.supervisor_messages import ProviderSnapshot
from clarion.domain.instant import rfc3339
from clarion.domain.outcome import Health
from clarion.http.answer import answer
from clarion.http.front import FRONT
from clarion.http.query import read_query
from clarion.policies.routing import RouteState
from clarion.service import SilentLane


async def queues(request: web.Request) -> web.Response:
    """Show how every lane stands."""
    read_query(request, {})
    lanes = await request.app[FRONT].service.queues()
    return answer({"items": [represent_lane(lane) for lane in lanes]})


async def providers(request: web.Request) -> web.Response:
    """Show how every provider and its circuit stand."""
    read_query(request, {})
    found = (await request.app[FRONT].service.providers()).providers
    return answer({"items": [represent_provider(each) for each in found]})


async def pause(request: web.Request) -> web.Response:
    """Stop taking work from a lane; it goes on accepting."""
    await request.app[FRONT].service.pause(request.match_info["channel"])
    return _done()


async def resume(request: web.Request) -> web.Response:
    """Take work from a lane again."""
    await request.app[FRONT].service.resume(request.match_info["channel"])
    return _done()


async def enable(request: web.Request) -> web.Response:
    """Use a provider again."""
    await request.app[FRONT].service.set_provider(request.match_info["name"], is_enabled=True)
    return _done()


async def disable(request: web.Request) -> web.Response:
    """Make no new calls to a provider; those that are out end."""
    await request.app[FRONT].service.set_provider(request.match_info["name"], is_enabled=False)
    return _done()


async def open_circuit(request: web.Request) -> web.Response:
    """Force a circuit open until it is reset."""
    return await _set_breaker(request, "open")


async def close_circuit(request: web.Request) -> web.Response:
    """Hold a circuit closed, whatever the provider answers, until it is reset."""
    return await _set_breaker(request, "close")


async def reset_circuit(request: web.Request) -> web.Response:
    """Let a circuit work by its own rules again, closed."""
    return await _set_breaker(request, "reset")


async def _set_breaker(request: web.Request, action: str) -> web.Response:
    await request.app[FRONT].service.set_breaker(request.match_info["name"], action)
    return _done()


def _done() -> web.Response:
    return web.Response(status=204)


# --- as JSON ---------------------------------------------------------------------------------


def represent_lane(lane: LaneSnapshot) -> dict[str, Any]:
    """Return the JSON object of a lane."""
    return {
        "channel": lane.channel,
        "paused": lane.is_paused,
        "held": lane.is_held,
        "held_reason": lane.held_reason,
        "accepting": lane.is_accepting,
        "ready": lane.ready,
        "scheduled": lane.scheduled,
        "waiting": lane.waiting,
        "in_flight": lane.in_flight,
        "in_memory": lane.in_memory,
        "oldest_at": None if lane.oldest_at is None else rfc3339(lane.oldest_at),
        "problem": lane.problem if isinstance(lane, SilentLane) else None,
        "route": [_represent_place(state) for state in lane.route],
    }


def _represent_place(state: RouteState) -> dict[str, Any]:
    return {
        "provider": state.provider,
        "circuit": state.circuit,
        "takes_work": state.can_take,
        "reason": state.reason,
        "retry_at": None if state.retry_at is None else rfc3339(state.retry_at),
    }


def represent_provider(provider: ProviderSnapshot) -> dict[str, Any]:
    """Return the JSON object of a provider."""
    return {
        "name": provider.name,
        "kind": provider.kind,
        "channels": list(provider.channels),
        "state": provider.state,
        "circuit": provider.circuit.state,
        "failures": provider.circuit.failures,
        "enabled": provider.is_enabled,
        "in_flight": provider.in_flight,
        "slots": provider.slots,
        "max_concurrent": provider.max_concurrent,
        "reason": provider.reason,
        "retry_after_s": provider.retry_after_s,
        "health": None if provider.health is None else _represent_health(provider.health),
    }


def _represent_health(health: Health) -> dict[str, Any]:
    return {
        "healthy": health.is_healthy,
        "misconfigured": health.is_misconfigured,
        "detail": health.detail,
        "checked_at": rfc3339(health.checked_at),
    }
