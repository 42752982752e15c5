"""The Breaker in the wire: permits, refusals, and what the Supervisor is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clarion.actors.breaker import Breaker, BreakerContext
from clarion.actors.call_messages import Deliver, Record, Steer
from clarion.actors.commons_messages import NewsHeard
from clarion.actors.messages import Settled, Snapshot
from clarion.actors.runtime import Actor, Ref, Runtime, handles
from clarion.actors.supervisor_messages import CircuitReport, Freed
from clarion.domain.notification import Call, Content, Delivery, Job, JobState, Priority
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.breaker import BreakerSnapshot
from clarion.policies.breaker_settings import BreakerSettings
from clarion.policies.circuit_news import News
from clarion.policies.clock import SystemClock
from clarion.telemetry.metrics import Metrics
from clarion.testing import Crash, ManualClock

BOUND_S = 5.0
ACCEPTED = Answer(Outcome.ACCEPTED, "accepted")
FAILED = Answer(Outcome.TRANSIENT, "http_503")


class Neighbour(Actor):
    """Supervisor, Provider or Queue: keeps what it is told, in order."""

    def __init__(self, heard: asyncio.Queue[Any]) -> None:
        super().__init__()
        self._heard = heard

    @handles(CircuitReport)
    def report(self, message: CircuitReport) -> None:
        self._heard.put_nowait(message)

    @handles(Freed)
    def freed(self, message: Freed) -> None:
        self._heard.put_nowait(message)

    @handles(Deliver)
    def deliver(self, message: Deliver) -> None:
        self._heard.put_nowait(message)

    @handles(Settled)
    def settled(self, message: Settled) -> None:
        self._heard.put_nowait(message)


class Wire:
    """A Breaker between its neighbours; the test plays them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = ManualClock()
        self.runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5, intake_bound=10)
        self.heard: dict[str, asyncio.Queue[Any]] = {}
        self.refs = {name: self._neighbour(name) for name in ("supervisor", "provider", "queue")}
        self.last: CircuitReport | None = None
        self.told: list[News] = []
        self.crashed = asyncio.Event()
        self.breaker = self.runtime.spawn(
            "breaker", self._make, on_crash=lambda _report: self.crashed.set()
        )
        self._calls = 0

    def _neighbour(self, name: str) -> Ref:
        heard = self.heard[name] = asyncio.Queue()
        return self.runtime.spawn(name, lambda: Neighbour(heard))

    def _make(self) -> Breaker:
        settings = BreakerSettings(failure_threshold=1, jitter=0.0)
        return Breaker(
            self.name,
            BreakerContext(settings, misconfigured_probe_s=300.0),
            last_report=self.last,
            supervisor=self.refs["supervisor"],
            provider_ref=self.refs["provider"],
            queue_of=lambda _channel: self.refs["queue"],
            clock=self.clock,
            rng=lambda: 0.0,
            tell_others=self.told.append,
        )

    async def hears(self, name: str) -> Any:
        """Return the next message that a neighbour gets."""
        async with asyncio.timeout(BOUND_S):
            return await self.heard[name].get()

    async def circuit(self) -> BreakerSnapshot:
        """Ask how the circuit stands; it has handled everything before."""
        return await self.breaker.ask(Snapshot(), BOUND_S)  # type: ignore[no-any-return]

    async def send(self, *, is_probe: bool = False) -> Deliver:
        """Send a call and return it as the Provider gets it."""
        self._deliver(is_probe=is_probe)
        return await self.hears("provider")  # type: ignore[no-any-return]

    def _deliver(self, *, is_probe: bool = False) -> None:
        self._calls += 1
        content = Content("ada@example.com", text="Hi")
        job = Job(
            f"{self._calls:026d}", "email", content, Priority.NORMAL, "", 0.0, JobState.READY,
            created_at=0.0, expires_at=1e12, is_expiry_explicit=False,
            delivery=Delivery.AT_LEAST_ONCE,
        )  # fmt: skip
        self.breaker.tell(Deliver(Call(job, 1, "primary", is_probe=is_probe)))

    async def refused(self) -> Freed:
        """Send a call that comes back, and return what the Supervisor hears of it."""
        self._deliver()
        settled = await self.hears("queue")
        assert settled.answer.outcome is Outcome.REFUSED
        while True:
            heard = await self.hears("supervisor")
            if isinstance(heard, Freed) and heard.answer.outcome is Outcome.REFUSED:
                return heard

    async def ends(self, delivered: Deliver, answer: Answer) -> None:
        """Let a call end, as the Provider tells it, and wait until the Breaker has heard."""
        self.breaker.tell(Record(delivered.permit, delivered.call, answer))
        await self.circuit()

    async def crash(self) -> None:
        """Crash the Breaker; the next one starts from the last report."""
        self.breaker.tell(Crash("on purpose"))
        async with asyncio.timeout(BOUND_S):
            await self.crashed.wait()
        self.runtime.restart("breaker")


@pytest.fixture
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    wire = Wire(request.node.name)
    assert (await wire.hears("supervisor")).state == "closed"
    yield wire
    await wire.runtime.close(1)


def shown(name: str, wire: Wire) -> float:
    text = Metrics().render()[0].decode()
    start = f'circuit_breaker_{name}{{name="{wire.name}"}} '
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(start))


async def test_slot_and_circuit_change_in_one_message(wire: Wire) -> None:
    """The Supervisor never sees a free slot before the state that it caused."""
    call = await wire.send()

    await wire.ends(call, FAILED)
    freed = await wire.hears("supervisor")

    assert isinstance(freed, Freed)
    assert (freed.circuit.state, freed.circuit.open_count) == ("open", 1)
    assert freed.circuit.retry_at == pytest.approx(wire.clock.monotonic() + 60.0)


async def test_a_refused_call_comes_back_as_an_outcome(wire: Wire) -> None:
    """To its Queue and, with the state of the circuit, to the Supervisor."""
    await wire.ends(await wire.send(), FAILED)

    freed = await wire.refused()

    assert freed.answer.surely_not_accepted
    assert freed.circuit.state == "open"
    assert shown("open_total", wire) == 1


async def test_a_probe_that_never_answers_reopens_the_circuit_without_a_timer(wire: Wire) -> None:
    """The next call finds out and tells the Supervisor from when a probe is admitted."""
    await wire.ends(await wire.send(), FAILED)
    opened_at = wire.clock.monotonic()
    wire.clock.advance(60.0)
    probe = await wire.send()

    wire.clock.advance(31.0)
    freed = await wire.refused()
    await wire.ends(probe, ACCEPTED)
    late = await wire.circuit()

    assert freed.circuit.state == "open"
    assert freed.circuit.retry_at == pytest.approx(opened_at + 60.0 + 30.0 + 120.0)
    assert (late.state, late.late_results) == ("open", 1)


async def test_while_a_probe_is_out_the_report_names_a_certain_instant(wire: Wire) -> None:
    """From which a probe is admitted even if this one is lost; the gate stays shut until then."""
    await wire.ends(await wire.send(), FAILED)
    await wire.hears("supervisor")
    wire.clock.advance(60.0)
    probed_at = wire.clock.monotonic()
    await wire.send()

    report = await wire.hears("supervisor")

    assert report.state == "half_open"
    assert report.retry_at == pytest.approx(probed_at + 30.0 + 120.0)


async def test_results_of_calls_before_a_crash_do_not_move_the_new_circuit(wire: Wire) -> None:
    """Nor the gauge, which the old instance's circuit would turn."""
    call = await wire.send()
    await wire.crash()
    await wire.hears("supervisor")

    await wire.ends(call, FAILED)
    freed = await wire.hears("supervisor")

    assert (freed.call, freed.circuit) == (call.call, None), "as it was told at the start"
    assert (shown("state", wire), shown("failure_total", wire)) == (0, 0)


async def test_the_supervisor_hears_of_a_circuit_only_what_it_does_not_know(wire: Wire) -> None:
    """A call that finds it at rest and leaves it so says nothing of it; the end of a pause does."""
    pause = Answer(Outcome.THROTTLED, "http_429", retry_after_s=5.0)
    told = []
    for answer, wait_s in (
        (ACCEPTED, 0.0), (pause, 6.0), (ACCEPTED, 0.0), (ACCEPTED, 0.0),
    ):  # fmt: skip
        await wire.ends(await wire.send(), answer)
        told.append((await wire.hears("supervisor")).circuit)
        wire.clock.advance(wait_s)

    before, throttled, mended, after = told
    assert (before, after) == (None, None)
    assert throttled.throttled_until is not None
    assert (mended.throttled_until, mended.throttled_in_a_row) == (None, 0)


@pytest.mark.parametrize(("state", "wait_s"), [("open", 25.0), ("half_open", 0.0)])
async def test_a_crash_does_not_close_the_circuit(wire: Wire, state: str, wait_s: float) -> None:
    """It goes on as open: what remained, or at once with a probe where it was half-open."""
    at = wire.clock.monotonic() + 25.0
    wire.last = CircuitReport(wire.name, state, 0, at, 3)

    await wire.crash()
    circuit = await wire.circuit()

    assert (circuit.state, circuit.open_count) == ("open", 3)
    assert circuit.retry_after == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("word", "state", "number"), [("open", "forced_open", 2), ("close", "disabled", 0)]
)
async def test_an_operators_word_outlives_a_crash(
    wire: Wire, word: str, state: str, number: int
) -> None:
    """Forced states are restored from the report."""
    wire.breaker.tell(Steer(word))
    wire.last = await wire.hears("supervisor")

    await wire.crash()

    assert (await wire.circuit()).state == state
    assert shown("state", wire) == number


@pytest.mark.parametrize("whose", ["is_host_only", "is_recipient_only"])
@pytest.mark.parametrize("outcome", [Outcome.TRANSIENT, Outcome.UNKNOWN])
async def test_what_tells_of_one_recipient_opens_no_circuit(
    wire: Wire, outcome: Outcome, whose: str
) -> None:
    """One dead host of many says nothing of the provider; one failure of its own does."""
    await wire.ends(await wire.send(), Answer(outcome, "timeout", **{whose: True}))
    unmoved = await wire.circuit()
    await wire.ends(await wire.send(), Answer(outcome, "timeout"))

    assert (unmoved.state, unmoved.failures) == ("closed", 0)
    assert shown("failure_total", wire) == 1
    assert (await wire.circuit()).state == "open"


async def test_a_recipients_host_that_throttles_does_not_throttle_the_provider(wire: Wire) -> None:
    """The gate of a provider follows the provider's own wishes alone."""
    busy = Answer(Outcome.THROTTLED, "host_busy", retry_after_s=60.0, is_host_only=True)
    await wire.ends(await wire.send(), busy)
    of_host = await wire.hears("supervisor")
    own = Answer(Outcome.THROTTLED, "http_429", retry_after_s=60.0)
    await wire.ends(await wire.send(), own)
    of_provider = await wire.hears("supervisor")

    assert of_host.circuit is None, "as it was told at the start"
    assert of_provider.circuit.throttled_until == pytest.approx(wire.clock.monotonic() + 60.0)


async def test_a_probe_that_met_a_dead_host_leaves_the_circuit_half_open(wire: Wire) -> None:
    """It proved nothing: the next call is a probe, at once."""
    await wire.ends(await wire.send(), FAILED)
    wire.clock.advance(60.0)
    await wire.ends(await wire.send(), Answer(Outcome.TRANSIENT, "http_500", is_host_only=True))
    after = await wire.circuit()

    await wire.send()

    assert after.state == "half_open"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(Outcome.THROTTLED, "http_429", retry_after_s=15.0), "throttled"),
        (Answer(Outcome.MISCONFIGURED, "http_401"), "misconfigured"),
    ],
    ids=["throttled", "misconfigured"],
)
async def test_a_call_that_was_on_the_way_when_the_gate_closed_is_refused(
    wire: Wire, answer: Answer, reason: str
) -> None:
    """Nothing before the Retry-After is over, and nothing that must fail: not even this one."""
    await wire.ends(await wire.send(), answer)

    freed = await wire.refused()

    assert (freed.answer.reason, freed.answer.surely_not_accepted) == (reason, True)


async def test_a_good_probe_ends_a_misconfiguration(wire: Wire) -> None:
    """Whoever corrected the account at the provider has nothing to tell Clarion."""
    await wire.ends(await wire.send(), Answer(Outcome.MISCONFIGURED, "http_401"))
    found = (await wire.hears("supervisor")).circuit

    await wire.ends(await wire.send(is_probe=True), ACCEPTED)

    assert found.misconfigured_until is not None
    assert (await wire.hears("supervisor")).circuit.misconfigured_until is None
    assert (await wire.send()).permit is not None


async def test_a_throttle_that_is_over_refuses_nothing(wire: Wire) -> None:
    """At the instant that the provider named it may be called again."""
    throttled = Answer(Outcome.THROTTLED, "http_429", retry_after_s=15.0)
    await wire.ends(await wire.send(), throttled)

    wire.clock.advance(15.0)

    assert (await wire.send()).permit is not None


async def test_a_throttle_without_a_time_to_wait_closes_the_gate_longer_each_time(
    wire: Wire,
) -> None:
    """A Retry-After of 0 names none: else it would be asked again at once, for ever."""
    waits = []
    for wish in (0.0, None, 0.0):
        await wire.ends(await wire.send(), Answer(Outcome.THROTTLED, "429", retry_after_s=wish))
        until = (await wire.hears("supervisor")).circuit.throttled_until
        waits.append(until - wire.clock.monotonic())
        wire.clock.advance(waits[-1])

    assert waits == [1.0, 2.0, 4.0]


# --- what nodes share --------------------------------------------------------------------------


async def test_an_opening_a_closing_and_a_pause_are_told_to_other_nodes(wire: Wire) -> None:
    await wire.ends(await wire.send(), FAILED)
    for _ in range(2):
        wire.clock.advance(60.0)
        await wire.ends(await wire.send(), ACCEPTED)
    throttled = Answer(Outcome.THROTTLED, "http_429", retry_after_s=20.0)
    await wire.ends(await wire.send(), throttled)

    kinds = [(news.kind, round(news.remaining_s), news.open_count) for news in wire.told]
    assert kinds == [("open", 60, 1), ("closed", 0, 0), ("paused", 20, 0)]


async def test_a_pause_that_all_calls_are_answered_with_is_told_once(wire: Wire) -> None:
    """With 32 calls out, one Retry-After comes 32 times."""
    throttled = Answer(Outcome.THROTTLED, "http_429", retry_after_s=20.0)
    calls = [await wire.send() for _ in range(4)]

    for call in calls:
        await wire.ends(call, throttled)

    assert [news.kind for news in wire.told] == ["paused"]


async def test_what_was_heard_is_done_and_not_told_again(wire: Wire) -> None:
    """For the time that is left; a crash of the breaker keeps both, and is no news either."""
    wire.breaker.tell(NewsHeard(News("open", wire.name, "b", 30.0, 1)))
    report = await wire.hears("supervisor")
    wire.last = report
    await wire.crash()
    again = await wire.hears("supervisor")

    assert (report.state, report.opened_by) == ("open", "b")
    assert report.retry_at == again.retry_at == pytest.approx(wire.clock.monotonic() + 30.0)
    assert again.opened_by == "b"
    assert wire.told == []


async def test_an_open_time_is_never_longer_than_its_own_settings_make_it(wire: Wire) -> None:
    """A clock that jumped, or a garbled key, must not shut a provider for a day."""
    wire.breaker.tell(NewsHeard(News("open", wire.name, "b", 86_400.0, 1)))

    report = await wire.hears("supervisor")

    assert report.retry_at == pytest.approx(wire.clock.monotonic() + 600.0)


async def test_a_pause_that_was_heard_is_kept_if_it_is_the_longer_one(wire: Wire) -> None:
    throttled = Answer(Outcome.THROTTLED, "http_429", retry_after_s=20.0)
    await wire.ends(await wire.send(), throttled)
    await wire.hears("supervisor")

    wire.breaker.tell(NewsHeard(News("paused", wire.name, "b", 10.0)))
    wire.breaker.tell(NewsHeard(News("paused", wire.name, "b", 50.0)))
    report = await wire.hears("supervisor")

    assert report.throttled_until == pytest.approx(wire.clock.monotonic() + 50.0)
