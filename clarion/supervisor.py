"""The Supervisor: restarts children, places work on providers, holds the bulkheads.

Owns one `policies.gate` per provider and what each lane wants. How work is placed is `placing`, how
children are restarted `parent`; here is what it is told of lanes, circuits and children, and by
operators.

Who may send: the Queues, Breakers and Providers, the Commons, the runtime (`ActorCrashed`), the
service. A crash costs gates, slots and demands: a new epoch begins, lanes and breakers report, and
every gate stays shut until those that concern it have.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from clarion.actors.call_messages import ReportCircuit, Steer
from clarion.actors.membership_messages import BreakerDecided, ProviderDecided
from clarion.actors.messages import ReportLane, Snapshot
from clarion.actors.provider_view import ProviderPlan, provider_snapshot
from clarion.actors.runtime import NO_REPLY, handles
from clarion.actors.sharing import Sharing
from clarion.actors.supervisor_messages import (
    CircuitReport,
    HealthChecked,
    LaneReport,
    ProviderSnapshot,
    ProviderStarted,
    SetBreaker,
    SetProvider,
    SupervisorSnapshot,
)
from clarion.domain.notification import Call
from clarion.errors import NotFound
from clarion.policies.gate import Gate

log = structlog.get_logger(__name__)


class Supervisor(Sharing):
    """The root of the tree; see the module."""

    def on_start(self) -> None:
        """Begin an epoch: ask everybody to report, and see to children that wait for us."""
        for name, gate in self._gates.items():
            self._restore(name, gate)
        for name in self._children.names:
            if name.startswith("queue:"):
                self._tell(name, ReportLane(self._epoch))
            elif name.startswith("breaker:"):
                self._tell(name, ReportCircuit(self._epoch))
        self.see_to_children()

    def _restore(self, name: str, gate: Gate) -> None:
        """Let a gate go on from what its forerunner knew, till its breaker reports."""
        memory = self._memory
        gate.is_enabled = name not in memory.disabled
        gate.lingering = memory.lingering.get(name, frozenset())
        gate.is_alive = self._is_alive(name)
        report, window = memory.reports.get(name), memory.windows.get(name)
        if report is not None:
            # Where it has closed while nobody supervised, the next report starts the ramp.
            self._take_report(report)
        gate.window = memory.windows[name] = window

    # --- children --------------------------------------------------------------------------

    def _is_alive(self, provider: str) -> bool:
        gone = self._children.failed | self._memory.down
        return not any(part in gone for part in _parts(provider))

    def child_down(self, name: str) -> None:
        """Shut the gate of a provider that is being restarted, and take its calls back."""
        provider = name.partition(":")[2]
        if provider in self._gates and name in _parts(provider):
            self._memory.down.add(name)
            self.liveness_changed()
            self._take_back(provider, f"{name} is being restarted")

    @handles(ProviderStarted)
    def provider_started(self, message: ProviderStarted) -> None:
        """A provider can take calls, for the first time or again."""
        self._memory.started.add(message.provider)
        self._memory.down.discard(f"provider:{message.provider}")
        self.liveness_changed()

    def liveness_changed(self) -> None:
        """Shut the gates of providers that are down, and open those that are back."""
        for provider, gate in self._gates.items():
            gate.is_alive = self._is_alive(provider)
        self._refresh_known()
        self._place_all()

    # --- reports ---------------------------------------------------------------------------

    @handles(LaneReport)
    def lane_reported(self, report: LaneReport) -> None:
        """Take over what a lane knows; its older demands are void."""
        is_first = report.channel not in self._reported_lanes
        if is_first and report.epoch != self._epoch:
            return  # Told to a forerunner: it names calls that may have ended. Ours is behind it.
        lane = self._lanes[report.channel]
        if lane.demand is not None:
            self._release(lane.demand)
        lane.demand, lane.wants, lane.shapes = None, report.wants, []
        self._dismiss_standby(lane, "its lane began anew")
        if is_first:
            self._rebuild_slots(report.in_flight)
            self._reported_lanes.add(report.channel)
        self._refresh_known()
        self._place_all()

    def _rebuild_slots(self, calls: Sequence[Call]) -> None:
        for call in calls:
            gate = self._gates.get(call.provider)
            if gate is not None and call.key not in self._freed_early:
                gate.rebuild(call.key, is_probe=call.is_probe, now=self._clock.monotonic())

    @handles(CircuitReport)
    def circuit_reported(self, report: CircuitReport) -> None:
        """Take over how a circuit stands."""
        self._take_report(report)
        self._reported_breakers.add(report.provider)
        self._memory.down.discard(f"breaker:{report.provider}")
        self._gates[report.provider].is_alive = self._is_alive(report.provider)
        self._refresh_known()
        self._place_for(report.provider)

    def _refresh_known(self) -> None:
        for name, gate in self._gates.items():
            lanes = [c for c, lane in self._lanes.items() if name in lane.plan.providers]
            is_up = name in self._reported_breakers and name in self._memory.started
            gate.is_known = is_up and all(
                channel in self._reported_lanes or f"queue:{channel}" in self._children.failed
                for channel in lanes
            )
        if len(self._reported_lanes) == len(self._lanes):
            self._freed_early.clear()

    @handles(HealthChecked)
    def health_checked(self, message: HealthChecked) -> None:
        """Remember a health probe; a misconfigured provider that passes gets one real send."""
        self._memory.health[message.provider] = message.health
        gate, now = self._gates[message.provider], self._clock.monotonic()
        if gate.misconfigured_until is None or now < gate.misconfigured_until:
            return
        if message.health.is_healthy:
            gate.is_health_good = True
            self._place_for(message.provider)
        else:
            wait_s = self._providers[message.provider].misconfigured_probe_s
            gate.put_off_misconfigured(now + wait_s, message.health.detail)
            self._tell_next_try(message.provider, now)

    # --- operators -------------------------------------------------------------------------

    @handles(SetProvider)
    def set_provider(self, message: SetProvider) -> object:
        """Enable or disable a provider, durably."""
        value = self._enable(message.name, message.is_enabled, message.who)
        self._remember("provider", message.name, value, message.who, self.reply)
        return NO_REPLY

    def _enable(self, name: str, is_enabled: bool, who: str) -> str:
        self._gate(name).is_enabled = is_enabled
        if is_enabled:
            self._memory.disabled.discard(name)
        else:
            self._memory.disabled.add(name)
        value = "enabled" if is_enabled else "disabled"
        log.warning(f"provider_{value}", provider=name, who=who)
        self._place_for(name)
        return value

    @handles(SetBreaker)
    def set_breaker(self, message: SetBreaker) -> object:
        """Steer a breaker, durably."""
        self._steer(message.name, message.action, message.who)
        self._remember("breaker", message.name, message.action, message.who, self.reply)
        return NO_REPLY

    def _steer(self, name: str, action: str, who: str) -> None:
        self._gate(name)
        log.warning(f"breaker_{action}", provider=name, who=who)
        self._tell(f"breaker:{name}", Steer(action))
        self._memory.kept_pauses.pop(name, None)

    @handles(ProviderDecided)
    def provider_decided(self, message: ProviderDecided) -> None:
        """Follow what an operator decided at another node."""
        if message.name in self._gates:
            self._enable(message.name, message.is_enabled, message.who)

    @handles(BreakerDecided)
    def breaker_decided(self, message: BreakerDecided) -> None:
        """Follow what an operator decided at another node."""
        if message.name in self._gates:
            self._steer(message.name, message.action, message.who)

    def _gate(self, name: str) -> Gate:
        gate = self._gates.get(name)
        if gate is None:
            raise NotFound("provider", name)
        return gate

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> SupervisorSnapshot:
        """Say how all gates and children stand."""
        now = self._clock.monotonic()
        providers = tuple(self._snapshot_of(plan, now) for plan in self._providers.values())
        return SupervisorSnapshot(providers, self._children.states(), dict(self._children.restarts))

    def _snapshot_of(self, plan: ProviderPlan, now: float) -> ProviderSnapshot:
        return provider_snapshot(
            plan,
            self._gates[plan.name],
            self._memory.reports.get(plan.name),
            self._memory.health.get(plan.name),
            spill_after_s=min(self._lanes[each].plan.spill_after_s for each in plan.channels),
            monotonic=now,
        )


def _parts(provider: str) -> tuple[str, str]:
    """Return the names of the actors that a call passes."""
    return f"provider:{provider}", f"breaker:{provider}"
