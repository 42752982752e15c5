"""The Breaker: one circuit, standing in the wire between the Supervisor and a Provider.

Owns one `policies.breaker` state machine, and until when its provider is throttled or
misconfigured. Every call passes it: with a permit, or back as REFUSED. A crash costs the state
machine; the next instance starts from the Supervisor's last report, a generation later.

Where several nodes share what they find out, it tells of its openings and pauses, and opens for as
long as another node's circuit did; then it probes by itself.

Who may send: the Supervisor (`Deliver`, `Steer`, `ReportCircuit`), its Provider (`Record`), the
Commons (`NewsHeard`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from clarion.actors.call_messages import Deliver, Record, ReportCircuit, Steer
from clarion.actors.commons_messages import NewsHeard
from clarion.actors.messages import Settled, Snapshot
from clarion.actors.runtime import Actor, Ref, handles
from clarion.actors.supervisor_messages import CircuitReport, Freed
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import CircuitOpen
from clarion.policies import breaker as circuit
from clarion.policies.breaker_settings import BreakerSettings
from clarion.policies.circuit_news import Kind, News, open_for
from clarion.policies.clock import Clock
from clarion.telemetry import metrics

log = structlog.get_logger(__name__)

THROTTLE_S = 1.0
THROTTLE_MAX_S = 60.0
"""Without a Retry-After: 1 s, doubling with each THROTTLED answer in a row, at most this."""
RETRY_AFTER_MAX_S = 3600.0
SAME_PAUSE_S = 0.5
"""All calls that are out are answered with the same Retry-After: that is one piece of news."""
_STATE_NUMBER = {"closed": 0, "disabled": 0, "half_open": 1, "open": 2, "forced_open": 2}


@dataclass(frozen=True, slots=True)
class BreakerContext:
    """What one breaker needs besides its settings."""

    settings: BreakerSettings
    misconfigured_probe_s: float
    retry_after_max_s: float = RETRY_AFTER_MAX_S


class Breaker(Actor):
    """One provider's circuit; see the module."""

    def __init__(
        self,
        provider: str,
        context: BreakerContext,
        *,
        last_report: CircuitReport | None,
        supervisor: Ref,
        provider_ref: Ref,
        queue_of: Callable[[str], Ref],
        clock: Clock,
        rng: Callable[[], float],
        tell_others: Callable[[News], None] | None = None,
    ) -> None:
        super().__init__()
        self._provider = provider
        self._tell_others = tell_others
        self._settings = context
        self._supervisor = supervisor
        self._provider_ref = provider_ref
        self._queue_of = queue_of
        self._clock = clock
        self._circuit = circuit.Breaker(
            provider, context.settings, clock=clock.monotonic, rng=rng, on_change=self._changed
        )
        self._throttled_until: float | None = None
        self._throttled_in_a_row = 0
        self._misconfigured_until: float | None = None
        self._misconfigured_detail = ""
        self._has_changed = False
        self._is_rest_told = False
        """The Supervisor was told last that the circuit is at rest, and nothing limits calls."""
        self._opened_by = ""
        self._doubted = ""
        """Whose news our probes are about to judge."""
        self._disproved: set[str] = set()
        """Nodes that said it is down, after which a probe of ours succeeded."""
        self._is_following = False
        """It does what another instance or node did, which is no news of its own."""
        if last_report is not None:
            self._restore(last_report)

    def _restore(self, report: CircuitReport) -> None:
        # The time of a half-open circuit is over: its next call is a probe.
        retry_at = report.retry_at if report.state == "open" else None
        remaining_s = 0.0 if retry_at is None else retry_at - self._clock.monotonic()
        self._follow(report.state, remaining_s, report.open_count, report.opened_by)
        self._throttled_until = report.throttled_until
        self._throttled_in_a_row = report.throttled_in_a_row
        self._misconfigured_until = report.misconfigured_until
        self._misconfigured_detail = report.misconfigured_detail

    def _follow(self, state: str, remaining_s: float, open_count: int, node: str) -> None:
        self._is_following = True
        self._circuit.restore(state=state, remaining_s=remaining_s, open_count=open_count)
        self._is_following = False
        self._opened_by = node

    def on_start(self) -> None:
        """Tell the Supervisor that the circuit is there."""
        self._show_state()
        self._supervisor.tell(self._report())

    @handles(Deliver)
    def deliver(self, message: Deliver) -> None:
        """Give the call a permit and pass it on, or send it back as REFUSED."""
        limit = self._limit_in_force(message.call)
        if limit is not None:
            # It was on the way when the answer came that closed the gate.
            self._refuse(message.call, limit, f"the provider is {limit} since")
            return
        try:
            message.permit = self._circuit.acquire()
        except CircuitOpen as refusal:
            metrics.circuit_rejected(self._provider)
            self._refuse(message.call, "circuit_open", str(refusal))
            return
        self._provider_ref.tell(message)
        self._tell_change()

    def _limit_in_force(self, call: Call) -> str | None:
        if self._clock.monotonic() < (self._throttled_until or 0.0):
            return "throttled"
        if self._misconfigured_until is not None and not call.is_probe:
            return "misconfigured"
        return None

    def _refuse(self, call: Call, reason: str, detail: str) -> None:
        self._has_changed = False
        answer = Answer(Outcome.REFUSED, reason, detail, surely_not_accepted=True)
        self._queue_of(call.job.channel).tell(Settled(call, answer))
        self._supervisor.tell(Freed(call, answer, self._news()))

    @handles(Record)
    def record(self, message: Record) -> None:
        """Settle the permit and tell the Supervisor what it changed, slot and all."""
        self._settle_permit(message.permit, message.answer)
        self._note_limits(message)
        self._has_changed = False
        self._supervisor.tell(Freed(message.call, message.answer, self._news()))

    def _settle_permit(self, permit: circuit.Permit, answer: Answer) -> None:
        # By our own circuit: a permit of the instance before would move that one's.
        match answer.outcome:
            case Outcome.ACCEPTED | Outcome.RECIPIENT | Outcome.PERMANENT:
                if self._circuit.settle(permit, "success"):
                    metrics.circuit_succeeded(self._provider)
            case Outcome.TRANSIENT | Outcome.UNKNOWN if answer.tells_of_provider:
                if self._circuit.settle(permit, "failure"):
                    metrics.circuit_failed(self._provider)
            case _:
                self._circuit.settle(permit, "ignored")

    def _note_limits(self, message: Record) -> None:
        now, answer = self._clock.monotonic(), message.answer
        if answer.outcome is Outcome.THROTTLED and not answer.is_host_only:
            pause_s, known_until = self._pause_s(answer), self._throttled_until or 0.0
            self._throttled_until = max(known_until, now + pause_s)
            if now + pause_s > known_until + SAME_PAUSE_S:
                self._share("paused", pause_s)
        elif answer.outcome is Outcome.ACCEPTED:
            self._throttled_in_a_row = 0
            if self._throttled_until is not None and now >= self._throttled_until:
                self._throttled_until = None
        if answer.outcome is Outcome.MISCONFIGURED:
            self._misconfigure(now, answer)
        elif message.call.is_probe and answer.outcome is Outcome.ACCEPTED:
            self._mend()

    def _pause_s(self, answer: Answer) -> float:
        self._throttled_in_a_row += 1
        if answer.retry_after_s:  # "0 s" would mean: again at once, for ever.
            return min(answer.retry_after_s, self._settings.retry_after_max_s)
        doubled: float = THROTTLE_S * 2.0 ** min(self._throttled_in_a_row - 1, 10)
        return min(doubled, THROTTLE_MAX_S)

    def _misconfigure(self, now: float, answer: Answer) -> None:
        if self._misconfigured_until is None:
            log.error(
                "provider_misconfigured",
                provider=self._provider,
                reason=answer.reason,
                detail=answer.detail,
                fix=f"correct [providers.{self._provider}] in the settings, or the account itself",
            )
        self._misconfigured_until = now + self._settings.misconfigured_probe_s
        self._misconfigured_detail = answer.detail or answer.reason
        self._show_state()

    def _mend(self) -> None:
        if self._misconfigured_until is not None:
            log.warning("provider_configured", provider=self._provider)
            self._misconfigured_until = None
            self._misconfigured_detail = ""
            self._show_state()

    @handles(Steer)
    def steer(self, message: Steer) -> None:
        """Follow an operator: force the circuit open, hold it closed, or start over."""
        match message.action:
            case "open":
                self._circuit.force_open()
            case "close":
                self._circuit.disable()
            case _:
                self._circuit.reset()
                self._throttled_until = self._misconfigured_until = None
                self._misconfigured_detail = ""
        self._show_state()
        self._has_changed = False
        self._supervisor.tell(self._report())

    @handles(NewsHeard)
    def hear_news(self, message: NewsHeard) -> None:
        """Do as another node's circuit did, unless there is better reason not to."""
        news = message.news
        if news.kind == "paused":
            pause_s = min(news.remaining_s, self._settings.retry_after_max_s)
            until = self._clock.monotonic() + pause_s
            if until <= (self._throttled_until or 0.0):
                return
            self._throttled_until = until
        else:
            snapshot = self._circuit.snapshot()
            open_s = open_for(
                snapshot,
                news,
                self._settings.settings.longest_open_s,
                is_disproved=news.node in self._disproved,
            )
            if open_s is None:
                return
            self._disproved.discard(news.node)
            count = max(snapshot.open_count, news.open_count)
            self._follow("open", open_s, count, news.node if open_s else self._opened_by)
            self._show_state()
        level = log.warning if news.kind == "open" else log.info
        level(
            f"provider_{news.kind}_elsewhere",
            provider=self._provider, node=news.node, for_s=round(news.remaining_s, 1),
        )  # fmt: skip
        self._has_changed = False
        self._supervisor.tell(self._report())

    def _share(self, kind: Kind, remaining_s: float = 0.0, open_count: int = 0) -> None:
        if self._tell_others is not None and not self._is_following:
            self._tell_others(News(kind, self._provider, "", remaining_s, open_count))

    @handles(ReportCircuit)
    def report(self, message: ReportCircuit) -> None:
        """Tell a new Supervisor how the circuit stands."""
        self._supervisor.tell(replace(self._report(), epoch=message.epoch))

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> circuit.BreakerSnapshot:
        """Show the state machine; changes nothing."""
        return self._circuit.snapshot()

    def _news(self) -> CircuitReport | None:
        # Nearly every call finds it at rest and leaves it so.
        return None if self._is_rest_told and self._is_at_rest() else self._report()

    def _is_at_rest(self) -> bool:
        return (
            self._circuit.is_at_rest
            and self._throttled_until is None
            and not self._throttled_in_a_row
            and self._misconfigured_until is None
        )

    def _report(self) -> CircuitReport:
        self._is_rest_told = self._is_at_rest()
        now = self._circuit.snapshot()
        return CircuitReport(
            self._provider, now.state, now.failures, now.retry_at, now.open_count,
            self._throttled_until, self._throttled_in_a_row, self._misconfigured_until,
            self._misconfigured_detail, opened_by=self._opened_by,
        )  # fmt: skip

    def _changed(self, old: str, new: str) -> None:
        self._has_changed = True
        self._show_state()
        match new:
            case "half_open":
                self._doubted = self._opened_by
            case "open":
                now = self._circuit.snapshot()
                self._share("open", now.retry_after or 0.0, now.open_count)
            case "closed":
                if self._doubted:
                    self._disproved.add(self._doubted)
                self._share("closed")
        if new != "half_open":
            self._doubted = ""
        self._opened_by = ""
        log.warning("breaker_changed", provider=self._provider, old=old, new=new)

    def _tell_change(self) -> None:
        if self._has_changed:
            self._has_changed = False
            self._supervisor.tell(self._report())

    def _show_state(self) -> None:
        number = _STATE_NUMBER[self._circuit.snapshot().state]
        metrics.circuit_state(self._provider, 2 if self._misconfigured_until else number)
