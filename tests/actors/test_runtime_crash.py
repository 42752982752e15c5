"""Crashes: the instance goes, the address stays, the message gets one more chance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pykka
import pytest

from clarion.actors.runtime import Actor, Crash, CrashReport, InjectedCrash, Ref, Runtime, handles
from clarion.errors import ActorDead, AskTimeout, ClarionError, NotFound
from clarion.policies.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Add:
    """Adds to the sum of this instance; the reply is the sum."""

    n: int


@dataclass(slots=True)
class Fail:
    """Raises `error` the first `times` times it is handled; then answers how often that was."""

    error: BaseException
    times: int = 1
    is_async: bool = False
    handled: int = 0


class Counter(Actor):
    """Counts, and forgets its sum with its instance."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log
        self.sum = 0

    def on_start(self) -> None:
        self.log.append("start")

    def on_stop(self) -> None:
        self.log.append("stop")

    @handles(Add)
    def add(self, message: Add) -> int:
        self.sum += message.n
        return self.sum

    @handles(Fail)
    def fail(self, message: Fail) -> Any:
        message.handled += 1
        if message.handled > message.times:
            return message.handled
        if message.is_async:
            return self._fail_later(message.error)
        raise message.error

    async def _fail_later(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error


class Stage:
    """A runtime with one Counter, and what is known of its crashes."""

    def __init__(self) -> None:
        self.runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5, intake_bound=10)
        self.log: list[str] = []
        self.reports: list[CrashReport] = []
        self._crashed = asyncio.Event()
        self.counter = self.runtime.spawn("counter", lambda: Counter(self.log), on_crash=self._note)

    def _note(self, report: CrashReport) -> None:
        self.reports.append(report)
        self._crashed.set()

    async def crashed(self) -> CrashReport:
        """Wait for the next crash."""
        async with asyncio.timeout(5):
            await self._crashed.wait()
        self._crashed.clear()
        return self.reports[-1]

    def restart(self) -> None:
        self.runtime.restart("counter")

    @property
    def state(self) -> str:
        return self.runtime.statistics()[0].state


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.runtime.close(1)


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_unexpected_error_discards_the_instance(stage: Stage, is_async: bool) -> None:
    """For tells and asks alike; the report says what happened, nothing runs until the restart."""
    stage.counter.tell(Fail(ValueError("a bug"), is_async=is_async))

    report = await stage.crashed()

    assert (report.name, report.message_type, report.crash_number) == ("counter", "Fail", 1)
    assert isinstance(report.exception, ValueError)
    assert not report.is_start_failure
    assert "a bug" in report.traceback_text
    assert stage.state == "crashed"
    waiting = stage.counter.ask(Add(1))
    await asyncio.sleep(0.01)
    assert not waiting.done
    assert stage.log == ["start"]


async def test_an_expected_error_in_a_tell_is_a_crash(stage: Stage) -> None:
    """Nobody is there to expect it."""
    stage.counter.tell(Fail(NotFound("thing", "x")))

    assert isinstance((await stage.crashed()).exception, NotFound)


async def test_a_fresh_instance_serves_the_same_address(stage: Stage) -> None:
    """Reference, URN and mailbox stay; the state is new."""
    assert await stage.counter.ask(Add(5)) == 5
    before = stage.counter.actor_ref
    urn = before.actor_urn
    stage.counter.tell(Crash())
    await stage.crashed()
    queued = stage.counter.ask(Add(1))
    assert before.is_alive()

    stage.restart()

    assert await queued == 1
    assert stage.counter.actor_ref is before
    assert stage.runtime.ref("counter") is stage.counter
    assert pykka.ActorRegistry.get_by_urn(urn) is before
    assert await before.ask(Add(1), block=False) == 2
    assert stage.log == ["start", "start"]


async def test_old_proxies_reach_the_new_instance(stage: Stage) -> None:
    """Whatever pykka object one holds, it leads to the address."""
    await stage.runtime.started("counter")
    proxy = stage.counter.actor_ref.proxy()
    stage.counter.tell(Crash())
    await stage.crashed()

    stage.restart()

    assert await proxy.add(Add(3)) == 3
    assert await proxy.sum == 3


async def test_the_message_that_crashed_it_is_redelivered_first_and_its_ask_answered(
    stage: Stage,
) -> None:
    """Once; the asker only notices the time it took."""
    failing = stage.counter.ask(Fail(ValueError("a bug")))
    behind = stage.counter.ask(Add(1))
    await stage.crashed()
    assert not failing.done

    stage.restart()

    assert await failing == 2
    assert await behind == 1


async def test_a_message_that_crashes_twice_is_quarantined(stage: Stage) -> None:
    """A poisonous message does not stop a lane for ever."""
    poison = Fail(ValueError("a bug"), times=9)
    failing = stage.counter.ask(poison)
    await stage.crashed()
    stage.restart()
    await stage.crashed()
    stage.restart()

    with pytest.raises(ValueError, match="a bug"):
        await failing

    assert await stage.counter.ask(Add(1)) == 1
    [taken_out] = stage.runtime.quarantine
    assert (taken_out.name, taken_out.message) == ("counter", poison)
    assert poison.handled == 2
    assert stage.reports[-1].crash_number == 2


async def test_a_new_message_after_a_redelivery_has_its_own_chance(stage: Stage) -> None:
    """Redelivery is counted per message."""
    first, second = Fail(ValueError("one")), Fail(ValueError("two"))
    for message in (first, second):
        reply = stage.counter.ask(message)
        await stage.crashed()
        stage.restart()
        assert await reply == 2

    assert len(stage.runtime.quarantine) == 0


async def test_an_ask_that_expired_meanwhile_is_not_redelivered(stage: Stage) -> None:
    """Nobody waits for it any more."""
    message = Fail(ValueError("a bug"))
    reply = stage.counter.ask(message, timeout_s=0.01)
    await stage.crashed()
    with pytest.raises(AskTimeout):
        await reply

    stage.restart()

    assert await stage.counter.ask(Add(1)) == 1
    assert message.handled == 1


async def test_a_crash_on_purpose_is_never_redelivered(stage: Stage) -> None:
    """Its ask fails at once; the next instance does not meet it."""
    asked = stage.counter.ask(Crash("for the test"))

    report = await stage.crashed()

    with pytest.raises(InjectedCrash, match="for the test"):
        await asked
    assert report.message_type == "Crash"
    stage.restart()
    assert await stage.counter.ask(Add(1)) == 1
    assert len(stage.reports) == 1
    assert len(stage.runtime.quarantine) == 0


async def test_a_crash_goes_before_waiting_intake(stage: Stage) -> None:
    """It is no intake, so the work behind it shows what a crash costs."""
    replies = [stage.counter.ask(Add(1)) for _ in range(3)]
    stage.counter.tell(Crash())

    await stage.crashed()

    assert not any(reply.done for reply in replies)


async def test_the_mailbox_collects_while_crashed_within_its_bound(stage: Stage) -> None:
    """Senders see no difference between a busy and a crashed actor."""
    stage.counter.tell(Crash())
    await stage.crashed()
    for _ in range(10):
        stage.counter.tell(Add(1))

    with pytest.raises(ClarionError, match="full"):
        stage.counter.tell(Add(1))
    stage.restart()
    await stage.runtime.started("counter")
    await asyncio.sleep(0.01)

    assert await stage.counter.ask(Add(0)) == 10


async def test_restart_does_nothing_unless_crashed(stage: Stage) -> None:
    """A second restart, or one that comes late, costs no state."""
    assert await stage.counter.ask(Add(5)) == 5

    stage.restart()
    stage.restart()

    assert await stage.counter.ask(Add(1)) == 6
    with pytest.raises(NotFound):
        stage.runtime.restart("nobody")


async def test_timers_die_with_the_instance_and_tasks_do_not(stage: Stage) -> None:
    """A message to self means the instance; I/O under way belongs to the address."""
    gate, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await gate.wait()
        done.set()

    address_context = await _context_of(stage.counter)
    address_context.later(0.01, Add(100))
    address_context.start_task(work(), name="work")
    stage.counter.tell(Crash())
    await stage.crashed()
    stage.restart()

    await asyncio.sleep(0.03)
    gate.set()
    async with asyncio.timeout(5):
        await done.wait()

    assert await stage.counter.ask(Add(1)) == 1


async def _context_of(counter: Ref) -> Any:
    return await counter.actor_ref.proxy().context


# --- starts that fail ------------------------------------------------------------------------


class Stubborn(Actor):
    """Fails to start until it is allowed to."""

    def __init__(self, allowed: list[str], seen: list[str]) -> None:
        super().__init__()
        seen.append("constructed")
        if "construct" not in allowed:
            raise RuntimeError("cannot be constructed")
        self.allowed = allowed

    async def on_start(self) -> None:
        if "start" not in self.allowed:
            raise RuntimeError("cannot be started")

    @handles(Add)
    def add(self, message: Add) -> int:
        return message.n


async def test_a_failing_constructor_and_on_start_are_crashes() -> None:
    """Each counts, and the address waits for the restart, its messages with it."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    allowed: list[str] = []
    seen: list[str] = []
    reports: asyncio.Queue[CrashReport] = asyncio.Queue()
    ref = runtime.spawn("stubborn", lambda: Stubborn(allowed, seen), on_crash=reports.put_nowait)
    waiting = ref.ask(Add(7))

    first = await asyncio.wait_for(reports.get(), 5)
    runtime.restart("stubborn")
    second = await asyncio.wait_for(reports.get(), 5)
    allowed.append("construct")
    runtime.restart("stubborn")
    third = await asyncio.wait_for(reports.get(), 5)
    with pytest.raises(AskTimeout) as not_started:
        await runtime.started("stubborn", timeout_s=0.01)
    allowed.append("start")
    runtime.restart("stubborn")
    await runtime.started("stubborn")

    assert [first.crash_number, second.crash_number, third.crash_number] == [1, 2, 3]
    assert all(report.is_start_failure for report in (first, second, third))
    assert [first.message_type, third.message_type] == ["", ""]
    assert not_started.value.__cause__ is third.exception
    assert seen == ["constructed"] * 4
    assert await waiting == 7
    await runtime.close(1)


async def test_an_actor_that_never_started_is_stopped_without_waiting() -> None:
    """A crashed actor has no instance to stop; who asked it hears ActorDead."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    ref = runtime.spawn("stubborn", lambda: Stubborn([], []))
    waiting = ref.ask(Add(7))
    await asyncio.sleep(0.01)

    async with asyncio.timeout(1):
        await runtime.stop("stubborn", timeout_s=30)

    with pytest.raises(ActorDead):
        await waiting


async def test_an_instant_restart_of_a_failing_start_leaves_the_loop_its_turns() -> None:
    """A supervisor without back-off must not stop the world."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    runtime.spawn(
        "stubborn", lambda: Stubborn([], []), on_crash=lambda _r: runtime.restart("stubborn")
    )

    async with asyncio.timeout(5):
        for _ in range(20):
            await asyncio.sleep(0)

    await runtime.close(1)
    assert runtime.statistics()[0].crashes > 1


async def test_a_factory_must_make_a_new_actor_each_time() -> None:
    """One instance behind two lives would carry its broken state along."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    made: list[Counter] = []
    reports: asyncio.Queue[CrashReport] = asyncio.Queue()

    def make_once() -> Counter:
        if not made:
            made.append(Counter([]))
        return made[0]

    ref = runtime.spawn("counter", make_once, on_crash=reports.put_nowait)
    ref.tell(Crash())
    await asyncio.wait_for(reports.get(), 5)
    runtime.restart("counter")

    report = await asyncio.wait_for(reports.get(), 5)

    assert isinstance(report.exception, TypeError)
    await runtime.close(1)


# --- stop and crash --------------------------------------------------------------------------


async def test_stopping_a_crashed_actor_answers_everyone(stage: Stage) -> None:
    """Neither the redelivery nor the queue is left hanging; on_stop has no instance to run on."""
    crashing, queued = stage.counter.ask(Fail(ValueError("a bug"))), stage.counter.ask(Add(1))
    await stage.crashed()

    await stage.runtime.stop("counter", timeout_s=30)

    for reply in (crashing, queued):
        with pytest.raises(ActorDead):
            await reply
    assert stage.log == ["start"]
    assert stage.state == "stopped"


async def test_a_crash_on_the_way_to_the_stop_ends_it(stage: Stage) -> None:
    """Nobody would restart it any more, so the stop does not wait for that."""
    stage.counter.tell(Fail(ValueError("a bug")))

    async with asyncio.timeout(1):
        await stage.runtime.stop("counter", timeout_s=30)

    assert stage.state == "stopped"


# --- what is not an Exception ----------------------------------------------------------------


async def test_an_inner_cancellation_is_an_ordinary_failure(stage: Stage) -> None:
    """Something awaited was cancelled, not the actor: a crash like any other."""
    bystander = stage.runtime.spawn("bystander", lambda: Counter([]))

    stage.counter.tell(Fail(asyncio.CancelledError(), is_async=True))
    report = await stage.crashed()

    assert isinstance(report.exception, asyncio.CancelledError)
    stage.restart()
    assert await stage.counter.ask(Add(1)) == 1
    assert await bystander.ask(Add(1)) == 1


async def test_a_cancelled_actor_task_ends_that_actor_alone(stage: Stage) -> None:
    """Killed from outside: its asks fail, the others live; pykka would stop them all."""
    bystander = stage.runtime.spawn("bystander", lambda: Counter([]))
    await stage.runtime.started("counter")
    [task] = [each for each in asyncio.all_tasks() if each.get_name() == "actor:counter"]

    task.cancel()
    await asyncio.wait({task})

    assert not stage.counter.is_alive()
    with pytest.raises(ActorDead):
        await stage.counter.ask(Add(1))
    assert await bystander.ask(Add(1)) == 1
    assert stage.reports == []


async def test_any_other_base_exception_is_a_crash_of_that_actor_alone(stage: Stage) -> None:
    """Never pykka's way of stopping every actor of the process."""

    class Odd(BaseException):
        pass

    bystander = stage.runtime.spawn("bystander", lambda: Counter([]))
    stage.counter.tell(Fail(Odd()))

    assert isinstance((await stage.crashed()).exception, Odd)
    assert await bystander.ask(Add(1)) == 1


def test_a_wish_to_exit_reaches_the_process() -> None:
    """SystemExit in a handler ends the loop, as it would anywhere; the asker is not forgotten."""
    asked: list[Any] = []

    async def main() -> None:
        runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
        ref = runtime.spawn("counter", lambda: Counter([]))
        asked.append(ref.ask(Fail(SystemExit(3))))
        await asyncio.sleep(5)

    with pytest.raises(SystemExit):
        asyncio.run(main())

    with pytest.raises(ActorDead):
        asked[0].get(timeout=1)


async def test_a_failing_crash_listener_changes_nothing() -> None:
    """Whoever listens cannot break the address."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    heard = asyncio.Event()

    def listen(_report: CrashReport) -> None:
        heard.set()
        raise RuntimeError("the listener is broken")

    ref = runtime.spawn("counter", lambda: Counter([]), on_crash=listen)
    ref.tell(Crash())
    async with asyncio.timeout(5):
        await heard.wait()
    await asyncio.sleep(0)

    runtime.restart("counter")

    assert await ref.ask(Add(1)) == 1
    await runtime.close(1)


async def test_the_runtime_hears_of_crashes_that_nobody_else_does() -> None:
    """Its own listener serves actors spawned without one."""
    reports: asyncio.Queue[CrashReport] = asyncio.Queue()
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5, on_crash=reports.put_nowait)
    runtime.spawn("counter", lambda: Counter([])).tell(Crash())

    report = await asyncio.wait_for(reports.get(), 5)

    assert report.name == "counter"
    await runtime.close(1)


async def test_the_pykka_failure_hook_is_called(stage: Stage) -> None:
    """`on_failure` runs on the instance that goes, as pykka documents."""
    failures: list[object] = []

    class Hooked(Actor):
        def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
            failures.append(exception_value)

    reports: asyncio.Queue[CrashReport] = asyncio.Queue()
    stage.runtime.spawn("hooked", Hooked, on_crash=reports.put_nowait).tell(Crash())
    report = await asyncio.wait_for(reports.get(), 5)

    assert failures == [report.exception]
