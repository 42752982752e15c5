"""The Journal: the order of writes.

Everything durable goes through it to the one writer, which commits in groups. The Journal gives
the replies and the news after each commit. It owns nothing that a crash could lose: commands,
replies and the running batch live in the writer, and a redelivered command that the writer
knows is dropped. Storage trouble is a state that it tells the Queues, not a crash.

Who may send: the Queues (commands), the writer (`Committed`, `StorageChanged`), the service.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from clarion.actors.journal_messages import Committed, Ended, JournalSnapshot
from clarion.actors.messages import (
    Accepted,
    Intended,
    Refilled,
    Snapshot,
    StorageChanged,
    TimersLoaded,
    Written,
)
from clarion.actors.runtime import NO_REPLY, Actor, Ref, handles
from clarion.domain.notification import Job, Reason, Status
from clarion.errors import StorageUnavailable
from clarion.policies.clock import Clock
from clarion.storage import command, membership, redrive_command
from clarion.storage.writer import Done, Writer
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _News:
    """What one batch means for one instance of one Queue."""

    accepted: list[Job] = field(default_factory=list)
    asked: int = 0
    ended: list[tuple[str, int | None]] = field(default_factory=list)
    promoted: list[Job] = field(default_factory=list)
    cancelled: list[command.CancelResult] = field(default_factory=list)
    gone: list[command.EndedRow] = field(default_factory=list)
    received: list[command.Received] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    deferred: int = 0
    known: list[Ended] = field(default_factory=list)
    """For those who wait for an end."""

    @property
    def has_writes(self) -> bool:
        return bool(
            self.ended or self.promoted or self.cancelled or self.gone or self.received
            or self.deferred or self.vanished
        )  # fmt: skip


class Journal(Actor):
    """The one way to the disk; see the module."""

    def __init__(
        self,
        writer: Writer,
        *,
        queues: Callable[[], dict[str, Ref]],
        on_ended: Callable[[Sequence[Ended]], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        super().__init__()
        self._writer = writer
        self._queues = queues
        self._on_ended = on_ended
        self._clock = clock
        self._metrics = metrics

    # --- commands --------------------------------------------------------------------------

    @handles(
        command.Accept, command.Intend, command.Settle, command.Defer, command.Promote,
        command.BringForward, command.Cancel, command.Expire, command.Refill, command.LoadTimers,
        command.Discard,
    )  # fmt: skip
    def submit(self, message: command.Command) -> None:
        """Hand a command to the writer; its result comes back with a later `Committed`."""
        self._writer.submit(message)

    @handles(
        command.Load, command.Sweep, command.SetControl, command.Receive, command.Purge,
        membership.Beat, membership.Leave,
    )  # fmt: skip
    def submit_asked(self, message: command.Command) -> object:
        """Hand a command to the writer; whoever asked is answered after the commit."""
        if message.reply is None:
            message.reply = self.reply
        self._writer.submit(message)
        return NO_REPLY

    @handles(
        redrive_command.BeginRedrive, redrive_command.LoadRedrives, redrive_command.CancelRedrive,
        redrive_command.RedriveSome, redrive_command.DiscardDead, redrive_command.ResolveAsSent,
        redrive_command.ResolveAsRetry,
    )  # fmt: skip
    def submit_for_dead_letters(self, message: command.Command) -> object:
        """Hand a command about what has ended to the writer, as above."""
        return self.submit_asked(message)

    @handles(StorageChanged)
    def storage_changed(self, message: StorageChanged) -> None:
        """Tell every lane whether it can count on the disk."""
        if message.is_writable:
            log.warning("storage_recovered")
        else:
            log.error("storage_unavailable", reason=message.reason)
        for queue in self._queues().values():
            queue.tell(message)

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> JournalSnapshot:
        """Say how the store stands."""
        return JournalSnapshot(self._writer.is_writable, self._writer.reason, self._writer.pending)

    # --- results ---------------------------------------------------------------------------

    @handles(Committed)
    def committed(self, message: Committed) -> None:
        """Answer and tell, in the order of the writes."""
        news: dict[tuple[str, int], _News] = defaultdict(_News)
        for done in message.done:
            self._tell_done(done, news[done.command.channel, done.command.origin])
        queues = self._queues()
        for (channel, origin), each in news.items():
            queue = queues.get(channel)
            if queue is not None:
                _tell_news(queue, each, origin)
        known = [each for told in news.values() for each in told.known]
        if known:
            self._on_ended(known)

    def _tell_done(self, done: Done, news: _News) -> None:
        match done.command:
            case command.Accept():
                self._accepted(done.command, done, news)
            case command.Intend():
                self._intended(done.command, done)
            case command.Settle():
                self._settled(done.command, done, news)
            case command.Defer():
                self._deferred(done.command, done, news)
            case command.Promote():
                self._promoted(done.command, done, news)
            case _:
                self._tell_rare(done, news)
        if done.error is not None:
            self._note_failure(done)

    def _tell_rare(self, done: Done, news: _News) -> None:
        match done.command:
            case command.Cancel():
                self._cancelled(done.command, done, news)
            case command.Receive():
                self._received(done.command, done, news)
            case command.Expire():
                self._gone(done, done.result or (), Reason.EXPIRED, news)
            case command.Refill():
                self._refilled(done.command, done, news)
            case command.LoadTimers():
                self._timers_loaded(done.command, done, news)
            case _:
                self._decided(done, news)

    def _note_failure(self, done: Done) -> None:
        # Storage trouble is told once, when it begins and when it ends.
        if not isinstance(done.error, StorageUnavailable):
            log.error(
                "write_failed",
                command=type(done.command).__name__,
                channel=done.command.channel,
                error=repr(done.error),
            )

    def _accepted(self, accept: command.Accept, done: Done, news: _News) -> None:
        news.asked += len(accept.drafts)
        if done.error is None:
            for row in done.result:
                if isinstance(row, command.AcceptedRow):
                    news.accepted.append(row.job)
                    self._metrics.accepted(accept.channel, row.job.priority.label).inc()
        _answer(done)

    def _intended(self, intend: command.Intend, done: Done) -> None:
        calls = done.result or ()
        for call in calls:
            if call.job.is_doubtful:
                self._metrics.possible_duplicates(intend.channel).inc()
        queue = self._queues().get(intend.channel)
        if queue is not None:
            queue.tell(Intended(intend.demand, intend.origin, calls, intend.calls, done.error))

    def _settled(self, settle: command.Settle, done: Done, news: _News) -> None:
        if not done.result:
            return
        news.ended.append((settle.job.id, settle.number))
        news.known.append(Ended(settle.job.id, settle.status))
        self._count_end(settle.channel, settle.status, settle.reason)
        if settle.status is Status.SENT:
            waited_s = max(0.0, settle.now - settle.job.created_at)
            self._metrics.delivery_seconds(settle.channel).observe(waited_s)

    def _deferred(self, defer: command.Defer, done: Done, news: _News) -> None:
        found: command.Deferred | None = done.result
        if found is None:
            return
        news.deferred += defer.due_at is not None
        if found.is_cancel_requested:
            # Perhaps at another node, so that the Queue of this one has not heard of it.
            again = command.Cancel(
                defer.channel, defer.job.id, self._clock.now(), origin=defer.origin
            )
            self._writer.submit(again)

    def _promoted(self, promote: command.Promote, done: Done, news: _News) -> None:
        if done.error is None:
            promoted = {job.id for job in done.result}
            news.vanished.extend(job.id for job in promote.jobs if job.id not in promoted)
            news.promoted.extend(done.result)

    def _count_end(self, channel: str, status: Status, reason: str | None) -> None:
        self._metrics.ended(channel, status).inc()
        if status is Status.FAILED:
            self._metrics.dead_letters(channel, reason or "").inc()

    def _cancelled(self, cancel: command.Cancel, done: Done, news: _News) -> None:
        result: command.CancelResult | None = done.result
        if result is not None:
            news.cancelled.append(result)
            if result.verdict == "cancelled" and result.status is not None:
                news.known.append(Ended(cancel.id, result.status))
                self._count_end(cancel.channel, result.status, "cancelled")
        _answer(done)

    def _received(self, receive: command.Receive, done: Done, news: _News) -> None:
        for each in done.result or ():
            if each.new is None:
                continue
            self._metrics.ended(receive.channel, each.new).inc()
            if each.has_ended_job:
                news.received.append(each)
                news.known.append(Ended(each.id, each.new))
                self._metrics.delivery_seconds(receive.channel).observe(each.waited_s)
        _answer(done)

    def _gone(
        self,
        done: Done,
        rows: Sequence[command.EndedRow],
        reason: Reason,
        news: _News,
    ) -> None:
        news.gone.extend(rows)
        for row in rows:
            news.known.append(Ended(row.id, row.status))
            self._count_end(done.command.channel, row.status, reason)

    def _decided(self, done: Done, news: _News) -> None:
        """Tell the lane what comes back to it; of most commands whoever asked is all to tell."""
        match done.result:
            case redrive_command.RedrivenRows(jobs=jobs):
                news.accepted.extend(jobs)
            case redrive_command.ResolveResult(job=Job() as job):
                news.accepted.append(job)
            case redrive_command.ResolveResult(is_resolved=True, status=Status.SENT):
                self._metrics.ended(done.command.channel, Status.SENT).inc()
        _answer(done)

    def _refilled(self, refill: command.Refill, done: Done, news: _News) -> None:
        unknown = command.RefilledRows([], is_spilled=True, is_more_unclaimed=True)
        found: command.RefilledRows = done.result if done.error is None else unknown
        self._set_aside(done, found.ended, news)
        queue = self._queues().get(refill.channel)
        if queue is not None:
            queue.tell(Refilled(refill.priority, found, refill.origin))

    def _set_aside(self, done: Done, rows: Sequence[command.EndedRow], news: _News) -> None:
        for row in rows:
            log.error("row_undecodable", notification_id=row.id, channel=done.command.channel)
        self._gone(done, rows, Reason.POISON, news)

    def _timers_loaded(self, load: command.LoadTimers, done: Done, news: _News) -> None:
        jobs, next_at, poison = done.result if done.error is None else ([], load.until, [])
        self._set_aside(done, poison, news)
        queue = self._queues().get(load.channel)
        if queue is not None:
            queue.tell(TimersLoaded(jobs, next_at, load.origin))


def _tell_news(queue: Ref, news: _News, origin: int) -> None:
    if news.asked or news.accepted:
        queue.tell(Accepted(news.accepted, news.asked, origin))
    if news.has_writes:
        written = Written(
            news.ended, news.promoted, news.cancelled, news.gone, news.received, news.deferred,
            origin, news.vanished,
        )  # fmt: skip
        queue.tell(written)


def _answer(done: Done) -> None:
    reply: Any = done.command.reply
    if reply is None:
        return
    if done.error is not None:
        reply.set_exception(done.error)
    else:
        reply.set(done.result)
