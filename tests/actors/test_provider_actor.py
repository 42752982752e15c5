"""A Provider between Breaker and wire: one task a call, and sessions that outlive a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from clarion.actors.blocking import on_the_loop
from clarion.actors.call_messages import Deliver, Lingering, ProbeHealth, Record
from clarion.actors.messages import Settled
from clarion.actors.provider import Desk, Provider, ProviderTimes
from clarion.actors.runtime import Actor, Runtime, handles
from clarion.actors.supervisor_messages import HealthChecked
from clarion.domain.notification import Call, Content, Delivery, Job, JobState, Priority
from clarion.domain.outcome import Health, Outcome
from clarion.policies.clock import SystemClock
from clarion.policies.lease import Lease
from clarion.telemetry.metrics import Metrics
from clarion.testing import BlockingProvider, Crash, ScriptedProvider, Step

BOUND_S = 5.0


class Neighbour(Actor):
    """Keeps what the Provider tells its Queue, its Breaker and the Supervisor."""

    def __init__(self, heard: asyncio.Queue[Any]) -> None:
        super().__init__()
        self._heard = heard

    @handles(Settled, Record, HealthChecked, Lingering)
    def hear(self, message: Any) -> None:
        self._heard.put_nowait(message)


class House:
    """One Provider over scripted sessions; its neighbours tell the test."""

    def __init__(self, *sessions: Any, timeout_s: float = 60.0) -> None:
        self.clock = SystemClock()
        self.runtime = Runtime(clock=self.clock, rng=lambda: 0.5)
        self.sessions: list[Any] = list(sessions)
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.desk = Desk()
        self.lease = Lease()
        self._times = ProviderTimes(timeout_s, 0.0)
        self._has_crashed = asyncio.Event()
        for name in ("supervisor", "breaker:alpha", "queue:email"):
            self.runtime.spawn(name, lambda: Neighbour(self.heard))
        self.ref = self.runtime.spawn(
            "provider:alpha", self._provider, on_crash=lambda _report: self._has_crashed.set()
        )

    def _provider(self) -> Provider:
        return Provider(
            "alpha",
            self._times,
            make_adapter=lambda: self.sessions.pop(0),
            desk=self.desk,
            supervisor=self.runtime.ref("supervisor"),
            breaker=lambda: self.runtime.ref("breaker:alpha"),
            queue_of=lambda channel: self.runtime.ref(f"queue:{channel}"),
            clock=self.clock,
            metrics=Metrics(),
            lease=self.lease,
        )

    def deliver(self, id: str = "1", *, age_s: float = 0.0) -> Deliver:
        job = Job(
            id=id, channel="email", content=Content("ada@example.com"), flow="", vt=1.0,
            priority=Priority.NORMAL, state=JobState.SENDING, created_at=0.0, expires_at=1e12,
            delivery=Delivery.AT_LEAST_ONCE,
        )  # fmt: skip
        message = Deliver(Call(job, 1, "alpha", out_since=self.clock.monotonic() - age_s), object())
        self.ref.tell(message)
        return message

    async def next(self, kind: type) -> Any:
        async with asyncio.timeout(BOUND_S):
            while True:
                message = await self.heard.get()
                if type(message) is kind:
                    return message

    async def crash(self) -> None:
        self._has_crashed.clear()
        self.ref.tell(Crash("on purpose"))
        async with asyncio.timeout(BOUND_S):
            await self._has_crashed.wait()

    async def restart(self) -> None:
        self.runtime.restart("provider:alpha")
        await self.runtime.started("provider:alpha", BOUND_S)


@pytest.fixture
async def first() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
async def second() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
async def house(first: ScriptedProvider, second: ScriptedProvider) -> AsyncIterator[House]:
    made = House(first, second)
    yield made
    await made.runtime.close(BOUND_S)


async def until(condition: Any) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0)


async def test_an_answer_goes_to_the_lane_and_to_the_breaker(house):
    """One settles the notification, the other the permit."""
    asked = house.deliver()

    settled, record = await house.next(Settled), await house.next(Record)

    assert (settled.call, settled.answer.outcome) == (asked.call, Outcome.ACCEPTED)
    assert (record.call, record.permit) == (asked.call, asked.permit)


async def test_a_redelivered_call_that_is_out_is_not_sent_twice(house, first):
    """The message that met a crash comes once more; its call may be running already."""
    first.hold()
    asked = house.deliver()
    await first.wait_for(1)

    house.ref.tell(asked)
    first.release()
    await house.next(Settled)

    assert len(first.sends) == 1
    assert house.heard.qsize() <= 1, "one answer, and its record"


async def test_a_call_that_waited_too_long_for_a_restart_is_not_made(house, first):
    """Its lane has given it up: it comes back as REFUSED, which sends nothing."""
    house.deliver(age_s=100.0)

    settled = await house.next(Settled)

    assert (settled.answer.outcome, settled.answer.surely_not_accepted) == (Outcome.REFUSED, True)
    assert first.sends == []


async def test_running_calls_end_on_the_old_session_which_closes_after_its_last(
    house, first, second
):
    """A crash cuts no call off: each reports as usual, and new ones use the new session."""
    first.hold()
    house.deliver("1")
    house.deliver("2")
    await first.wait_for(2)

    await house.crash()
    await house.restart()
    house.deliver("3")
    newest = await house.next(Settled)
    closed_early = first.times_closed
    first.release(1)
    await house.next(Settled)
    closed_after_one = first.times_closed
    first.release()
    await house.next(Settled)
    await until(lambda: first.times_closed)

    assert newest.call.job.id == "3"
    assert [sent.outgoing.notification_id for sent in second.sends] == ["3"]
    assert (closed_early, closed_after_one, first.times_closed) == (0, 0, 1)


@pytest.mark.parametrize(
    ("is_written", "outcome"), [(False, Outcome.TRANSIENT), (True, Outcome.UNKNOWN)]
)
async def test_our_own_bug_in_a_send_is_an_outcome_by_phase(house, first, is_written, outcome):
    """Before the wire nothing was sent; after it the provider may have it. No crash either way."""
    first.play([Step(KeyError("ours"), is_written=is_written)])

    with capture_logs() as logs:
        house.deliver()
        settled = await house.next(Settled)

    assert (settled.answer.outcome, settled.answer.is_bug) == (outcome, True)
    assert settled.answer.surely_not_accepted is not is_written
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["send_bug"]
    assert "KeyError" in logs[0]["traceback"]


@pytest.mark.parametrize(
    ("is_written", "outcome"), [(False, Outcome.TRANSIENT), (True, Outcome.UNKNOWN)]
)
async def test_a_call_without_an_answer_ends_with_its_time_limit(is_written, outcome):
    """One total limit for the whole call; how far it got decides what it came to."""
    provider = ScriptedProvider([Step(is_written=is_written, is_held=True)])
    house = House(provider, timeout_s=0.05)

    house.deliver()
    settled = await house.next(Settled)
    await house.runtime.close(BOUND_S)

    assert (settled.answer.outcome, settled.answer.reason) == (outcome, "timeout")


async def test_a_health_probe_tells_and_sends_nothing(house, first):
    """It informs the Supervisor; a probe with a bug of its own is ill health, not a crash."""
    first.health = Health(is_healthy=False, detail="unwell")
    house.ref.tell(ProbeHealth())

    checked = await house.next(HealthChecked)

    assert (checked.provider, checked.health.detail) == ("alpha", "unwell")
    assert first.sends == []


async def test_a_call_that_ends_after_its_lane_has_stopped_is_no_error(house, first):
    """At the end of the process lanes stop first: the session must close all the same."""
    first.hold()
    house.deliver()
    await first.wait_for(1)
    await house.runtime.stop("queue:email", BOUND_S)

    with capture_logs() as logs:
        first.release()
        await house.next(Record)
        await house.runtime.stop("provider:alpha", BOUND_S)

    assert first.times_closed == 1
    assert [each["event"] for each in logs if each["event"] == "task_failed"] == []


async def test_a_thread_that_hangs_is_told_before_the_end_of_its_call():
    """Or its slot would be given away in between; and again when the thread returns."""
    library = BlockingProvider()
    library.hang()
    house = House(on_the_loop(library, 1), timeout_s=0.05)
    asked = house.deliver()
    heard: list[Any] = []

    async with asyncio.timeout(BOUND_S):
        while not any(isinstance(each, Record) for each in heard):
            heard.append(await house.heard.get())
    library.release()
    returned = await house.next(Lingering)
    await house.runtime.close(BOUND_S)

    (kept,) = [each for each in heard if isinstance(each, Lingering)]
    (settled,) = [each for each in heard if isinstance(each, Settled)]
    assert heard.index(kept) == 0
    assert kept.calls == {asked.call.key}
    assert (settled.answer.outcome, settled.answer.reason) == (Outcome.UNKNOWN, "timeout")
    assert returned.calls == frozenset()
