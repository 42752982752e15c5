"""The Supervisor: restarts children, places work on providers, holds the bulkheads.

Owns one `policies.gate` per provider and what each lane wants; `policies.routing` decides. Demand
flows up, jobs flow down: a lane gets at most one open `Demand`, answers it with a `Dispatch`, and
each call then passes the provider's breaker. Waiting costs nothing: where no gate is open there is
no demand, only one timer per lane, at the earliest instant at which time alone can open a gate.

Who may send: the Queues, Breakers and Providers, the runtime (`ActorCrashed`), the service. A
crash costs gates, slots and demands: a new epoch begins, lanes and breakers report, and every gate
stays shut until those that concern it have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from clarion.actors.call_messages import Deliver, Lingering, ProbeHealth, ReportCircuit, Steer
from clarion.actors.children import Children
from clarion.actors.memory import Memory
from clarion.actors.messages import Demand, Internal, Place, Recalled, ReportLane, Route, Snapshot
from clarion.actors.parent import Parent
from clarion.actors.provider_view import ProviderPlan, provider_snapshot, route_state
from clarion.actors.runtime import NO_REPLY, handles
from clarion.actors.supervisor_messages import (
    CircuitReport,
    Dispatch,
    Freed,
    HealthChecked,
    LaneReport,
    ProviderSnapshot,
    Ready,
    SetBreaker,
    SetProvider,
    SlotReturned,
    SupervisorSnapshot,
)
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import ActorDead, NotFound
from clarion.policies.clock import Clock
from clarion.policies.gate import CallKey, Gate
from clarion.policies.routing import Offer, RoutePlan, Wants, place
from clarion.storage.command import SetControl
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Lane:
    """What the Supervisor knows of one lane."""

    plan: RoutePlan
    wants: Wants = field(default_factory=Wants)
    demand: Demand | None = None
    is_dirty: bool = False
    """Something changed while a demand was open: place again when it is answered."""
    is_starved: bool = False
    """It wanted places when last looked at, and there were none."""
    timer: Any = None
    shapes: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class _PlaceAgain(Internal):
    """Self: time may have opened a gate of this lane."""

    channel: str


class Supervisor(Parent):
    """The root of the tree; see the module."""

    def __init__(
        self,
        routes: Sequence[RoutePlan],
        providers: Sequence[ProviderPlan],
        *,
        children: Children,
        memory: Memory,
        clock: Clock,
        metrics: Metrics,
        on_fatal: Callable[[str], None],
    ) -> None:
        super().__init__(children, clock=clock, metrics=metrics, on_fatal=on_fatal)
        self._lanes = {plan.channel: _Lane(plan) for plan in routes}
        self._providers = {plan.name: plan for plan in providers}
        self._gates: dict[str, Gate] = {plan.name: plan.make_gate() for plan in providers}
        self._memory = memory
        self._reported_lanes: set[str] = set()
        self._reported_breakers: set[str] = set()
        self._freed_early: set[CallKey] = set()
        """Calls that ended before their lane reported, and that it may report as out."""
        memory.epoch += 1
        self._epoch = memory.epoch

    def on_start(self) -> None:
        """Begin an epoch: ask everybody to report, and see to children that wait for us."""
        for name, gate in self._gates.items():
            gate.is_enabled = name not in self._memory.disabled
            gate.lingering = self._memory.lingering.get(name, frozenset())
            gate.is_alive = self._is_alive(name)
        for name in self._children.names:
            if name.startswith("queue:"):
                self._tell(name, ReportLane(self._epoch))
            elif name.startswith("breaker:"):
                self._tell(name, ReportCircuit(self._epoch))
        self.see_to_children()

    def _tell(self, name: str, message: object) -> None:
        # At the end of the process the others stop before us, and need no news any more.
        with suppress(ActorDead):
            self.context.ref_of(name).tell(message)

    def _is_alive(self, provider: str) -> bool:
        parts = (f"provider:{provider}", f"breaker:{provider}")
        return not any(part in self._children.failed for part in parts)

    def liveness_changed(self) -> None:
        """Shut the gates of providers that are given up, and open those that are back."""
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
        lane.demand, lane.wants, lane.shapes = None, report.wants, ()
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
        self._refresh_known()
        self._place_for(report.provider)

    def _take_report(self, report: CircuitReport) -> None:
        self._memory.reports[report.provider] = report
        gate = self._gates[report.provider]
        gate.set_circuit(report.state, report.retry_at)
        gate.throttled_until = report.throttled_until or 0.0
        gate.set_misconfigured(report.misconfigured_until, report.misconfigured_detail)

    def _refresh_known(self) -> None:
        for name, gate in self._gates.items():
            lanes = [c for c, lane in self._lanes.items() if name in lane.plan.providers]
            gate.is_known = name in self._reported_breakers and all(
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

    # --- placing work ----------------------------------------------------------------------

    @handles(Ready)
    def lane_ready(self, message: Ready) -> None:
        """A lane has work."""
        self._lanes[message.channel].wants = message.wants
        self._place(message.channel)

    @handles(_PlaceAgain)
    def place_again(self, message: _PlaceAgain) -> None:
        """A gate may have opened by time."""
        self._lanes[message.channel].timer = None
        self._place(message.channel)

    def _place_all(self) -> None:
        for channel in self._lanes:
            self._place(channel)

    def _place_for(self, provider: str) -> None:
        for channel, lane in self._lanes.items():
            if provider in lane.plan.providers:
                self._place(channel)

    def _place(self, channel: str) -> None:
        lane, now = self._lanes[channel], self._clock.monotonic()
        self._tell_route(lane, now)
        if lane.demand is not None:
            lane.is_dirty = True
            return
        if lane.wants.is_nothing or channel not in self._reported_lanes:
            return
        self._ask_health(lane, now)
        placement = place(lane.plan, self._gates, lane.wants, now)
        self._set_timer(lane, placement.next_at, now)
        lane.is_starved = not placement.offers
        if placement.offers:
            self._demand(lane, placement.offers, placement.passed_over, now)

    def _demand(
        self,
        lane: _Lane,
        offers: Sequence[Offer],
        passed_over: tuple[tuple[str, str], ...],
        now: float,
    ) -> None:
        self._memory.demand += 1
        demand_id = self._memory.demand
        for offer in offers:
            self._gates[offer.provider].reserve(
                demand_id, offer.n, is_probe=offer.is_probe, now=now
            )
        places = tuple(
            Place(each.provider, each.n, each.is_probe, each.is_fallback_only, each.why)
            for each in offers
        )
        lane.demand = Demand(demand_id, self._epoch, places, passed_over)
        lane.is_dirty = False
        self._tell(f"queue:{lane.plan.channel}", lane.demand)

    def _ask_health(self, lane: _Lane, now: float) -> None:
        for name in lane.plan.providers:
            gate = self._gates[name]
            if gate.needs_health_probe(now):
                gate.health_asked(now)
                self._tell(f"provider:{name}", ProbeHealth())

    def _set_timer(self, lane: _Lane, at: float | None, now: float) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        if at is not None:
            lane.timer = self.context.later(max(0.0, at - now), _PlaceAgain(lane.plan.channel))

    @handles(Dispatch)
    def dispatched(self, message: Dispatch) -> None:
        """Turn reservations into slots and let the calls go; recall what may not go any more."""
        lane = self._lanes[message.channel]
        demand = lane.demand
        if demand is None or (demand.id, demand.epoch) != (message.demand, message.epoch):
            self._recall(message.channel, message.calls, "its demand is void")
            return
        stopped = [call for call in message.calls if not self._let_go(call, demand.id)]
        self._release(demand)
        lane.demand, lane.wants = None, message.wants
        self._recall(message.channel, stopped, "the gate closed meanwhile")
        # An empty answer means: nothing fits. Only a change makes asking this lane again useful.
        is_changed = bool(message.calls) or lane.is_dirty
        if is_changed:
            self._place(message.channel)
        self._place_others(demand, message.channel, only_starved=not is_changed)

    def _let_go(self, call: Call, demand_id: int) -> bool:
        gate = self._gates[call.provider]
        if not gate.occupy(demand_id, call.key, now=self._clock.monotonic()):
            return False
        self._tell(f"breaker:{call.provider}", Deliver(call))
        return True

    def _release(self, demand: Demand) -> None:
        now = self._clock.monotonic()
        for each in demand.places:
            self._gates[each.provider].release(demand.id, now)

    def _place_others(self, demand: Demand, channel: str, *, only_starved: bool) -> None:
        """Place for the lanes that share a provider of the demand; `only_starved` ends circles."""
        for other, lane in self._lanes.items():
            is_due = lane.is_starved or not only_starved
            if is_due and other != channel and _share(demand, lane.plan):
                self._place(other)

    def _recall(self, channel: str, calls: Sequence[Call], reason: str) -> None:
        if not calls:
            return
        if channel not in self._reported_lanes:
            # Its report is on the way, and may still name them as out.
            self._freed_early.update(call.key for call in calls)
        self._tell(f"queue:{channel}", Recalled(calls, reason))

    @handles(Freed)
    def freed(self, message: Freed) -> None:
        """A call ended: its slot, the ramp, the limit and the circuit change together."""
        call = message.call
        if call.job.channel not in self._reported_lanes:
            self._freed_early.add(call.key)
        gate, now = self._gates[call.provider], self._clock.monotonic()
        if message.answer.outcome is Outcome.MISCONFIGURED and call.is_probe:
            gate.is_health_good = False
        self._take_report(message.circuit)
        gate.free(call.key, message.answer, now)
        self._place_for(call.provider)

    @handles(Lingering)
    def threads_linger(self, message: Lingering) -> None:
        """Keep the slots of calls whose threads hang; told before the `Freed` of each."""
        self._memory.lingering[message.provider] = message.calls
        self._gates[message.provider].lingering = message.calls
        self._place_for(message.provider)

    @handles(SlotReturned)
    def slot_returned(self, message: SlotReturned) -> None:
        """A Queue knows better than we do that a call is over."""
        gate = self._gates.get(message.provider)
        if gate is not None:
            answer = Answer(Outcome.UNKNOWN, "given_up")
            gate.free(message.key, answer, self._clock.monotonic())
            self._place_for(message.provider)

    # --- telling lanes their route ---------------------------------------------------------

    def _tell_route(self, lane: _Lane, now: float) -> None:
        states = tuple(
            route_state(self._gates[name], monotonic=now, now=self._clock.now())
            for name in lane.plan.providers
        )
        shapes = tuple(state.shape for state in states)
        if shapes != lane.shapes:
            lane.shapes = shapes
            self._tell(f"queue:{lane.plan.channel}", Route(self._epoch, states))

    def _tell_next_try(self, provider: str, now: float) -> None:
        """Tell lanes when a gate opens next, although it looks as before: people read the time."""
        for lane in self._lanes.values():
            if provider in lane.plan.providers:
                lane.shapes = ()
                self._tell_route(lane, now)

    # --- operators -------------------------------------------------------------------------

    @handles(SetProvider)
    def set_provider(self, message: SetProvider) -> object:
        """Enable or disable a provider, durably."""
        gate = self._gate(message.name)
        gate.is_enabled = message.is_enabled
        if message.is_enabled:
            self._memory.disabled.discard(message.name)
        else:
            self._memory.disabled.add(message.name)
        value = "enabled" if message.is_enabled else "disabled"
        log.warning(f"provider_{value}", provider=message.name, who=message.who)
        self._place_for(message.name)
        return self._remember("provider", message.name, value, message.who)

    @handles(SetBreaker)
    def set_breaker(self, message: SetBreaker) -> object:
        """Steer a breaker, durably."""
        self._gate(message.name)
        log.warning(f"breaker_{message.action}", provider=message.name, who=message.who)
        self._tell(f"breaker:{message.name}", Steer(message.action))
        return self._remember("breaker", message.name, message.action, message.who)

    def _gate(self, name: str) -> Gate:
        gate = self._gates.get(name)
        if gate is None:
            raise NotFound("provider", name)
        return gate

    def _remember(self, kind: str, name: str, value: str, who: str) -> object:
        self.context.ref_of("journal").tell(
            SetControl("", kind, name, value, who, self._clock.now(), reply=self.reply)
        )
        return NO_REPLY

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


def _share(demand: Demand, plan: RoutePlan) -> bool:
    return any(place.provider in plan.providers for place in demand.places)
