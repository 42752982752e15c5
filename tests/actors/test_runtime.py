"""The engine below the actors: messages in, replies out, one at a time, in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pykka
import pytest

from clarion.actors import watchdog
from clarion.actors.runtime import (
    NO_REPLY,
    Actor,
    CrashReport,
    LoopWatchdog,
    Ref,
    Reply,
    Runtime,
    handles,
)
from clarion.errors import (
    ActorDead,
    ActorError,
    AskTimeout,
    MailboxFull,
    NotFound,
    WouldDeadlock,
)
from clarion.policies.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Note:
    """Intake: is written down; the reply is how many there are by now."""

    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Internal: is written down too."""

    is_intake: ClassVar[bool] = False
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """Runs `function` with the actor inside the handler; its result is the handler's."""

    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Keeps the actor in an async handler until `event` is set."""

    event: asyncio.Event
    result: Any = None


class Scribe(Actor):
    """Writes down what it hears, in order."""

    def __init__(self, notes: list[str] | None = None) -> None:
        super().__init__()
        self.notes: list[str] = [] if notes is None else notes

    def on_stop(self) -> None:
        self.notes.append("stopped")

    @handles(Note, Fact)
    def write(self, message: Note | Fact) -> int:
        self.notes.append(message.text)
        return len(self.notes)

    @handles(Run)
    def run(self, message: Run) -> Any:
        return message.function(self)

    @handles(Wait)
    async def wait(self, message: Wait) -> Any:
        await message.event.wait()
        return message.result


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5, ask_timeout_s=5.0, intake_bound=10)
    yield runtime
    await runtime.close(timeout_s=0.1)


@pytest.fixture
async def scribe(runtime: Runtime) -> Ref:
    return runtime.spawn("scribe", Scribe)


async def in_a_thread(function: Callable[[], Any]) -> Any:
    async with asyncio.timeout(5):
        return await asyncio.to_thread(function)


async def has_begun(runtime: Runtime, name: str) -> None:
    """Wait until an async handler of the actor is waiting for something."""
    async with asyncio.timeout(5):
        while not any(each.name == name and each.age_s for each in runtime.statistics()):
            await asyncio.sleep(0)


# --- tell and ask ----------------------------------------------------------------------------


async def test_an_ask_is_answered_with_what_the_handler_returns(scribe: Ref) -> None:
    """A handler's result is the reply."""
    assert await scribe.ask(Note("a")) == 1


async def test_tells_of_one_sender_are_handled_in_order(scribe: Ref) -> None:
    """First in, first out, per sender and lane."""
    for text in "abcdefg":
        scribe.tell(Note(text))

    assert await scribe.ask(Run(lambda actor: list(actor.notes))) == list("abcdefg")


async def test_an_async_handler_keeps_the_next_message_waiting(scribe: Ref) -> None:
    """One message at a time, even while a handler awaits."""
    gate = asyncio.Event()
    slow, quick = scribe.ask(Wait(gate, "slow")), scribe.ask(Note("a"))
    await asyncio.sleep(0.01)
    assert not quick.done

    gate.set()

    assert await slow == "slow"
    assert await quick == 1


async def test_internal_messages_are_served_before_intake(scribe: Ref) -> None:
    """What settles admitted work goes before new work, in order on its own lane."""
    gate = asyncio.Event()
    scribe.tell(Wait(gate))
    for message in (Note("n1"), Fact("f1"), Note("n2"), Fact("f2")):
        scribe.tell(message)

    gate.set()

    assert await scribe.ask(Run(lambda actor: list(actor.notes))) == ["f1", "f2", "n1", "n2"]


async def test_an_expected_error_is_the_reply_and_no_crash(runtime: Runtime, scribe: Ref) -> None:
    """A ClarionError raised for an ask goes to the asker; the actor lives."""

    def refuse(_actor: Scribe) -> None:
        raise NotFound("note", "x")

    with pytest.raises(NotFound):
        await scribe.ask(Run(refuse))

    assert runtime.statistics()[0].crashes == 0


async def test_an_unknown_message_is_an_error_reply_and_no_crash(
    runtime: Runtime, scribe: Ref
) -> None:
    """Asked, it says what it does not handle; told, it goes on."""
    scribe.tell("what is this")

    with pytest.raises(ActorError, match="scribe does not handle str"):
        await scribe.ask("and this")

    assert await scribe.ask(Note("a")) == 1
    assert runtime.statistics()[0].crashes == 0


async def test_subclasses_inherit_and_override_handlers(runtime: Runtime) -> None:
    """A handler overridden by its name stays the handler."""

    class Loud(Scribe):
        def write(self, message: Note | Fact) -> int:
            return super().write(Note(message.text.upper()))

    loud = runtime.spawn("loud", Loud)
    loud.tell(Note("a"))

    assert await loud.ask(Run(lambda actor: actor.notes)) == ["A"]


def test_two_handlers_for_one_message_are_refused() -> None:
    """Which of them would run is nobody's guess."""
    with pytest.raises(TypeError, match="handles Note twice"):

        class Torn(Actor):
            @handles(Note)
            def one(self, _message: Note) -> None: ...

            @handles(Note)
            def two(self, _message: Note) -> None: ...


async def test_an_actor_is_made_by_the_runtime_only() -> None:
    """An actor without an address could not be reached."""
    with pytest.raises(RuntimeError, match=r"Runtime\.spawn"):
        Scribe()


async def test_names_are_unique_until_the_stop(runtime: Runtime, scribe: Ref) -> None:
    """A name leads to one actor; a stopped one gives it up."""
    with pytest.raises(ValueError, match="'scribe'"):
        runtime.spawn("scribe", Scribe)

    await runtime.stop("scribe", 1)
    again = runtime.spawn("scribe", Scribe)

    assert await again.ask(Note("a")) == 1
    assert runtime.ref("scribe") is again


async def test_an_unknown_name_is_not_found(runtime: Runtime) -> None:
    """Asking for a reference says which name is unknown."""
    with pytest.raises(NotFound, match="'nobody'"):
        runtime.ref("nobody")


async def test_an_actor_knows_its_name_context_and_reference(runtime: Runtime) -> None:
    """They are there from the constructor on, so on_start can use them."""
    seen: list[object] = []

    class Curious(Scribe):
        def __init__(self) -> None:
            super().__init__()
            seen.extend([self.name, self.context.ref, self.context.ref_of("curious")])

    ref = runtime.spawn("curious", Curious)

    assert seen == ["curious", ref, ref]


async def test_a_busy_actor_leaves_others_their_turn(runtime: Runtime, scribe: Ref) -> None:
    """An actor that always has something to do yields to the loop now and then."""
    stop = False

    def again(actor: Scribe) -> None:
        if not stop:
            actor.context.ref.tell(Run(again))

    scribe.tell(Run(again))

    async with asyncio.timeout(5):
        for _ in range(10):
            await asyncio.sleep(0)
    stop = True
    assert runtime.statistics()[0].handled > 64


# --- deferred replies ------------------------------------------------------------------------


async def test_a_returned_reply_is_deferred_while_the_mailbox_goes_on(scribe: Ref) -> None:
    """A handler may promise an answer and take the next message."""
    promise = Reply()
    deferred = scribe.ask(Run(lambda _actor: promise))
    assert await scribe.ask(Note("meanwhile")) == 1
    assert not deferred.done

    promise.set("at last")

    assert await deferred == "at last"


async def test_a_deferred_reply_may_fail(scribe: Ref) -> None:
    """The error of the promise is the error of the ask."""
    promise = Reply()
    deferred = scribe.ask(Run(lambda _actor: promise))

    promise.set_exception(NotFound("note", "x"))

    with pytest.raises(NotFound):
        await deferred


async def test_a_plain_pykka_future_may_be_returned(scribe: Ref) -> None:
    """Its blocking wait is kept off the loop."""
    future: pykka.ThreadingFuture[str] = pykka.ThreadingFuture()
    deferred = scribe.ask(Run(lambda _actor: future))
    assert await scribe.ask(Note("meanwhile")) == 1

    future.set("from pykka")

    assert await deferred == "from pykka"


async def test_the_reply_handle_may_be_answered_by_another_actor(
    runtime: Runtime, scribe: Ref
) -> None:
    """A handler passes `self.reply` on inside a message and returns NO_REPLY."""
    runtime.spawn("other", Scribe)

    def pass_on(actor: Scribe) -> object:
        handle = actor.reply
        assert handle is not None and handle is actor.context.reply
        actor.context.ref_of("other").tell(Run(lambda _other: handle.set("from the other")))
        return NO_REPLY

    assert await scribe.ask(Run(pass_on)) == "from the other"


async def test_a_tell_has_no_reply_handle(scribe: Ref) -> None:
    """`self.reply` is None for a tell, also right after an ask."""
    seen: list[Reply | None] = []
    await scribe.ask(Note("a"))

    scribe.tell(Run(lambda actor: seen.append(actor.reply)))

    await scribe.ask(Note("b"))
    assert seen == [None]


# --- deadlines -------------------------------------------------------------------------------


async def test_an_unanswered_ask_times_out_and_says_who_was_asked(scribe: Ref) -> None:
    """Nobody waits for ever; the error names the actor, the message and the limit."""
    with pytest.raises(AskTimeout, match=r"scribe did not answer Run within 0\.01 s"):
        await scribe.ask(Run(lambda _actor: NO_REPLY), timeout_s=0.01)


async def test_the_runtime_gives_the_default_deadline() -> None:
    """An ask without a limit of its own has the runtime's."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5, ask_timeout_s=0.01)
    scribe = runtime.spawn("scribe", Scribe)

    with pytest.raises(AskTimeout):
        await scribe.ask(Run(lambda _actor: NO_REPLY))

    await runtime.close(1)


async def test_asks_with_one_limit_expire_each_in_its_time(scribe: Ref) -> None:
    """One timer serves all asks of a limit, answered and unanswered ones."""
    replies = [scribe.ask(Run(lambda _actor: NO_REPLY), timeout_s=0.02) for _ in range(3)]
    replies.insert(1, scribe.ask(Note("a"), timeout_s=0.02))
    await asyncio.sleep(0.005)
    replies.append(scribe.ask(Run(lambda _actor: NO_REPLY), timeout_s=0.02))

    results = await asyncio.gather(*replies, return_exceptions=True)

    assert results[1] == 1
    assert [type(each).__mro__[1] for each in results if each != 1] == [AskTimeout] * 4


async def test_an_expired_ask_is_dropped_unread(scribe: Ref) -> None:
    """Work that nobody waits for any more is not done."""
    gate = asyncio.Event()
    scribe.tell(Wait(gate))

    with pytest.raises(AskTimeout):
        await scribe.ask(Note("too late"), timeout_s=0.01)
    gate.set()

    assert await scribe.ask(Run(lambda actor: list(actor.notes))) == []


async def test_an_abandoned_ask_is_dropped_unread(scribe: Ref) -> None:
    """Cancelling the last waiter withdraws the question."""
    gate = asyncio.Event()
    scribe.tell(Wait(gate))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await scribe.ask(Note("given up"))
    gate.set()

    assert await scribe.ask(Run(lambda actor: list(actor.notes))) == []


async def test_a_late_answer_is_dropped_silently() -> None:
    """Whoever answers cannot know that the asker gave up."""
    reply = Reply(timeout_s=0.01)
    with pytest.raises(AskTimeout):
        await reply

    reply.set("late")
    reply.set_exception(ValueError("later still"))

    with pytest.raises(AskTimeout):
        await reply


async def test_one_of_two_waiters_may_leave() -> None:
    """Cancelling one waiter takes nothing from the other."""
    reply = Reply()

    async def wait() -> Any:
        return await reply

    leaving, staying = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)

    leaving.cancel()
    await asyncio.sleep(0)
    reply.set("here")

    assert await staying == "here"
    assert leaving.cancelled() or leaving.cancelling()


async def test_mutual_asks_die_out(runtime: Runtime, scribe: Ref) -> None:
    """The deadline travels with the question: two actors that ask each other come to an end."""
    other = runtime.spawn("other", Scribe)
    runs: list[str] = []

    async def ask_back(actor: Scribe) -> Any:
        runs.append(actor.name)
        peer = other if actor.name == "scribe" else scribe
        return await peer.ask(Run(ask_back), timeout_s=0.05)

    with pytest.raises(AskTimeout):
        await scribe.ask(Run(ask_back), timeout_s=0.05)
    await asyncio.sleep(0.15)

    assert runs == ["scribe", "other"]
    assert await other.ask(Note("alive")) == 1


async def test_an_ask_inside_a_handler_has_no_more_time_than_its_own_asker(
    runtime: Runtime, scribe: Ref
) -> None:
    """min(own limit, what remains), as for every wait."""
    other = runtime.spawn("other", Scribe)
    deadlines: list[float | None] = []

    def pass_on(actor: Scribe) -> object:
        assert actor.reply is not None
        inner = other.ask(Run(lambda _other: NO_REPLY), timeout_s=60)
        deadlines.extend([actor.reply.deadline, inner.deadline])
        return inner

    with pytest.raises(AskTimeout):
        await scribe.ask(Run(pass_on), timeout_s=0.02)

    assert deadlines[0] is not None
    assert deadlines[1] == pytest.approx(deadlines[0])


# --- bounds ----------------------------------------------------------------------------------


async def test_intake_beyond_the_bound_is_refused(runtime: Runtime, scribe: Ref) -> None:
    """A tell raises, an ask fails as its reply; what was admitted is handled."""
    for number in range(10):
        scribe.tell(Note(str(number)))

    with pytest.raises(MailboxFull, match="scribe is full"):
        scribe.tell(Note("one too many"))
    refused = scribe.ask(Note("this too"))

    with pytest.raises(MailboxFull):
        await refused
    await asyncio.sleep(0)
    assert await scribe.ask(Note("again")) == 11


async def test_internal_messages_pass_the_bound(scribe: Ref) -> None:
    """Settling admitted work is never refused."""
    for number in range(10):
        scribe.tell(Note(str(number)))

    for number in range(50):
        scribe.tell(Fact(str(number)))
    await asyncio.sleep(0.01)

    assert await scribe.ask(Note("last")) == 61


async def test_the_bound_holds_for_threads_too(scribe: Ref) -> None:
    """What waits to be fetched from other threads counts."""

    def flood() -> int:
        for number in range(100):
            try:
                scribe.tell(Note("x"))
            except MailboxFull:
                return number
        return -1

    thread_result: list[int] = []
    thread = threading.Thread(target=lambda: thread_result.append(flood()))
    thread.start()
    thread.join(5)  # the loop does not turn meanwhile, so nothing is taken out

    assert thread_result == [10]


# --- threads ---------------------------------------------------------------------------------


async def test_a_thread_may_ask_and_get(scribe: Ref) -> None:
    """The in-process API from any thread."""
    assert await in_a_thread(lambda: scribe.ask(Note("a")).get(timeout=1)) == 1


async def test_tells_of_a_thread_keep_their_order(scribe: Ref) -> None:
    """One sender, one lane, one order; however the fetches are coalesced."""

    def send() -> None:
        for number in range(2000):
            scribe.tell(Fact(str(number)))

    await in_a_thread(send)

    assert await scribe.ask(Run(lambda actor: actor.notes == [str(n) for n in range(2000)]))


async def test_many_threads_lose_nothing(scribe: Ref) -> None:
    """Every tell arrives, whatever the interleaving."""

    def send() -> None:
        for _ in range(500):
            scribe.tell(Fact("x"))

    await asyncio.gather(*(in_a_thread(send) for _ in range(4)))

    assert await scribe.ask(Note("last")) == 2001


async def test_get_on_the_loop_raises_instead_of_deadlocking(scribe: Ref) -> None:
    """The loop would wait for itself; once done, get is fine anywhere."""
    reply = scribe.ask(Note("a"))

    with pytest.raises(WouldDeadlock):
        reply.get(timeout=1)

    await reply
    assert reply.get() == 1


async def test_a_short_get_may_be_tried_again(scribe: Ref) -> None:
    """A time limit of one get is not the deadline of the ask."""
    gate = asyncio.Event()
    scribe.tell(Wait(gate))
    reply = scribe.ask(Note("a"))

    def get_briefly() -> None:
        reply.get(timeout=0.01)

    with pytest.raises(AskTimeout):
        await in_a_thread(get_briefly)
    assert not reply.done
    gate.set()

    assert await in_a_thread(lambda: reply.get(timeout=1)) == 1


async def test_get_without_an_answer_ends_with_the_deadline(scribe: Ref) -> None:
    """A thread is not kept for ever either, and its question is withdrawn."""
    gate = asyncio.Event()
    scribe.tell(Wait(gate))

    def ask() -> None:
        scribe.ask(Note("a"), timeout_s=0.01).get()

    with pytest.raises(AskTimeout):
        await in_a_thread(ask)
    gate.set()

    assert await scribe.ask(Run(lambda actor: list(actor.notes))) == []


async def test_a_reply_may_be_awaited_on_another_loop(scribe: Ref) -> None:
    """A reply belongs to no loop: it wakes its waiter where that one waits."""

    async def ask() -> Any:
        return await scribe.ask(Note("a"))

    assert await in_a_thread(lambda: asyncio.run(ask())) == 1


def test_an_ask_after_the_loop_has_gone_fails_at_once() -> None:
    """No thread hangs on an engine that has ended."""
    refs: list[Ref] = []

    async def main() -> None:
        runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
        refs.append(runtime.spawn("scribe", Scribe))
        await runtime.started("scribe")

    asyncio.run(main())

    with pytest.raises(ActorDead):
        refs[0].ask(Note("a")).get(timeout=1)
    assert refs[0].actor_ref not in pykka.ActorRegistry.get_all()


# --- stop ------------------------------------------------------------------------------------


async def test_messages_before_the_stop_are_handled_first(runtime: Runtime) -> None:
    """Stopping loses nothing that was sent before, and ends with on_stop."""
    notes: list[str] = []
    scribe = runtime.spawn("scribe", lambda: Scribe(notes))
    for text in "abc":
        scribe.tell(Note(text))

    await runtime.stop("scribe", 1)

    assert notes == ["a", "b", "c", "stopped"]
    assert runtime.statistics()[0].state == "stopped"


async def test_a_stop_passes_a_full_mailbox(runtime: Runtime, scribe: Ref) -> None:
    """The bound is for intake; stopping is always possible."""
    for number in range(10):
        scribe.tell(Note(str(number)))

    await runtime.stop("scribe", 1)

    assert not scribe.is_alive()


async def test_a_stopped_actor_is_dead_to_tells_and_asks(runtime: Runtime, scribe: Ref) -> None:
    """A tell raises, an ask fails as its reply, at once."""
    await runtime.stop("scribe", 1)

    with pytest.raises(ActorDead):
        scribe.tell(Note("a"))
    with pytest.raises(ActorDead):
        await scribe.ask(Note("a"))


async def test_asks_that_race_with_the_stop_never_hang(runtime: Runtime, scribe: Ref) -> None:
    """What arrives behind the stop is answered with ActorDead."""
    gate = asyncio.Event()
    scribe.tell(Wait(gate))
    stopping = asyncio.create_task(runtime.stop("scribe", 1))
    await has_begun(runtime, "scribe")
    behind = scribe.ask(Note("behind"))

    gate.set()

    with pytest.raises(ActorDead):
        await behind
    await stopping


async def test_asks_from_threads_that_race_with_the_stop_never_hang(
    runtime: Runtime, scribe: Ref
) -> None:
    """Wherever the message is when the actor stops, the asker hears of it."""

    def ask_until_dead() -> int:
        count = 0
        while True:
            try:
                scribe.ask(Fact("x"), timeout_s=30).get()
            except ActorDead:
                return count
            count += 1

    askers = [asyncio.create_task(in_a_thread(ask_until_dead)) for _ in range(3)]
    await asyncio.sleep(0.02)

    await runtime.stop("scribe", 1)

    await asyncio.gather(*askers)


async def test_a_handler_that_does_not_end_is_cancelled_at_the_deadline(
    runtime: Runtime, scribe: Ref
) -> None:
    """Stopping is bounded; the ask in hand fails."""
    reply = scribe.ask(Wait(asyncio.Event()))

    await runtime.stop("scribe", 0.01)

    with pytest.raises(ActorDead):
        await reply
    assert not scribe.is_alive()


async def test_a_failing_on_stop_stops_all_the_same(runtime: Runtime) -> None:
    """As pykka does: logged, and the actor is gone."""

    class Grumpy(Actor):
        def on_stop(self) -> None:
            raise RuntimeError("no")

    ref = runtime.spawn("grumpy", Grumpy)
    await runtime.started("grumpy")

    await runtime.stop("grumpy", 1)

    assert not ref.is_alive()


async def test_close_stops_what_remains_last_spawned_first() -> None:
    """Later actors may depend on earlier ones."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    order: list[str] = []

    class Orderly(Actor):
        async def on_stop(self) -> None:
            order.append(self.name)

    for name in ("a", "b", "c"):
        runtime.spawn(name, Orderly)

    await runtime.close(1)

    assert order == ["c", "b", "a"]


# --- tasks and timers ------------------------------------------------------------------------


async def test_later_tells_self(scribe: Ref) -> None:
    """A timer is a message to self, unless it is cancelled."""
    told = asyncio.Event()

    def set_timers(actor: Scribe) -> None:
        actor.context.later(0.0, Run(lambda _actor: told.set()))
        actor.context.later(0.0, Note("cancelled")).cancel()

    await scribe.ask(Run(set_timers))

    async with asyncio.timeout(5):
        await told.wait()
    assert await scribe.ask(Run(lambda actor: list(actor.notes))) == []


async def test_tasks_are_kept_and_named(scribe: Ref) -> None:
    """A task of the address is strongly held until it ends."""
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    task = await scribe.ask(Run(lambda actor: (actor.context.start_task(work(), name="work"),)))
    names = await scribe.ask(Run(lambda actor: [t.get_name() for t in actor.context.tasks]))
    assert names == ["work"]

    gate.set()
    await task[0]

    assert await scribe.ask(Run(lambda actor: len(actor.context.tasks))) == 0


async def test_a_failing_task_is_no_crash(runtime: Runtime, scribe: Ref) -> None:
    """It is logged; actors turn failures into messages themselves."""

    async def work() -> None:
        raise RuntimeError("a bug")

    task = (await scribe.ask(Run(lambda a: (a.context.start_task(work(), name="w"),))))[0]
    await asyncio.wait({task})

    assert await scribe.ask(Note("alive")) == 1


async def test_the_stop_waits_for_tasks_and_then_cancels_them(runtime: Runtime) -> None:
    """Long I/O gets the time that the stop has, not more."""
    ends: list[str] = []

    async def work(seconds: float, name: str) -> None:
        try:
            await asyncio.sleep(seconds)
            ends.append(f"{name} ended")
        except asyncio.CancelledError:
            ends.append(f"{name} cancelled")
            raise

    def start(actor: Scribe) -> None:
        actor.context.start_task(work(0.0, "quick"), name="quick")
        actor.context.start_task(work(60.0, "slow"), name="slow")

    scribe = runtime.spawn("scribe", Scribe)
    await scribe.ask(Run(start))

    await runtime.stop("scribe", 0.05)

    assert ends == ["quick ended", "slow cancelled"]


# --- pykka's own contract --------------------------------------------------------------------


async def test_the_pykka_reference_works_underneath(scribe: Ref) -> None:
    """pykka's ActorRef: alive, registered, tells and asks."""
    actor_ref = scribe.actor_ref
    assert actor_ref.is_alive()
    assert pykka.ActorRegistry.get_by_urn(actor_ref.actor_urn) is actor_ref

    actor_ref.tell(Note("a"))

    assert await actor_ref.ask(Note("b"), block=False) == 2
    assert await in_a_thread(lambda: actor_ref.ask(Note("c"), timeout=1)) == 3


async def test_pykka_stop_handles_what_came_before_and_refuses_what_comes_after(
    scribe: Ref,
) -> None:
    """The documented order: before is handled, after gets ActorDeadError; then unregistered."""
    actor_ref = scribe.actor_ref
    before = actor_ref.ask(Note("before"), block=False)
    stop = actor_ref.stop(block=False)
    after = actor_ref.ask(Note("after"), block=False)

    assert await stop is True
    assert await before == 1
    with pytest.raises(pykka.ActorDeadError):
        await after
    with pytest.raises(pykka.ActorDeadError):
        actor_ref.tell(Note("later"))
    assert await actor_ref.stop(block=False) is False
    assert not actor_ref.is_alive()
    assert actor_ref not in pykka.ActorRegistry.get_all()


async def test_an_actor_may_stop_itself_the_pykka_way(runtime: Runtime, scribe: Ref) -> None:
    """`self.stop()` is a message like any other."""
    await scribe.ask(Run(lambda actor: actor.stop()))

    async with asyncio.timeout(5):
        while scribe.is_alive():
            await asyncio.sleep(0)
    assert runtime.statistics()[0].state == "stopped"


async def test_pykka_proxies_work_from_threads(scribe: Ref) -> None:
    """Attributes and methods through pykka's proxy."""

    def use_proxy() -> tuple[Any, Any]:
        proxy = scribe.actor_ref.proxy()
        return proxy.write(Note("a")).get(timeout=1), proxy.notes.get(timeout=1)

    assert await in_a_thread(use_proxy) == (1, ["a"])


async def test_composed_pykka_futures_can_be_awaited(scribe: Ref) -> None:
    """map and join of pykka, without blocking the loop."""
    first = scribe.actor_ref.ask(Note("a"), block=False)
    second = scribe.actor_ref.ask(Note("b"), block=False)

    assert await first.map(lambda count: count * 10) == 10
    assert await first.join(second) == [1, 2]


async def test_a_pykka_timeout_is_an_ask_timeout(scribe: Ref) -> None:
    """Both worlds catch their own."""
    scribe.tell(Wait(asyncio.Event()))

    def ask() -> None:
        scribe.actor_ref.ask(Note("a"), timeout=0.01)

    with pytest.raises(AskTimeout) as caught:
        await in_a_thread(ask)
    assert isinstance(caught.value, pykka.Timeout)


# --- how they stand --------------------------------------------------------------------------


async def test_statistics_show_depth_state_and_what_is_in_hand(
    runtime: Runtime, scribe: Ref
) -> None:
    """One line per actor, for /health and the metrics."""
    await scribe.ask(Note("a"))
    gate = asyncio.Event()
    scribe.tell(Wait(gate))
    scribe.tell(Note("b"))
    await has_begun(runtime, "scribe")

    [standing] = runtime.statistics()

    assert (standing.name, standing.state, standing.mailbox) == ("scribe", "running", 1)
    assert (standing.handled, standing.crashes, standing.message_type) == (2, 0, "Wait")
    assert standing.age_s is not None
    gate.set()
    await scribe.ask(Note("c"))
    assert runtime.statistics()[0].age_s is None


async def test_a_hung_actor_is_seen_and_can_be_interrupted() -> None:
    """The same message in hand for too long; an interrupt turns it into a crash."""
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5, hung_after_s=0.0)
    crashes: list[CrashReport] = []
    scribe = runtime.spawn("scribe", Scribe, on_crash=crashes.append)
    await runtime.started("scribe")
    scribe.tell(Wait(asyncio.Event()))
    await has_begun(runtime, "scribe")

    assert [each.name for each in runtime.hung()] == ["scribe"]
    runtime.interrupt("scribe")
    async with asyncio.timeout(5):
        while not crashes:
            await asyncio.sleep(0)

    assert crashes[0].message_type == "Wait"
    assert repr(crashes[0].exception) == "CancelledError('interrupted')"
    assert runtime.hung() == []
    await runtime.close(1)


async def test_an_interrupt_that_a_handler_survives_is_forgotten(
    runtime: Runtime, scribe: Ref
) -> None:
    """Who catches the cancellation goes on, and a later one still means what it says."""

    async def shrug(_actor: Scribe) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "survived"
        return "not interrupted"

    reply = scribe.ask(Run(shrug))
    await has_begun(runtime, "scribe")
    runtime.interrupt("scribe")
    assert await reply == "survived"

    reply = scribe.ask(Run(shrug))
    await has_begun(runtime, "scribe")
    runtime.interrupt("scribe")

    assert await reply == "survived"
    assert runtime.statistics()[0].crashes == 0


class Recorder:
    """Stands in for a module's logger; tells a thread when something was logged."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.has_logged = threading.Event()

    def error(self, event: str, **fields: Any) -> None:
        self.entries.append((event, fields))
        self.has_logged.set()


async def test_a_blocked_loop_is_seen_by_the_watchdog(
    runtime: Runtime, scribe: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it lasts, the log names the actor, the message and the place; the lag is measured."""
    recorder = Recorder()
    monkeypatch.setattr(watchdog, "log", recorder)
    runtime.watch_loop(threshold_s=0.02)

    def block(_actor: Scribe) -> float:
        assert recorder.has_logged.wait(5)
        return runtime.loop_lag_s

    lag_s = await scribe.ask(Run(block))

    [(event, fields)] = recorder.entries
    assert (event, fields["by"]) == ("event_loop_blocked", "scribe handling Run")
    assert "in block" in fields["stack"]
    assert lag_s >= 0.02


async def test_the_watchdog_ends_with_the_runtime(runtime: Runtime) -> None:
    """No thread is left behind."""
    runtime.watch_loop(threshold_s=0.02)
    assert any(isinstance(each, LoopWatchdog) for each in threading.enumerate())

    await runtime.close(1)

    assert not any(isinstance(each, LoopWatchdog) for each in threading.enumerate())


async def test_without_a_watchdog_there_is_no_lag(runtime: Runtime) -> None:
    """Nothing is measured, so nothing is claimed."""
    assert runtime.loop_lag_s == 0.0


# --- loops -----------------------------------------------------------------------------------


async def _talk() -> list[Any]:
    runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    scribe = runtime.spawn("scribe", Scribe)
    scribe.tell(Note("a"))
    answers = [await scribe.ask(Note("b"))]
    answers.append(await in_a_thread(lambda: scribe.ask(Note("c")).get(timeout=5)))
    try:
        await scribe.ask(Run(lambda _actor: NO_REPLY), timeout_s=0.01)
    except AskTimeout:
        answers.append("timeout")
    await runtime.close(1)
    return answers


def test_uvloop_will_do() -> None:
    """The loop of production."""
    uvloop = pytest.importorskip("uvloop")

    assert uvloop.run(_talk()) == [2, 3, "timeout"]


def test_a_thread_may_ask_after_the_loop_was_idle() -> None:
    """uvloop's clock stands still while it sleeps: a thread's deadline must not start from it."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> Any:
        runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
        scribe = runtime.spawn("scribe", Scribe)
        await runtime.started("scribe")

        def ask_late() -> Any:
            threading.Event().wait(0.2)
            return scribe.ask(Note("a"), timeout_s=0.1).get()

        answer = await asyncio.get_running_loop().run_in_executor(None, ask_late)
        await runtime.close(1)
        return answer

    assert uvloop.run(main()) == 1


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def test_virtual_time_will_do() -> None:
    """Timers and deadlines are the loop's: an hour passes in no time, without any thread."""

    async def main() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        runtime = Runtime(clock=SystemClock(), rng=lambda: 0.5)
        scribe = runtime.spawn("scribe", Scribe)
        await scribe.ask(Run(lambda actor: actor.context.later(3600.0, Note("later")) and None))
        with pytest.raises(AskTimeout):
            await scribe.ask(Run(lambda _actor: NO_REPLY), timeout_s=4000.0)
        notes = await scribe.ask(Run(lambda actor: list(actor.notes)))
        took_s = loop.time()
        await runtime.close(1)
        return notes, took_s

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        notes, took_s = runner.run(main())

    assert notes == ["later"]
    assert took_s == pytest.approx(4000.0, abs=0.1)
