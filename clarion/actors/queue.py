"""The Queue: the lane of one channel.

Owns every waiting and in-flight job of its channel, the providers already tried, and the deadline
of each call; its memory mirrors the rows of `jobs`. It takes work only when the Supervisor demands
some (`Demand`), notes it on disk (`Intend`), and only then lets it go (`Dispatch`).

Who may send: the service (`Enqueue`, `CancelNotification`, pause and resume), the Supervisor, the
Journal, the Breakers and Providers of its route. A crash costs its memory: the next instance loads
the lane through the Journal, behind everything that its forerunner asked. What it asked is told
apart by `origin`, the number of the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from clarion.actors.messages import (
    Accepted,
    CancelNotification,
    Demand,
    Dispatch,
    Drain,
    Enqueue,
    Intended,
    Internal,
    LaneReport,
    LaneSnapshot,
    PauseLane,
    Ready,
    Recalled,
    Refilled,
    ReportLane,
    ResumeLane,
    Route,
    Settled,
    SlotReturned,
    Snapshot,
    StorageChanged,
    TimersLoaded,
    Written,
)
from clarion.actors.runtime import NO_REPLY, Actor, Ref, handles
from clarion.domain.notification import Call, Delivery, Draft, Job, JobState, ProviderCall
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import LaneClosed, LaneFull, StorageUnavailable
from clarion.policies.allotment import Allotment, is_reluctant, wants_of
from clarion.policies.clock import Clock
from clarion.policies.identifier import IdSource
from clarion.policies.lane import Lane
from clarion.policies.routing import RoutePlan, RouteState, Wants
from clarion.policies.timer_heap import TimerHeap
from clarion.policies.verdict import Again, End, Rules, given_up, judge
from clarion.storage import command
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

TIMERS_IN_MEMORY = 1000
TIMERS_AHEAD_S = 30.0
"""Timers due within this time are kept in memory; the rest are rows until then."""
HOUSEKEEPING_S = 1.0
CALL_MARGIN_S = 1.0
"""A call without an answer by its timeout plus this is UNKNOWN, whatever became of it."""
EXPIRE_EVERY = 5
"""Sweep for expired jobs at every so many housekeeping rounds."""
REFILL_SIZE = 250


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What one lane is configured to do; durations in seconds."""

    plan: RoutePlan
    rules: Rules
    call_timeout_s: Mapping[str, float]
    max_in_memory: int = 2000
    max_pending: int = 10_000_000
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    expires_after_s: float = 259_200.0


@dataclass(frozen=True, slots=True)
class _TimersDue(Internal):
    """Self: the earliest timer is due."""


@dataclass(frozen=True, slots=True)
class _Housekeeping(Internal):
    """Self: look for overdue calls and expired jobs."""


class Queue(Actor):
    """One channel's lane; see the module."""

    def __init__(
        self,
        settings: LaneSettings,
        *,
        journal: Ref,
        supervisor: Ref,
        clock: Clock,
        ids: IdSource,
        incarnation: int,
        represent: Callable[[Job], dict[str, Any]],
        metrics: Metrics,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._plan = settings.plan
        self._channel = settings.plan.channel
        self._journal = journal
        self._supervisor = supervisor
        self._clock = clock
        self._ids = ids
        self._incarnation = incarnation
        self._represent = represent
        self._metrics = metrics
        self._lane = Lane(settings.max_in_memory)
        self._timers = TimerHeap(TIMERS_IN_MEMORY)
        self._wake: Any = None
        self._wakes_at: float | None = None
        self._in_flight: dict[str, Call] = {}
        self._intending: dict[str, Call] = {}
        self._dispatched: set[str] = set()
        self._inherited: set[str] = set()
        self._demand: Demand | None = None
        self._route: tuple[RouteState, ...] = ()
        self._epoch = 0
        self._live = 0
        self._scheduled = 0
        self._accepting = 0
        self._refilling: set[int] = set()
        self._is_paused = False
        self._is_draining = False
        self._is_writable = True
        self._round = 0

    # --- life ------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Load the lane from the disk; no message is handled before."""
        now = self._clock.now()
        horizon_at = now + 2 * TIMERS_AHEAD_S
        loaded: command.LoadedLane = await self._journal.ask(
            command.Load(
                self._channel,
                head=self._settings.max_in_memory // 4,
                timers_until=horizon_at,
                timers=TIMERS_IN_MEMORY,
                origin=self._incarnation,
            ),
            timeout_s=30.0,
        )
        self._lane.load(loaded.ready, loaded.is_spilled, loaded.flows)
        self._timers.load(loaded.timed, loaded.next_timer_at, horizon_at)
        for job in loaded.sending:
            # It may be out: wait for its answer, or for its deadline counted from now.
            self._in_flight[job.id] = Call(job, job.call, job.sending or "", started_at=now)
            self._dispatched.add(job.id)
            self._inherited.add(job.id)
        self._live = sum(loaded.depth.values())
        self._scheduled = loaded.depth.get("scheduled", 0)
        self._is_paused = loaded.is_paused
        for job_id in loaded.undecodable:
            log.error("row_undecodable", notification_id=job_id, channel=self._channel)
        self.context.later(HOUSEKEEPING_S, _Housekeeping())
        self._set_timer()
        self._report(self._epoch)

    def _report(self, epoch: int) -> None:
        self._demand = None
        calls = tuple(self._in_flight[job_id] for job_id in self._dispatched)
        self._supervisor.tell(
            LaneReport(self._channel, epoch, self._incarnation, self._wants(), calls)
        )

    @handles(ReportLane)
    def report(self, message: ReportLane) -> None:
        """Tell a new Supervisor everything it has to know about this lane."""
        self._epoch = message.epoch
        # Calls whose Intended is still to come find no demand then, and are recalled.
        self._report(message.epoch)

    @handles(Drain)
    def drain(self, _message: Drain) -> None:
        """Take no more work and accept none; calls that are out may end."""
        self._is_draining = True

    @handles(StorageChanged)
    def storage_changed(self, message: StorageChanged) -> None:
        """Stop asking the disk for what it cannot give; go on when it can."""
        self._is_writable = message.is_writable
        if message.is_writable:
            self._hint()

    # --- intake ----------------------------------------------------------------------------

    @handles(Enqueue)
    def enqueue(self, message: Enqueue) -> object:
        """Stamp the drafts and pass them on to the Journal, which answers after the fsync."""
        if self._is_draining:
            raise LaneClosed(f"the lane {self._channel} is shutting down", retry_after_s=5.0)
        if not self._is_writable:
            raise StorageUnavailable("the store cannot write at the moment", retry_after_s=5.0)
        room = self._settings.max_pending - self._live - self._accepting
        if len(message.drafts) > room:
            raise LaneFull(
                f"the lane {self._channel} holds {self._live} notifications"
                f" and has room for {max(room, 0)} more",
                retry_after_s=30.0,
            )
        jobs = [self._job(draft) for draft in message.drafts]
        self._accepting += len(jobs)
        self._journal.tell(
            command.Accept(
                self._channel,
                message.drafts,
                jobs,
                answers=[
                    self._represent(job) if draft.idempotency_key else None
                    for draft, job in zip(message.drafts, jobs, strict=True)
                ],
                reply=self.reply,
                origin=self._incarnation,
            )
        )
        return NO_REPLY

    def _job(self, draft: Draft) -> Job:
        now = self._clock.now()
        is_scheduled = draft.send_at is not None and draft.send_at > now
        flow = draft.tenant or ""
        start_at = draft.send_at if is_scheduled and draft.send_at is not None else now
        return Job(
            id=self._ids.next(),
            channel=self._channel,
            content=draft.content,
            priority=draft.priority,
            flow=flow,
            vt=0.0 if is_scheduled else self._lane.stamp(draft.priority, flow),
            state=JobState.SCHEDULED if is_scheduled else JobState.READY,
            created_at=now,
            expires_at=draft.expires_at or start_at + self._settings.expires_after_s,
            # Default expiries are found by the id's time, which a later start belies.
            is_expiry_explicit=draft.expires_at is not None or is_scheduled,
            delivery=draft.delivery or self._settings.delivery,
            due_at=draft.send_at if is_scheduled else None,
            waiting="schedule" if is_scheduled else None,
            tenant=draft.tenant,
            reference=draft.reference,
            metadata=draft.metadata,
            correlation_id=draft.correlation_id,
        )

    @handles(Accepted)
    def accepted(self, message: Accepted) -> None:
        """Let the durable jobs into the lane; a forerunner's came with the load."""
        if message.origin != self._incarnation:
            return
        self._accepting -= message.asked
        self._live += len(message.jobs)
        had_fresh = self._lane.has_fresh
        for job in message.jobs:
            self._scheduled += job.state is JobState.SCHEDULED
            self._admit(job)
        self._set_timer()
        if not had_fresh and self._lane.has_fresh:
            self._hint()

    def _knows(self, job_id: str) -> bool:
        return (
            job_id in self._lane
            or job_id in self._timers
            or job_id in self._in_flight
            or job_id in self._intending
        )

    def _admit(self, job: Job) -> None:
        if job.state is JobState.READY:
            self._lane.admit(job)
        else:
            self._timers.add(job)

    # --- placing work ----------------------------------------------------------------------

    def _hint(self) -> None:
        """Tell the Supervisor that there is work, unless it has asked already."""
        if self._demand is None and self._can_work():
            wants = self._wants()
            if not wants.is_nothing:
                self._supervisor.tell(Ready(self._channel, wants))

    def _can_work(self) -> bool:
        return self._is_writable and not self._is_paused and not self._is_draining

    def _wants(self) -> Wants:
        if not self._can_work():
            return Wants()
        return wants_of(
            self._plan,
            self._route,
            has_fresh=self._lane.has_fresh,
            walking=self._lane.walking(),
        )

    @handles(Demand)
    def demanded(self, demand: Demand) -> None:
        """Fill the offered places, and note the calls on disk before they go."""
        calls = self._fill(demand) if self._can_work() else []
        if not calls:
            self._dispatch(demand, [])
            return
        self._demand = demand
        for call in calls:
            self._intending[call.job.id] = call
        self._journal.tell(
            command.Intend(
                self._channel,
                calls,
                self._clock.now(),
                demand.id,
                origin=self._incarnation,
            )
        )
        self._refill()

    def _fill(self, demand: Demand) -> list[Call]:
        places = Allotment(
            self._plan, demand.places, demand.passed_over, self._route, self._settings.rules.rng
        )
        now = self._clock.now()
        calls: list[Call] = []
        while (job := self._take(places)) is not None:
            end = given_up(job, now)
            if end is not None:
                self._end(job, None, end, now)
                continue
            room = places.find(job)
            if room is None:
                self._lane.push(job)
                break
            calls.append(places.call(job, room, now))
        return calls

    def _take(self, places: Allotment) -> Job | None:
        takes_fresh = places.takes_fresh
        return self._lane.take(
            lambda job: places.find(job) is not None,
            is_fresh_wanted=takes_fresh,
            prefer=(lambda job: not is_reluctant(job))
            if takes_fresh and places.only_probes_left
            else None,
        )

    @handles(Intended)
    def intended(self, message: Intended) -> None:
        """The calls are on disk: let them go, or take back those of a void demand."""
        demand = self._demand
        is_mine = message.origin == self._incarnation
        if is_mine:
            for call in message.asked:
                self._intending.pop(call.job.id, None)
        if message.error is not None:
            self._put_back(message, demand)
            return
        calls = [call for call in message.calls if self._adopt(call)]
        if demand is None or not is_mine or demand.id != message.demand or self._is_draining:
            self._recall(calls, "its demand is void")
            if is_mine and demand is not None and demand.id == message.demand:
                self._dispatch(demand, [])
            return
        self._dispatch(demand, calls)

    def _put_back(self, message: Intended, demand: Demand | None) -> None:
        if message.origin == self._incarnation:
            for call in message.asked:
                self._lane.push(call.job)
        if demand is not None and demand.id == message.demand:
            self._dispatch(demand, [])

    def _adopt(self, call: Call) -> bool:
        """Take a durable intent into the books; a forerunner's is known from the load."""
        known = self._in_flight.get(call.job.id)
        if known is not None:
            if known.number != call.number:
                return False
            call.job = known.job
        job = call.job
        job.call = call.number
        job.state = JobState.SENDING
        job.sending = call.provider
        job.possibly_duplicated = job.possibly_duplicated or job.is_doubtful
        self._in_flight[job.id] = call
        return True

    def _dispatch(self, demand: Demand, calls: list[Call]) -> None:
        self._demand = None
        self._dispatched.update(call.job.id for call in calls)
        self._supervisor.tell(
            Dispatch(self._channel, demand.id, demand.epoch, calls, self._wants())
        )

    @handles(Recalled)
    def recalled(self, message: Recalled) -> None:
        """These calls never left: back to the head of the lane."""
        self._recall(message.calls, message.reason)

    def _recall(self, calls: list[Call] | Any, reason: str) -> None:
        for call in calls:
            self._conclude(call, Answer(Outcome.RECALLED, "recalled", reason, True))

    # --- answers ---------------------------------------------------------------------------

    @handles(Settled)
    def settled(self, message: Settled) -> None:
        """A call came to its end."""
        self._conclude(message.call, message.answer)

    def _conclude(self, call: Call, answer: Answer) -> None:
        known = self._in_flight.get(call.job.id)
        if known is None or known.number != call.number:
            return  # A late answer: its call was concluded before.
        del self._in_flight[call.job.id]
        self._dispatched.discard(call.job.id)
        if call.job.id in self._inherited:
            # The Supervisor may have heard of its end before it heard that it was out.
            self._inherited.discard(call.job.id)
            self._supervisor.tell(SlotReturned(known.provider, known.key))
        # A forerunner's job object is stale; ours carries what happened since.
        call.job = known.job
        now = self._clock.now()
        record = _record(call, answer, now)
        verdict = judge(call, answer, self._route, self._settings.rules, now)
        match verdict:
            case End():
                self._end(call.job, call.number, verdict, now, record, answer)
            case Again():
                self._go_on(call, verdict, now, record)
            case _:
                assert_never(verdict)

    def _end(
        self,
        job: Job,
        number: int | None,
        end: End,
        now: float,
        record: ProviderCall | None = None,
        answer: Answer | None = None,
    ) -> None:
        self._journal.tell(
            command.Settle(
                self._channel,
                job,
                number,
                end.status,
                end.reason,
                now,
                record,
                answer.detail if answer else None,
                origin=self._incarnation,
            )
        )

    def _go_on(self, call: Call, again: Again, now: float, record: ProviderCall | None) -> None:
        job = call.job
        due_at = None if again.due_at is None else min(again.due_at, job.expires_at)
        self._journal.tell(
            command.Defer(
                self._channel, job, call.number, due_at, again.tried, again.attempt,
                again.waiting, now,
                is_doubtful=again.is_doubtful, is_walk_unknown=again.is_walk_unknown,
                is_walk_burning=again.is_walk_burning, probes=again.probes, bugs=again.bugs,
                record=record, origin=self._incarnation,
            )
        )  # fmt: skip
        if again.attempt > job.attempt:
            self._metrics.retries(call.provider).inc()
        _progress(job, again, due_at)
        if due_at is None:
            self._lane.push(job)
            self._hint()
        else:
            self._timers.add(job)
            self._set_timer()

    @handles(Route)
    def routed(self, message: Route) -> None:
        """Remember how the providers of the route stand."""
        was_held = self._is_held()
        self._epoch = message.epoch
        self._route = message.states
        if was_held != self._is_held():
            event = "lane_held" if self._is_held() else "lane_resumed"
            log.warning(event, channel=self._channel, reason=self._held_reason() or "")
        # What a walk may use next depends on the route.
        self._hint()

    # --- timers ----------------------------------------------------------------------------

    def _set_timer(self) -> None:
        at = self._timers.wakes_at(TIMERS_AHEAD_S)
        if at is None or (self._wakes_at is not None and self._wakes_at <= at):
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wakes_at = at
        self._wake = self.context.later(max(0.0, at - self._clock.now()), _TimersDue())

    @handles(_TimersDue)
    def timers_due(self, _message: _TimersDue) -> None:
        """Promote what is due, and load the next timers from the disk when they come near."""
        self._wake = self._wakes_at = None
        now = self._clock.now()
        due = self._timers.due(now)
        for job in due:
            if job.state is JobState.SCHEDULED:
                job.vt = self._lane.stamp(job.priority, job.flow)
        if due:
            self._journal.tell(
                command.Promote(self._channel, due, now, origin=self._incarnation)
            )
        if self._timers.must_load(now, TIMERS_AHEAD_S):
            self._timers.next_unknown_at = None
            self._journal.tell(
                command.LoadTimers(
                    self._channel,
                    now + 2 * TIMERS_AHEAD_S,
                    TIMERS_IN_MEMORY,
                    origin=self._incarnation,
                )
            )
        self._set_timer()

    @handles(TimersLoaded)
    def timers_loaded(self, message: TimersLoaded) -> None:
        """Take in the timers that come near."""
        if message.origin != self._incarnation:
            return
        unknown = [job for job in message.jobs if not self._knows(job.id)]
        self._timers.load(unknown, message.next_timer_at, self._clock.now() + TIMERS_AHEAD_S)
        self._set_timer()

    @handles(_Housekeeping)
    def keep_house(self, _message: _Housekeeping) -> None:
        """End overdue calls as UNKNOWN, sweep expired jobs, ask again after a hint got lost."""
        self.context.later(HOUSEKEEPING_S, _Housekeeping())
        now = self._clock.now()
        for call in [c for c in self._in_flight.values() if self._is_overdue(c, now)]:
            self._inherited.add(call.job.id)
            self._conclude(call, Answer(Outcome.UNKNOWN, "no_answer", "the call never reported"))
        self._round += 1
        if self._round % EXPIRE_EVERY == 0 and self._live > len(self._in_flight):
            self._journal.tell(
                command.Expire(
                    self._channel, now, self._settings.expires_after_s, origin=self._incarnation
                )
            )
        self._refill()
        self._hint()

    def _is_overdue(self, call: Call, now: float) -> bool:
        timeout_s = self._settings.call_timeout_s.get(call.provider, 60.0)
        return now > call.started_at + timeout_s + CALL_MARGIN_S

    # --- what the disk says ----------------------------------------------------------------

    @handles(Written)
    def written(self, message: Written) -> None:
        """Forget what ended on the disk, and let in what became ready there."""
        if message.origin != self._incarnation:
            return
        self._live -= len(message.ended)
        for job in message.promoted:
            self._scheduled -= job.state is JobState.SCHEDULED
            job.state, job.due_at, job.waiting = JobState.READY, None, None
            if not self._knows(job.id):
                self._lane.push(job) if job.tried else self._lane.admit(job)
        for job_id, verdict in message.cancelled:
            if verdict == "cancelled":
                self._forget(job_id)
            elif verdict == "requested" and job_id in self._in_flight:
                self._in_flight[job_id].job.cancel_requested = True
        for job_id in message.expired:
            self._forget(job_id)
        if message.promoted:
            self._hint()

    def _forget(self, job_id: str) -> None:
        self._live -= 1
        waiting = self._timers.discard(job_id)
        if waiting is not None and waiting.state is JobState.SCHEDULED:
            self._scheduled -= 1
        self._lane.discard(job_id)

    def _refill(self) -> None:
        for priority in self._lane.refill_wanted():
            if priority not in self._refilling:
                self._refilling.add(priority)
                self._journal.tell(
                    command.Refill(
                        self._channel,
                        priority,
                        self._lane.tail(priority),
                        REFILL_SIZE,
                        origin=self._incarnation,
                    )
                )

    @handles(Refilled)
    def refilled(self, message: Refilled) -> None:
        """Let in what waited on disk behind the head."""
        if message.origin != self._incarnation:
            return
        self._refilling.discard(message.priority)
        known = {job.id for job in message.jobs if self._knows(job.id)}
        self._lane.refill(message.priority, message.jobs, message.is_spilled, skip=known)
        self._refill()
        self._hint()

    # --- operators -------------------------------------------------------------------------

    @handles(CancelNotification)
    def cancel(self, message: CancelNotification) -> object:
        """Cancel one notification; the row decides, in the order of the writes."""
        self._journal.tell(
            command.Cancel(
                self._channel,
                message.id,
                self._clock.now(),
                reply=self.reply,
                origin=self._incarnation,
            )
        )
        return NO_REPLY

    @handles(PauseLane)
    def pause(self, message: PauseLane) -> object:
        """Stop taking work from the lane."""
        return self._control("paused", message.who)

    @handles(ResumeLane)
    def resume(self, message: ResumeLane) -> object:
        """Take work from the lane again."""
        return self._control("running", message.who)

    def _control(self, value: str, who: str) -> object:
        self._is_paused = value == "paused"
        log.warning(f"lane_{value}", channel=self._channel, who=who)
        self._journal.tell(
            command.SetControl(
                self._channel, "lane", self._channel, value, who, self._clock.now(),
                reply=self.reply, origin=self._incarnation,
            )
        )  # fmt: skip
        self._hint()
        return NO_REPLY

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> LaneSnapshot:
        """Say how the lane stands."""
        in_flight = len(self._in_flight) + len(self._intending)
        head = self._lane.head()
        return LaneSnapshot(
            channel=self._channel,
            is_paused=self._is_paused,
            is_held=self._is_held(),
            held_reason=self._held_reason(),
            ready=max(0, self._live - self._scheduled - in_flight - len(self._timers)),
            scheduled=self._scheduled,
            waiting=len(self._timers),
            in_flight=in_flight,
            oldest_at=head.created_at if head else None,
            in_memory=len(self._lane),
            is_accepting=self._is_writable and not self._is_draining,
            route=self._route,
        )

    def _is_held(self) -> bool:
        return bool(self._route) and not any(state.is_closed for state in self._route)

    def _held_reason(self) -> str | None:
        if not self._is_held():
            return None
        why = "; ".join(state.story for state in self._route)
        return f"no provider of {self._channel} can take it now ({why})"


def _record(call: Call, answer: Answer, now: float) -> ProviderCall | None:
    """Return the row of `provider_calls`; a call that never left has none."""
    if answer.outcome in (Outcome.REFUSED, Outcome.RECALLED):
        return None
    return ProviderCall(
        call.job.id, call.number, call.provider, answer.outcome, answer.reason, answer.detail,
        call.started_at, now, call.why, call.considered, answer.provider_message_id,
        call.is_probe,
    )  # fmt: skip


def _progress(job: Job, again: Again, due_at: float | None) -> None:
    """Bring the job in memory to where its row will be."""
    job.state = JobState.READY if due_at is None else JobState.TIMED
    job.due_at = due_at
    job.sending = None
    job.tried = again.tried
    job.attempt = again.attempt
    job.waiting = again.waiting
    job.is_doubtful = again.is_doubtful
    job.is_walk_unknown = again.is_walk_unknown
    job.is_walk_burning = again.is_walk_burning
    job.probes = again.probes
    job.bugs = again.bugs
