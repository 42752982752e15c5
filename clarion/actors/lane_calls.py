"""The calls of a lane: places are filled, intents written, calls let go, their ends judged.

The part of the Queue between its line of waiting jobs and the wire. It takes work only when the
Supervisor demands some (`Demand`), notes it on disk (`Intend`), lets it go (`Dispatch`), and
decides with `policies.verdict` what the end of a call means (`Settled`, `Recalled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, assert_never

import structlog

from clarion.actors.lane_settings import LaneSettings
from clarion.actors.lane_supply import LaneSupply
from clarion.actors.lane_timers import TIMERS_IN_MEMORY, LaneTimers
from clarion.actors.lane_writes import LaneWrites, record_of
from clarion.actors.messages import Demand, Intended, Recalled, Route, Settled
from clarion.actors.runtime import Actor, Ref, handles
from clarion.actors.supervisor_messages import Dispatch, Ready, SlotReturned
from clarion.domain.notification import Call, Job, ProviderCall
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.allotment import Allotment, probe_rank
from clarion.policies.clock import Clock
from clarion.policies.lane_book import LaneBook
from clarion.policies.lane_route import LaneRoute
from clarion.policies.routing import Wants
from clarion.policies.verdict import Again, End, begin_anew, given_up, judge, worn_out
from clarion.policies.wall_clock import WallClockWatch
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

ROUND_MISSED_S = 3.0
"""A look for overdue calls that late tells that the process was stopped, or its machine asleep."""


class LaneCalls(Actor):
    """What a Queue does with the calls of its lane; see the module."""

    def __init__(
        self,
        settings: LaneSettings,
        *,
        writes: LaneWrites,
        supervisor: Ref,
        clock: Clock,
        metrics: Metrics,
        watch: WallClockWatch,
        is_draining: bool,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._channel = settings.plan.channel
        self._writes = writes
        self._supervisor = supervisor
        self._clock = clock
        self._metrics = metrics
        self._book = LaneBook(settings.max_in_memory, TIMERS_IN_MEMORY)
        self._timers = LaneTimers(self._book.timers, writes, self.context, watch)
        self._demand: Demand | None = None
        self._route = LaneRoute(settings.plan)
        self._epoch = 0
        self._supply = LaneSupply(self._book, writes, is_shared=settings.is_shared)
        self._is_paused = False
        self._is_writable = True
        self._is_draining = is_draining
        self._drained: Any = None
        self._looked_at = clock.monotonic()

    def _can_work(self) -> bool:
        return self._is_writable and not self._is_paused and not self._is_draining

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._book.out and not self._book.accepting:
            self._drained.set(None)

    # --- placing work ----------------------------------------------------------------------

    def _hint(self) -> None:
        """Tell the Supervisor that there is work, unless it has asked already."""
        if self._demand is None and self._can_work():
            wants = self._wants()
            if not wants.is_nothing:
                self._supervisor.tell(Ready(self._channel, wants))

    def _wants(self) -> Wants:
        if not self._can_work():
            return Wants()
        return self._route.wants(self._book.line)

    @handles(Demand)
    def demanded(self, demand: Demand) -> None:
        """Fill the offered places, and note the calls on disk before they go."""
        calls = self._fill(demand) if self._can_work() else []
        if not calls:
            self._dispatch(demand, [])
            return
        self._demand = demand
        self._book.intend(calls)
        self._writes.intend(calls, demand.id)
        self._supply.refill()

    def _fill(self, demand: Demand) -> list[Call]:
        places = Allotment(
            self._route.plan,
            demand.places,
            demand.passed_over,
            self._route.states,
            self._settings.rules.rng,
        )
        now = self._clock.now()
        calls: list[Call] = []
        while (job := self._take(places)) is not None:
            end = given_up(job, now) or worn_out(job, self._route.states, self._settings.rules)
            if end is not None:
                self._writes.end(job, None, end)
                continue
            room = places.find(job)
            if room is None:
                self._book.line.push(job)
                break
            calls.append(places.call(job, room, now))
        return calls

    def _take(self, places: Allotment) -> Job | None:
        return self._book.line.take(
            places.suits,
            is_fresh_wanted=places.takes_fresh,
            rank=probe_rank if places.only_probes_left else None,
        )

    @handles(Intended)
    def intended(self, message: Intended) -> None:
        """The calls are on disk: let them go, or take back those of a void demand."""
        is_mine = message.origin == self._writes.origin
        if is_mine:
            for call in message.asked:
                self._book.intending.pop(call.job.id, None)
                if not self._book.is_over(call.job.id) and message.error is not None:
                    self._book.line.push(call.job)
        demand = self._demand
        is_asked = demand is not None and is_mine and demand.id == message.demand
        calls = [call for call in message.calls if self._book.adopt(call)]
        for call in calls:
            if call.provider in call.job.tried:
                begin_anew(call.job, self._route.states)
        if demand is None or not is_asked or self._is_draining:
            self._recall(calls, "its demand is void")
            calls = []
        if demand is not None and is_asked:
            self._dispatch(demand, calls)

    def _dispatch(self, demand: Demand, calls: list[Call]) -> None:
        self._demand = None
        self._book.dispatched(calls, self._clock.now(), self._clock.monotonic())
        self._supervisor.tell(
            Dispatch(self._channel, demand.id, demand.epoch, calls, self._wants())
        )

    @handles(Recalled)
    def recalled(self, message: Recalled) -> None:
        """These calls never left: back to the head of the lane."""
        self._recall(message.calls, message.reason)

    def _recall(self, calls: Sequence[Call], reason: str) -> None:
        for call in calls:
            self._conclude(call, Answer(Outcome.RECALLED, "recalled", reason, True))

    # --- answers ---------------------------------------------------------------------------

    @handles(Settled)
    def settled(self, message: Settled) -> None:
        """A call came to its end."""
        self._conclude(message.call, message.answer)

    def _conclude(self, call: Call, answer: Answer, *, is_given_up: bool = False) -> None:
        known = self._book.conclude(call)
        if known is None:
            return
        if self._book.disinherit(known.job.id) or is_given_up:
            # The Supervisor may have heard of its end before it heard that it was out.
            self._supervisor.tell(SlotReturned(known.provider, known.key))
        # A forerunner's job object is stale; ours carries what happened since.
        call.job = known.job
        now = self._clock.now()
        record = record_of(call, answer, now)
        if self._book.is_over(call.job.id):
            self._writes.note(record, call.job)
            self._tell_drained()
            return
        verdict = judge(call, answer, self._route.states, self._settings.rules, now)
        match verdict:
            case End():
                self._writes.end(
                    call.job, call.number, verdict, record=record, detail=answer.detail
                )
            case Again():
                self._go_on(call, verdict, record)
            case _:
                assert_never(verdict)
        self._tell_drained()

    def _go_on(self, call: Call, again: Again, record: ProviderCall | None) -> None:
        job = call.job
        if again.due_at is not None:
            due_at = min(again.due_at, job.expires_at)
            again = replace(again, due_at=due_at)
            job.is_ours = self._supply.keeps_timer(due_at)
        self._writes.go_on(job, call.number, again, record)
        if again.attempt > job.attempt:
            self._metrics.retries(call.provider).inc()
        self._book.go_on(job, again)
        if again.due_at is None:
            self._hint()
        else:
            self._timers.plan()

    @handles(Route)
    def routed(self, message: Route) -> None:
        """Remember how the providers of the route stand."""
        was_held = self._route.is_held
        self._epoch = message.epoch
        self._route.states = message.states
        if was_held != self._route.is_held:
            event = "lane_resumed" if was_held else "lane_held"
            log.warning(event, channel=self._channel, reason=self._route.held_reason or "")
        # What a walk may use next depends on the route.
        self._hint()

    def _give_up_overdue(self) -> None:
        now = self._clock.monotonic()
        was_away = now > self._looked_at + ROUND_MISSED_S
        self._looked_at = now
        if was_away:
            return  # So were the providers: what came meanwhile is on its way to us.
        for call in self._book.overdue(now, self._settings.call_limit_s):
            answer = Answer(Outcome.UNKNOWN, "no_answer", "the call never reported")
            self._conclude(call, answer, is_given_up=True)
