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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from clarion.actors.lane_calls import LaneCalls
from clarion.actors.lane_settings import LaneSettings
from clarion.actors.lane_timers import TIMERS_HORIZON_S, TIMERS_IN_MEMORY, TimersDue
from clarion.actors.lane_writes import LaneWrites
from clarion.actors.membership_messages import LaneDecided, LaneStanding
from clarion.actors.messages import (
    Accepted,
    CancelNotification,
    Drain,
    Enqueue,
    Internal,
    LaneSnapshot,
    PauseLane,
    ReceiveReceipts,
    Refilled,
    ReportLane,
    ResumeLane,
    Snapshot,
    StorageChanged,
    TimersLoaded,
    Written,
)
from clarion.actors.redrive_messages import RetryUnknown, TakeBack
from clarion.actors.runtime import NO_REPLY, Ref, handles
from clarion.actors.supervisor_messages import LaneReport
from clarion.domain.notification import Job, JobState, Priority
from clarion.domain.redrive import RedriveState
from clarion.errors import LaneClosed, LaneFull, StorageUnavailable
from clarion.policies.admission import admit, redrive_flow
from clarion.policies.clock import Clock
from clarion.policies.identifier import IdSource
from clarion.policies.wall_clock import WallClockWatch
from clarion.storage.command import CancelResult, LoadedLane
from clarion.storage.redrive_command import RedrivenRows, Revival
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

LOAD_S = 20.0
"""How long a start waits for the disk; less than what makes an actor count as hung."""
HOUSEKEEPING_S = 1.0
EXPIRE_EVERY = 5
"""Sweep for expired jobs at every so many housekeeping rounds."""


@dataclass(frozen=True, slots=True)
class _Housekeeping(Internal):
    """Self: look for overdue calls and expired jobs."""


class Queue(LaneCalls):
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
        watch: WallClockWatch,
        is_draining: bool = False,
    ) -> None:
        """`is_draining` tells an instance that its forerunner was told to `Drain`.

        `watch` is the lane's for good: a clock that was set as one instance crashed is noticed by
        the next.
        """
        super().__init__(
            settings,
            writes=writes,
            supervisor=supervisor,
            clock=clock,
            metrics=metrics,
            watch=watch,
            is_draining=is_draining,
        )
        self._ids = ids
        self._represent = represent
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
        book.waiting = loaded.waiting
        book.inherit(loaded.sending, now, self._clock.monotonic())
        self._is_paused = loaded.is_paused
        for job_id in loaded.undecodable:
            log.error("row_undecodable", notification_id=job_id, channel=self._channel)
        self.context.later(HOUSEKEEPING_S, _Housekeeping())
        self._timers.plan()
        self._report()
        self._supply.refill()

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
        # A Supervisor that is gone lets nobody go who still stood by.
        waiting = [call for call in self._book.calls_out if call.is_standing_by]
        self._recall(waiting, "the Supervisor was restarted")
        # Calls whose Intended is still to come find no demand then, and are recalled.
        self._report()

    @handles(Drain)
    def drain(self, _message: Drain) -> object:
        """Take no more work and accept none; replies None when the last call has ended."""
        self._is_draining = self._supply.is_closed = True
        self._drained = self.reply
        self._report()  # What stands by comes back.
        self._tell_drained()
        return NO_REPLY

    @handles(StorageChanged)
    def storage_changed(self, message: StorageChanged) -> None:
        """Stop asking the disk for what it cannot give; go on when it can."""
        self._is_writable = message.is_writable
        if message.is_writable:
            self._hint()
        else:
            self._report()  # What stands by comes back: nobody could note how it ended.

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
        self._supply.choose(jobs)
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
        self._supply.left(message.jobs)
        self._timers.plan()
        if not had_fresh and self._book.line.has_fresh:
            self._hint()
        self._tell_drained()

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
        self._give_up_overdue()
        self._timers.follow_clock()
        self._round += 1
        if self._round % EXPIRE_EVERY == 0 and self._book.live > self._book.out:
            self._writes.expire(self._settings.expires_after_s)
        self._supply.refill()
        self._hint()

    # --- what the disk says ----------------------------------------------------------------

    @handles(Written)
    def written(self, message: Written) -> None:
        """Forget what ended on the disk, and let in what became ready there."""
        if message.origin != self._writes.origin:
            return
        self._book.live -= len(message.ended)
        self._book.waiting += message.deferred
        for job in message.promoted:
            self._book.promoted(job)
        for result in message.cancelled:
            self._cancelled(result)
        for row in message.gone:
            self._book.forget(row.id, row.former)
        for receipt in message.received:
            self._book.received(receipt.id, receipt.former)
        for job_id in message.vanished:
            self._book.vanished(job_id)
        if message.promoted:
            self._hint()

    def _cancelled(self, result: CancelResult) -> None:
        if result.verdict == "cancelled":
            self._book.forget(result.id, result.former)
        elif result.verdict == "requested":
            call = self._book.in_flight.get(result.id)
            if call is not None:
                call.job.cancel_requested = True
            elif result.id in self._book:
                self._writes.cancel(result.id)  # Its call ended meanwhile, and it waits again.

    @handles(Refilled)
    def refilled(self, message: Refilled) -> None:
        """Let in what waited on disk behind the head."""
        if message.origin == self._writes.origin:
            self._supply.take_in(message.priority, message.found)
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
        self._writes.control(value, who, self.reply)
        self._follow(value, who)
        return NO_REPLY

    @handles(LaneDecided)
    def decided(self, message: LaneDecided) -> None:
        """Follow what an operator decided at another node."""
        self._follow(message.value, message.who)

    def _follow(self, value: str, who: str) -> None:
        self._is_paused = value == "paused"
        log.warning(f"lane_{value}", channel=self._channel, who=who)
        if self._is_paused:
            self._report()  # What stands by comes back, and demands are void.
        else:
            self._hint()

    @handles(LaneStanding)
    def standing(self, message: LaneStanding) -> None:
        """Go by what the lane has over all nodes, and take what nobody has."""
        self._book.follow(message.depth)
        if message.has_unclaimed_timers:
            self._timers.look_again()
        self._supply.look_for(message.unclaimed)

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
