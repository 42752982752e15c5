"""The Queue: the lane of one channel.

Owns every waiting and in-flight job of its channel (`policies.lane_book`), the providers already
tried, and the deadline of each call; its memory mirrors the rows of `jobs`. It takes work only when
the Supervisor demands some (`Demand`), notes it on disk (`Intend`), and only then lets it go
(`Dispatch`).

Who may send: the service (`Enqueue`, `CancelNotification`, pause and resume), the Supervisor, the
Journal, the Breakers and Providers of its route. A crash costs its memory: the next instance loads
the lane through the Journal, behind everything that its forerunner asked. What it asked is told
apart by `origin`, the number of the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

import structlog

from clarion.actors.lane_settings import LaneSettings
from clarion.actors.lane_timers import TIMERS_HORIZON_S, TIMERS_IN_MEMORY, LaneTimers, TimersDue
from clarion.actors.lane_writes import LaneWrites, record_of
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
    ReceiveReceipts,
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
from clarion.actors.redrive_messages import RetryUnknown, TakeBack
from clarion.actors.runtime import NO_REPLY, Actor, Ref, handles
from clarion.domain.notification import Call, Job, JobState, Priority, ProviderCall
from clarion.domain.outcome import Answer, Outcome
from clarion.domain.redrive import RedriveState
from clarion.errors import LaneClosed, LaneFull, StorageUnavailable
from clarion.policies.admission import admit, redrive_flow
from clarion.policies.allotment import Allotment, probe_rank
from clarion.policies.clock import Clock
from clarion.policies.identifier import IdSource
from clarion.policies.lane_book import LaneBook
from clarion.policies.lane_route import LaneRoute
from clarion.policies.routing import Wants
from clarion.policies.verdict import Again, End, begin_anew, given_up, judge, worn_out
from clarion.storage.command import CancelResult, LoadedLane
from clarion.storage.redrive_command import RedrivenRows, Revival
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

LOAD_S = 20.0
"""How long a start waits for the disk; less than what makes an actor count as hung."""
HOUSEKEEPING_S = 1.0
EXPIRE_EVERY = 5
"""Sweep for expired jobs at every so many housekeeping rounds."""
REFILL_SIZE = 250


@dataclass(frozen=True, slots=True)
class _Housekeeping(Internal):
    """Self: look for overdue calls and expired jobs."""


class Queue(Actor):
    """One channel's lane; see the module."""

    def __init__(
        self,
        settings: LaneSettings,
        *,
        writes: LaneWrites,
        supervisor: Ref,
        clock: Clock,
        ids: IdSource,
        represent: Callable[[Job], dict[str, Any]],
        metrics: Metrics,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._channel = settings.plan.channel
        self._writes = writes
        self._supervisor = supervisor
        self._clock = clock
        self._ids = ids
        self._represent = represent
        self._metrics = metrics
        self._book = LaneBook(settings.max_in_memory, TIMERS_IN_MEMORY)
        self._timers = LaneTimers(self._book.timers, writes, self.context)
        self._demand: Demand | None = None
        self._route = LaneRoute(settings.plan)
        self._epoch = 0
        self._refilling: set[int] = set()
        self._is_paused = False
        self._is_draining = False
        self._drained: Any = None
        self._is_writable = True
        self._round = 0

    # --- life ------------------------------------------------------------------------------

    async def on_start(self) -> None:  # type: ignore[override]  # pykka's is sync
        """Load the lane from the disk; no message is handled before."""
        now = self._clock.now()
        loaded: LoadedLane = await self._writes.load(
            head=self._settings.max_in_memory // 4,
            timers_until=now + TIMERS_HORIZON_S,
            timers=TIMERS_IN_MEMORY,
            timeout_s=LOAD_S,
        )
        book = self._book
        book.line.load(loaded.ready, loaded.is_spilled, loaded.flows)
        book.timers.load(loaded.timed, loaded.next_timer_at, now + TIMERS_HORIZON_S)
        book.live = sum(loaded.depth.values())
        book.scheduled = loaded.depth.get("scheduled", 0)
        book.inherit(loaded.sending, now)
        self._is_paused = loaded.is_paused
        for job_id in loaded.undecodable:
            log.error("row_undecodable", notification_id=job_id, channel=self._channel)
        self.context.later(HOUSEKEEPING_S, _Housekeeping())
        self._timers.plan()
        self._report()

    def _report(self) -> None:
        self._demand = None
        self._supervisor.tell(
            LaneReport(
                self._channel, self._epoch, self._writes.origin, self._wants(),
                self._book.calls_out,
            )
        )  # fmt: skip

    @handles(ReportLane)
    def report(self, message: ReportLane) -> None:
        """Tell a new Supervisor everything it has to know about this lane."""
        self._epoch = message.epoch
        # Calls whose Intended is still to come find no demand then, and are recalled.
        self._report()

    @handles(Drain)
    def drain(self, _message: Drain) -> object:
        """Take no more work and accept none; replies None when the last call has ended."""
        self._is_draining = True
        self._drained = self.reply
        self._tell_drained()
        return NO_REPLY

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._book.out and not self._book.accepting:
            self._drained.set(None)

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
        self._check_room(len(message.drafts))
        now = self._clock.now()
        jobs = [
            admit(
                draft,
                id=self._ids.next(),
                now=now,
                stamp=self._book.line.stamp,
                delivery=self._settings.delivery,
                expires_after_s=self._settings.expires_after_s,
            )
            for draft in message.drafts
        ]
        answers = [
            self._represent(job) if draft.idempotency_key else None
            for draft, job in zip(message.drafts, jobs, strict=True)
        ]
        self._book.accepting += len(jobs)
        self._writes.accept(message.drafts, jobs, answers, self.reply)
        return NO_REPLY

    def _check_room(self, n: int) -> None:
        if self._is_draining:
            raise LaneClosed(f"the lane {self._channel} is shutting down", retry_after_s=5.0)
        if not self._is_writable:
            raise StorageUnavailable("the store cannot write at the moment", retry_after_s=5.0)
        room = self._settings.max_pending - self._book.live - self._book.accepting
        if n > room:
            raise LaneFull(
                f"the lane {self._channel} holds {self._book.live} notifications"
                f" and has room for {max(room, 0)} more",
                retry_after_s=30.0,
            )

    @handles(Accepted)
    def accepted(self, message: Accepted) -> None:
        """Let the durable jobs into the lane; a forerunner's came with the load."""
        if message.origin != self._writes.origin:
            return
        had_fresh = self._book.line.has_fresh
        self._book.accepted(message.jobs, message.asked)
        self._timers.plan()
        if not had_fresh and self._book.line.has_fresh:
            self._hint()
        self._tell_drained()

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
        self._refill()

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
        self._book.dispatched(calls, self._clock.now())
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
            again = replace(again, due_at=min(again.due_at, job.expires_at))
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

    # --- timers ----------------------------------------------------------------------------

    @handles(TimersDue)
    def timers_due(self, _message: TimersDue) -> None:
        """Promote what is due, and load the next timers from the disk when they come near."""
        due = self._timers.due()
        for job in due:
            if job.state is JobState.SCHEDULED:
                job.vt = self._book.line.stamp(job.priority, job.flow)
        if due:
            self._book.promote(due)
            self._writes.promote(due)
        self._timers.look_ahead()

    @handles(TimersLoaded)
    def timers_loaded(self, message: TimersLoaded) -> None:
        """Take in the timers that come near."""
        if message.origin == self._writes.origin:
            unknown = [job for job in message.jobs if job.id not in self._book]
            self._timers.loaded(unknown, message.next_timer_at)

    @handles(_Housekeeping)
    def keep_house(self, _message: _Housekeeping) -> None:
        """End overdue calls as UNKNOWN, sweep expired jobs, ask again after a hint got lost."""
        self.context.later(HOUSEKEEPING_S, _Housekeeping())
        for call in self._book.overdue(self._clock.now(), self._settings.call_limit_s):
            answer = Answer(Outcome.UNKNOWN, "no_answer", "the call never reported")
            self._conclude(call, answer, is_given_up=True)
        self._round += 1
        if self._round % EXPIRE_EVERY == 0 and self._book.live > self._book.out:
            self._writes.expire(self._settings.expires_after_s)
        self._refill()
        self._hint()

    # --- what the disk says ----------------------------------------------------------------

    @handles(Written)
    def written(self, message: Written) -> None:
        """Forget what ended on the disk, and let in what became ready there."""
        if message.origin != self._writes.origin:
            return
        self._book.live -= len(message.ended)
        for job in message.promoted:
            self._book.promoted(job)
        for result in message.cancelled:
            self._cancelled(result)
        for job_id in message.expired:
            self._book.forget(job_id)
        for job_id in message.received:
            self._book.received(job_id)
        if message.promoted:
            self._hint()

    def _cancelled(self, result: CancelResult) -> None:
        if result.verdict == "cancelled":
            self._book.forget(result.id, was_scheduled=result.was_scheduled)
        elif result.verdict == "requested":
            call = self._book.in_flight.get(result.id)
            if call is not None:
                call.job.cancel_requested = True
            elif result.id in self._book:
                self._writes.cancel(result.id)  # Its call ended meanwhile, and it waits again.

    def _refill(self) -> None:
        for priority in self._book.line.refill_wanted():
            if priority not in self._refilling:
                self._refilling.add(priority)
                self._writes.refill(priority, self._book.line.tail(priority), REFILL_SIZE)

    @handles(Refilled)
    def refilled(self, message: Refilled) -> None:
        """Let in what waited on disk behind the head."""
        if message.origin != self._writes.origin:
            return
        self._refilling.discard(message.priority)
        known = {job.id for job in message.jobs if job.id in self._book}
        self._book.line.refill(message.priority, message.jobs, message.is_spilled, skip=known)
        if message.jobs:
            self._refill()  # Else the disk has trouble, and the next round asks again.
        self._hint()

    # --- what had ended and comes back -------------------------------------------------------

    @handles(TakeBack)
    def take_back(self, message: TakeBack) -> object:
        """Let in some of a redrive's dead letters, in a flow of their own and of low priority."""
        if self._is_paused or (self._route.is_held and self._book.ready):
            # What waits already is enough to see whether a provider works again.
            return RedrivenRows(RedriveState.RUNNING, is_waiting=True)
        self._check_room(message.limit)
        revival = self._revival(Priority.LOW, redrive_flow(message.id))
        self._writes.take_back(message.id, message.limit, revival, self.reply)
        return NO_REPLY

    @handles(RetryUnknown)
    def retry_unknown(self, message: RetryUnknown) -> object:
        """Let in one that some provider may have, on a person's word."""
        self._check_room(1)
        revival = self._revival(message.priority, message.flow)
        self._writes.retry_unknown(message.id, message.who, revival, self.reply)
        return NO_REPLY

    def _revival(self, priority: Priority, flow: str) -> Revival:
        now = self._clock.now()
        stamp = self._book.line.stamp(priority, flow)
        return Revival(flow, stamp, now + self._settings.expires_after_s, now)

    # --- operators -------------------------------------------------------------------------

    @handles(CancelNotification)
    def cancel(self, message: CancelNotification) -> object:
        """Cancel one notification; the row decides, in the order of the writes."""
        self._writes.cancel(message.id, self.reply)
        return NO_REPLY

    @handles(ReceiveReceipts)
    def receive(self, message: ReceiveReceipts) -> object:
        """Keep what a provider told of notifications; the rows decide what follows."""
        self._writes.receive(message.receipts, self.reply)
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
        self._writes.control(value, who, self.reply)
        self._hint()
        return NO_REPLY

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> LaneSnapshot:
        """Say how the lane stands."""
        book, head = self._book, self._book.line.head()
        return LaneSnapshot(
            channel=self._channel,
            is_paused=self._is_paused,
            is_held=self._route.is_held,
            held_reason=self._route.held_reason,
            ready=book.ready,
            scheduled=book.scheduled,
            waiting=book.waiting,
            in_flight=book.out,
            oldest_at=head.created_at if head else None,
            in_memory=len(book.line),
            is_accepting=self._is_writable and not self._is_draining,
            route=self._route.states,
        )
