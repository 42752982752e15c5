"""The Provider: one account's session, and the calls that are out on it.

Owns the adapter's session or connection pool. Each call is one task with one total timeout, and
belongs to the address, not to the instance: a crash closes nothing. The next instance opens a
session of its own, running calls end on the old one and report as usual, and the old one closes
after its last. The health probe sends nothing; it informs `/health` and closes no circuit.

A call whose thread hangs (`Wire.lingering`) is over for its lane and its circuit at the time limit,
but keeps its slot until the thread returns: the Supervisor is told all such calls at each change.

Who may send: its Breaker (`Deliver`), the Supervisor (`ProbeHealth`).
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from clarion.actors.call_limit import CallLimit
from clarion.actors.call_messages import Deliver, Lingering, ProbeHealth, Record
from clarion.actors.messages import Internal, Settled, Snapshot
from clarion.actors.runtime import Actor, Ref, handles
from clarion.actors.supervisor_messages import HealthChecked, ProviderStarted
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.errors import ActorDead
from clarion.policies.clock import Clock
from clarion.policies.lease import Lease
from clarion.providers.base import Adapter, Outgoing, Wire, answer_for_exception
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

CLOSE_S = 5.0
"""How long closing a session may take."""


@dataclass(slots=True, eq=False)
class Session:
    """An opened adapter and the calls that are out on it."""

    adapter: Adapter
    out: int = 0
    is_retired: bool = False


@dataclass(slots=True)
class Desk:
    """What belongs to a Provider's address and outlives its instances."""

    session: Session | None = None
    running: set[tuple[str, int]] = field(default_factory=set)
    """Keys of calls that are out: a redelivered `Deliver` is not sent twice."""
    lingering: set[tuple[str, int]] = field(default_factory=set)
    """Keys of calls that are over but for their threads."""


@dataclass(frozen=True, slots=True)
class ProviderTimes:
    """Durations in seconds."""

    timeout_s: float
    health_every_s: float


@dataclass(frozen=True, slots=True)
class _CheckHealth(Internal):
    """Self: time for the regular health probe."""


class Provider(Actor):
    """One configured account; see the module."""

    def __init__(
        self,
        provider: str,
        times: ProviderTimes,
        *,
        make_adapter: Callable[[], Adapter],
        desk: Desk,
        supervisor: Ref,
        breaker: Callable[[], Ref],
        queue_of: Callable[[str], Ref],
        clock: Clock,
        metrics: Metrics,
        lease: Lease,
    ) -> None:
        super().__init__()
        self._lease = lease
        self._provider = provider
        self._times = times
        self._make_adapter = make_adapter
        self._desk = desk
        self._supervisor = supervisor
        self._breaker = breaker
        self._queue_of = queue_of
        self._clock = clock
        self._metrics = metrics
        self._is_probing = False
        self._limit = CallLimit(times.timeout_s)

    async def on_start(self) -> None:  # type: ignore[override]  # pykka's is sync
        """Open a session; the one of a forerunner closes after its last call."""
        adapter = self._make_adapter()
        await adapter.open()
        old, self._desk.session = self._desk.session, Session(adapter)
        if old is not None:
            self._retire(old)
        if self._times.health_every_s > 0:
            self.context.later(self._times.health_every_s, _CheckHealth())
        self._supervisor.tell(ProviderStarted(self._provider))

    def on_stop(self) -> None:
        """Let the session close after its last call."""
        session, self._desk.session = self._desk.session, None
        if session is not None:
            self._retire(session)

    def _retire(self, session: Session) -> None:
        session.is_retired = True
        if session.out == 0:
            self.context.start_task(_close(session), name=f"close:{self._provider}")

    @handles(Deliver)
    def deliver(self, message: Deliver) -> None:
        """Start the call as a task of its own."""
        session = self._desk.session
        if session is None:
            raise RuntimeError(f"provider {self._provider} has no session")
        if message.call.key in self._desk.running:
            return
        now = self._clock.monotonic()
        if now > message.call.out_since + self._times.timeout_s:
            # It waited for this actor's restart; its Queue has given it up or soon will.
            self._report(message, Answer(Outcome.REFUSED, "too_late", "waited too long", True))
            return
        if not self._lease.is_held(now):
            # This process stood still, or lost the store: another node may be sending it.
            why = "this node could not renew its lease in time"
            self._report(message, Answer(Outcome.RECALLED, "no_lease", why, True))
            return
        self._desk.running.add(message.call.key)
        session.out += 1
        self.context.start_task(self._call(session, message), name=self._provider)

    async def _call(self, session: Session, message: Deliver) -> None:
        call = message.call
        call.started_at = self._clock.now()
        began = call.out_since = self._clock.monotonic()
        wire = Wire()
        answer = await self._send(session.adapter, call, wire)
        duration_s = self._clock.monotonic() - began
        self._desk.running.discard(call.key)
        session.out -= 1
        if wire.lingering is not None:
            self._keep_slot(call, wire.lingering)
        self._report(message, answer)
        if session.is_retired and session.out == 0:
            await _close(session)
        self._count(call, answer, duration_s)

    def _report(self, message: Deliver, answer: Answer) -> None:
        call = message.call
        # At the end of the process the others stop before us, and need no news any more.
        with suppress(ActorDead):
            self._queue_of(call.job.channel).tell(Settled(call, answer))
        with suppress(ActorDead):
            self._breaker().tell(Record(message.permit, call, answer))

    def _keep_slot(self, call: Call, lingering: asyncio.Future[Any]) -> None:
        """Tell the Supervisor, before it hears of the call's end, that the slot stays taken."""
        self._desk.lingering.add(call.key)
        self._tell_lingering()
        log.warning("thread_hangs", provider=self._provider, notification_id=call.job.id)
        lingering.add_done_callback(lambda _: self._give_slot_back(call))

    def _give_slot_back(self, call: Call) -> None:
        self._desk.lingering.discard(call.key)
        self._tell_lingering()
        log.info("thread_returned", provider=self._provider, notification_id=call.job.id)

    def _tell_lingering(self) -> None:
        with suppress(ActorDead):
            self._supervisor.tell(Lingering(self._provider, frozenset(self._desk.lingering)))

    async def _send(self, adapter: Adapter, call: Call, wire: Wire) -> Answer:
        try:
            with self._limit():
                return await adapter.send(_outgoing(call), wire)
        except TimeoutError as error:
            return answer_for_exception(error, wire)
        except Exception as error:  # the task boundary: our own bug is an outcome, by phase
            log.error(
                "send_bug",
                provider=self._provider,
                notification_id=call.job.id,
                error=repr(error),
                traceback=traceback.format_exc(),
            )
            outcome = Outcome.UNKNOWN if wire.is_written else Outcome.TRANSIENT
            return Answer(
                outcome, "bug", "an error inside Clarion; its traceback is in the log",
                surely_not_accepted=not wire.is_written, is_bug=True,
            )  # fmt: skip

    def _count(self, call: Call, answer: Answer, duration_s: float) -> None:
        self._metrics.provider_call(self._provider, answer.outcome).inc()
        self._metrics.call_seconds(self._provider).observe(duration_s)
        if call.is_fallback:
            self._metrics.fallbacks(call.job.channel, self._provider).inc()
        if answer.outcome is not Outcome.ACCEPTED:
            self._log_refusal(call, answer)

    def _log_refusal(self, call: Call, answer: Answer) -> None:
        # Not for a success: a metric tells those, and the breaker bounds the others.
        log.info(
            "provider_call_failed",
            provider=self._provider,
            channel=call.job.channel,
            notification_id=call.job.id,
            attempt=call.job.attempt + 1,
            outcome=answer.outcome,
            reason=answer.reason,
            correlation_id=call.job.correlation_id or call.job.id,
        )

    @handles(_CheckHealth)
    def check_regularly(self, _message: _CheckHealth) -> None:
        """Probe the provider's health every `health_every` seconds."""
        self.context.later(self._times.health_every_s, _CheckHealth())
        self._start_probe()

    @handles(ProbeHealth)
    def probe(self, _message: ProbeHealth) -> None:
        """Probe the provider's health now."""
        self._start_probe()

    def _start_probe(self) -> None:
        session = self._desk.session
        if session is not None and not self._is_probing:
            self._is_probing = True
            self.context.start_task(self._check(session.adapter), name=f"probe:{self._provider}")

    async def _check(self, adapter: Adapter) -> None:
        try:
            async with asyncio.timeout(self._times.timeout_s):
                health = await adapter.probe()
        except TimeoutError:
            health = Health(False, f"no answer within {self._times.timeout_s:g} s")
        except Exception as error:  # the task boundary: a probe must not kill its provider
            log.warning("probe_bug", provider=self._provider, error=repr(error))
            health = Health(False, "the health probe itself failed; see the log")
        finally:
            self._is_probing = False
        checked = replace(health, checked_at=self._clock.now())
        self._supervisor.tell(HealthChecked(self._provider, checked))

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> int:
        """Return how many calls are out."""
        return len(self._desk.running)


def _outgoing(call: Call) -> Outgoing:
    job = call.job
    return Outgoing(
        job.id, job.channel, job.content, call.number, job.correlation_id or job.id,
        job.tenant, job.reference, job.metadata, job.created_at,
    )  # fmt: skip


async def _close(session: Session) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await session.adapter.close()
    except Exception as error:  # the task boundary: nothing depends on a clean close
        log.warning("session_close_failed", error=repr(error))
