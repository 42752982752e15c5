"""How one provider stands: as its lanes have to know it, and as people want to see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clarion.actors.supervisor_messages import CircuitReport, ProviderSnapshot
from clarion.domain.outcome import Health
from clarion.policies.gate import Gate
from clarion.policies.routing import RouteState


@dataclass(frozen=True, slots=True)
class ProviderPlan:
    """What the Supervisor has to know of one provider."""

    name: str
    kind: str
    channels: tuple[str, ...]
    max_concurrent: int
    misconfigured_probe_s: float
    make_gate: Callable[[], Gate]


def route_state(gate: Gate, *, monotonic: float, now: float) -> RouteState:
    """Describe a provider for its lanes; `monotonic` and `now` are one instant on both clocks."""
    obstacle = gate.obstacle(monotonic)
    opens_at = gate.opens_at(monotonic) if obstacle else None
    return RouteState(
        gate.name,
        gate.circuit,
        is_enabled=gate.is_enabled,
        is_misconfigured=gate.misconfigured_until is not None,
        is_throttled=monotonic < gate.throttled_until,
        is_alive=gate.is_alive,
        retry_at=None if opens_at is None else now + opens_at - monotonic,
        reason=obstacle,
    )


def route_shape(gate: Gate, monotonic: float) -> tuple[str, bool, bool, bool, bool]:
    """Return what a lane must hear of when it changes; compared at the end of every call."""
    return (
        gate.circuit,
        gate.is_enabled,
        gate.misconfigured_until is not None,
        monotonic < gate.throttled_until,
        gate.is_alive,
    )


def provider_snapshot(
    plan: ProviderPlan,
    gate: Gate,
    report: CircuitReport | None,
    health: Health | None,
    *,
    spill_after_s: float,
    monotonic: float,
) -> ProviderSnapshot:
    """Describe a provider for people."""
    opening, opens_at = gate.opening(monotonic), gate.opens_at(monotonic)
    state = gate.state(monotonic)
    if state in ("ok", "ramping") and gate.is_stalled(monotonic, spill_after_s):
        state = "stalled"
    return ProviderSnapshot(
        name=plan.name,
        kind=plan.kind,
        channels=plan.channels,
        state=state,
        circuit=report or CircuitReport(plan.name, "closed", 0, None, 0),
        is_enabled=gate.is_enabled,
        in_flight=gate.busy,
        slots=gate.limit,
        max_concurrent=plan.max_concurrent,
        health=health,
        reason=opening.why,
        retry_after_s=None if opens_at is None else opens_at - monotonic,
    )
