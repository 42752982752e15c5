"""What a Queue asks of the Journal: each write of a lane, signed with the asking instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clarion.actors.runtime import Ref, Reply
from clarion.domain.notification import Call, Draft, Job, ProviderCall, Status
from clarion.domain.outcome import Answer, Outcome
from clarion.domain.receipt import Receipt
from clarion.policies.clock import Clock
from clarion.policies.verdict import Again, End
from clarion.storage import command
from clarion.storage.redrive_command import RedriveSome, ResolveAsRetry, Revival


class LaneWrites:
    """The Journal as one instance of one Queue uses it."""

    def __init__(self, channel: str, journal: Ref, clock: Clock, origin: int) -> None:
        self._channel = channel
        self._journal = journal
        self._clock = clock
        self.origin = origin
        """The incarnation that results are told apart by."""

    def _tell(self, message: command.Command) -> None:
        message.origin = self.origin
        self._journal.tell(message)

    def load(self, *, head: int, timers_until: float, timers: int, timeout_s: float) -> Reply:
        """Ask for the lane as the disk has it, behind all that was asked before."""
        question = command.Load(
            self._channel, head=head, timers_until=timers_until, timers=timers, origin=self.origin
        )
        return self._journal.ask(question, timeout_s=timeout_s)

    def accept(
        self, drafts: Sequence[Draft], jobs: Sequence[Job], answers: Sequence[Any], reply: Any
    ) -> None:
        """Tx1: make the jobs durable; the Journal answers `reply`."""
        self._tell(command.Accept(self._channel, drafts, jobs, answers, reply=reply))

    def intend(self, calls: Sequence[Call], demand: int) -> None:
        """Tx2: note that each call may be out."""
        self._tell(command.Intend(self._channel, calls, self._clock.now(), demand))

    def end(
        self,
        job: Job,
        number: int | None,
        end: End,
        *,
        record: ProviderCall | None = None,
        detail: str | None = None,
    ) -> None:
        """Tx3: the notification ends, by call `number` or while it waited."""
        self._tell(
            command.Settle(
                self._channel, job, number, end.status, end.reason, self._clock.now(), record,
                detail,
            )
        )  # fmt: skip

    def go_on(self, job: Job, number: int, again: Again, record: ProviderCall | None) -> None:
        """Tx3 otherwise: the call ended, the notification goes on."""
        self._tell(
            command.Defer(
                self._channel, job, number, again.due_at, again.tried, again.attempt,
                again.waiting, self._clock.now(),
                is_doubtful=again.is_doubtful, is_walk_unknown=again.is_walk_unknown,
                is_walk_burning=again.is_walk_burning, probes=again.probes, bugs=again.bugs,
                record=record, is_ours=job.is_ours,
            )
        )  # fmt: skip

    def promote(self, jobs: Sequence[Job]) -> None:
        """Timers fell due."""
        self._tell(command.Promote(self._channel, jobs, self._clock.now()))

    def bring_forward(self, by_s: float) -> None:
        """The wall clock was set back by so much: retries are due as much earlier."""
        self._tell(command.BringForward(self._channel, by_s, self._clock.now()))

    def expire(self, default_s: float) -> None:
        """End waiting jobs whose time is over."""
        self._tell(command.Expire(self._channel, self._clock.now(), default_s))

    def refill(self, priority: int, after: tuple[float, str] | None, limit: int) -> None:
        """Ask for the ready rows behind the head."""
        self._tell(command.Refill(self._channel, priority, after, limit))

    def load_timers(self, until: float, limit: int) -> None:
        """Ask for the timers of the near future."""
        self._tell(command.LoadTimers(self._channel, until, limit))

    def cancel(self, job_id: str, reply: Any = None) -> None:
        """Cancel one notification; its row decides."""
        self._tell(command.Cancel(self._channel, job_id, self._clock.now(), reply=reply))

    def receive(self, receipts: Sequence[Receipt], reply: Any) -> None:
        """Keep what a provider told; the rows decide what follows."""
        self._tell(command.Receive(self._channel, receipts, self._clock.now(), reply=reply))

    def note(self, record: ProviderCall | None, job: Job) -> None:
        """Note the end of a call whose notification a receipt ended."""
        if record is not None:
            # Its row is gone: of the settlement nothing but the record is written.
            self.end(job, record.number, End(Status.SENT), record=record)

    def take_back(self, redrive_id: str, limit: int, revival: Revival, reply: Any) -> None:
        """Move dead letters of a redrive back into the lane."""
        self._tell(RedriveSome(self._channel, redrive_id, limit, revival, reply=reply))

    def retry_unknown(self, job_id: str, who: str, revival: Revival, reply: Any) -> None:
        """Send an `unknown` one again."""
        self._tell(ResolveAsRetry(self._channel, job_id, who, revival, reply=reply))

    def control(self, value: str, who: str, reply: Any) -> None:
        """Remember whether the lane is "paused" or "running"."""
        self._tell(
            command.SetControl(
                self._channel, "lane", self._channel, value, who, self._clock.now(), reply=reply
            )
        )


def record_of(call: Call, answer: Answer, now: float) -> ProviderCall | None:
    """Return the row of `provider_calls`; a call that never left has none."""
    if answer.outcome in (Outcome.REFUSED, Outcome.RECALLED):
        return None
    return ProviderCall(
        call.job.id, call.number, call.provider, answer.outcome, answer.reason, answer.detail,
        call.started_at, now, call.why, call.considered, answer.provider_message_id,
        call.is_probe,
    )  # fmt: skip
