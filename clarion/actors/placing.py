"""Placing work: gates, slots and demands, and the calls on their way to the breakers.

The part of the Supervisor that decides nothing by itself: `policies.gate` says whether a provider
takes one more call, `policies.routing` which of them to offer. Demand flows up, jobs flow down: a
lane gets at most one open `Demand`, answers it with a `Dispatch`, and each call then passes the
provider's breaker, some after they stood by for a slot (`policies.standby`).

Waiting costs nothing: where no gate is open there is no demand, only one timer
per lane, at the earliest instant at which time alone can open a gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from clarion.actors.call_messages import Deliver, Lingering, ProbeHealth, Record
from clarion.actors.children import Children
from clarion.actors.memory import Memory
from clarion.actors.messages import Demand, Internal, Place, Recalled, Route
from clarion.actors.parent import Parent
from clarion.actors.provider_view import ProviderPlan, route_shape, route_state
from clarion.actors.runtime import handles
from clarion.actors.supervisor_messages import (
    CircuitReport,
    Dispatch,
    Freed,
    Ready,
    SlotReturned,
)
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import ActorDead
from clarion.policies.clock import Clock
from clarion.policies.gate import CallKey, Gate
from clarion.policies.routing import Offer, RoutePlan, Wants, place
from clarion.storage.command import SetControl
from clarion.telemetry.metrics import Metrics

KEPT_PAUSE_S = 10.0
"""A provider's pause that is longer is kept over a death of the process."""


@dataclass(slots=True)
class LaneWork:
    """What the Supervisor knows of one lane."""

    plan: RoutePlan
    wants: Wants = field(default_factory=Wants)
    demand: Demand | None = None
    is_dirty: bool = False
    """Something changed while a demand was open: place again when it is answered."""
    is_starved: bool = False
    """It wanted places when last looked at, and there were none."""
    timer: Any = None
    shapes: list[Any] = field(default_factory=list)
    """How its route stood when it was last told."""


@dataclass(frozen=True, slots=True)
class _PlaceAgain(Internal):
    """Self: time may have opened a gate of this lane."""

    channel: str


class Placing(Parent):
    """What the Supervisor does with demands and calls; see the module."""

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
        self._lanes = {plan.channel: LaneWork(plan) for plan in routes}
        self._providers = {plan.name: plan for plan in providers}
        self._gates: dict[str, Gate] = {plan.name: plan.make_gate() for plan in providers}
        self._memory = memory
        self._reported_lanes: set[str] = set()
        self._reported_breakers: set[str] = set()
        self._freed_early: set[CallKey] = set()
        """Calls that ended before their lane reported, and that it may report as out."""
        memory.epoch += 1
        self._epoch = memory.epoch

    def _tell(self, name: str, message: object) -> None:
        # At the end of the process the others stop before us, and need no news any more.
        with suppress(ActorDead):
            self.context.ref_of(name).tell(message)

    # --- demands ----------------------------------------------------------------------

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
        moves_at = self._see_to_standby(lane, now)
        if lane.demand is not None:
            lane.is_dirty = True
            return
        if lane.wants.is_nothing or channel not in self._reported_lanes:
            if moves_at is not None:
                self._set_timer(lane, moves_at, now)
            return
        self._ask_health(lane, now)
        placement = place(lane.plan, self._gates, lane.wants, now)
        instants = [at for at in (placement.next_at, moves_at) if at is not None]
        self._set_timer(lane, min(instants, default=None), now)
        lane.is_starved = not placement.offers
        if placement.offers:
            self._demand(lane, placement.offers, placement.passed_over, now)

    def _demand(
        self,
        lane: LaneWork,
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
        places = [
            Place(o.provider, o.n, o.is_probe, o.is_fallback_only, o.why, o.ahead) for o in offers
        ]
        lane.demand = Demand(demand_id, self._epoch, tuple(places), passed_over)
        lane.is_dirty = False
        self._tell(f"queue:{lane.plan.channel}", lane.demand)

    def _ask_health(self, lane: LaneWork, now: float) -> None:
        for name in lane.plan.providers:
            gate = self._gates[name]
            if gate.needs_health_probe(now):
                gate.health_asked(now)
                self._tell(f"provider:{name}", ProbeHealth())

    def _set_timer(self, lane: LaneWork, at: float | None, now: float) -> None:
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
        gate, now = self._gates[call.provider], self._clock.monotonic()
        if gate.is_full:
            return self._stand_by(gate, call, demand_id, now)
        if not gate.occupy(demand_id, call.key, now=now):
            return False
        self._tell(f"breaker:{call.provider}", Deliver(call))
        return True

    def _stand_by(self, gate: Gate, call: Call, demand_id: int, now: float) -> bool:
        is_admitted = gate.stand_by(demand_id, call, now=now)
        if is_admitted:
            call.out_since = math.inf  # Its age counts from when it gets a slot.
        return is_admitted

    def _see_to_standby(self, lane: LaneWork, now: float) -> float | None:
        """Let go what found a slot, recall what had better not wait; return when to look again."""
        instants: list[float] = []
        for name in lane.plan.providers:
            gate = self._gates[name]
            if not gate.standby.calls:
                continue
            if gate.is_closed_to_standby(now, lane.plan.spill_after_s):
                self._recall(lane.plan.channel, gate.dismiss(), "the gate closed meanwhile")
                continue
            for call in gate.let_in(now):
                call.out_since = now
                self._tell(f"breaker:{name}", Deliver(call))
            at = gate.stalls_at(lane.plan.spill_after_s) if gate.standby.calls else None
            if at is not None:
                instants.append(at)
        return min(instants, default=None)

    def _dismiss_standby(self, lane: LaneWork, why: str) -> None:
        for name in lane.plan.providers:
            gate = self._gates[name]
            self._recall(lane.plan.channel, gate.dismiss(), why)

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
        # In this order: the probe that closes a circuit is no success of the slow start after it.
        gate.free(call.key, message.answer, now)
        if message.circuit is not None:
            self._take_report(message.circuit)
        self._memory.windows[call.provider] = gate.window
        if message.answer.outcome is Outcome.THROTTLED:
            self._keep_pause(gate, now)
        self._place_for(call.provider)

    def _keep_pause(self, gate: Gate, now: float) -> None:
        """Let a long pause outlive the process: whoever asked for it does not care that we died."""
        left_s = gate.throttled_until - now
        kept_until = self._memory.kept_pauses.get(gate.name, 0.0)
        if left_s > KEPT_PAUSE_S and gate.throttled_until > kept_until + 1.0:
            self._memory.kept_pauses[gate.name] = gate.throttled_until
            self._remember("pause", gate.name, repr(self._clock.now() + left_s), "provider")

    def _remember(self, kind: str, name: str, value: str, who: str, reply: Any = None) -> None:
        self.context.ref_of("journal").tell(
            SetControl("", kind, name, value, who, self._clock.now(), reply=reply)
        )

    def _take_back(self, provider: str, why: str) -> None:
        """Recall the calls that wait for one of a provider's actors: they surely were not sent."""
        answer = Answer(Outcome.RECALLED, "recalled", why, surely_not_accepted=True)
        withdraw = self.context.runtime.withdraw
        for message in withdraw(f"breaker:{provider}", Deliver):
            self._gates[provider].free(message.call.key, answer, self._clock.monotonic())
            self._recall(message.call.job.channel, [message.call], why)
        for message in withdraw(f"provider:{provider}", Deliver):
            self._recall(message.call.job.channel, [message.call], why)
            # Its permit is the breaker's, and the slot comes back with it.
            self._tell(f"breaker:{provider}", Record(message.permit, message.call, answer))

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

    def _tell_route(self, lane: LaneWork, now: float) -> None:
        gates = [self._gates[name] for name in lane.plan.providers]
        shapes = [route_shape(gate, now) for gate in gates]
        if shapes != lane.shapes:
            lane.shapes = shapes
            wall = self._clock.now()
            states = tuple(route_state(gate, monotonic=now, now=wall) for gate in gates)
            self._tell(f"queue:{lane.plan.channel}", Route(self._epoch, states))

    def _tell_next_try(self, provider: str, now: float) -> None:
        """Tell lanes when a gate opens next, although it looks as before: people read the time."""
        for lane in self._lanes.values():
            if provider in lane.plan.providers:
                lane.shapes = []
                self._tell_route(lane, now)

    def _take_report(self, report: CircuitReport) -> None:
        self._memory.reports[report.provider] = report
        gate = self._gates[report.provider]
        gate.set_circuit(report.state, report.retry_at)
        gate.opened_by = report.opened_by
        gate.throttled_until = report.throttled_until or 0.0
        gate.set_misconfigured(report.misconfigured_until, report.misconfigured_detail)
        self._memory.windows[report.provider] = gate.window


def _share(demand: Demand, plan: RoutePlan) -> bool:
    return any(place.provider in plan.providers for place in demand.places)
