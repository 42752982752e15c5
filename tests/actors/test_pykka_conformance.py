"""What pykka documents, on pykka's own engine and on ours; and where ours differs, on purpose.

Each test runs twice, on `pykka.ThreadingActor` and on `clarion.actors.runtime`, through pykka's own
references, proxies, futures and registry. The second half holds what differs, as docs/pykka.md
lists it: each test there names both answers.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import re
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pykka
import pytest

from clarion.actors.mailbox import Mailbox
from clarion.actors.runtime import Actor, Reply, Runtime, handles
from clarion.errors import ClarionError
from clarion.policies.clock import SystemClock

BOUND_S = 5.0
SHORT_S = 0.01
"""For what is to run out."""


@dataclass(frozen=True, slots=True)
class Say:
    """A message for `receive`."""

    value: Any


class Body:
    """What an actor of a test does, on either engine."""

    def receive(self, value: Any) -> Any:
        """Answer a `Say`: what a function makes of the actor, else the value itself."""
        return value(self) if callable(value) else value


class Engine(Protocol):
    """How a test makes actors and futures."""

    name: str
    future: type[Any]

    def start(self, body: type[Body], *args: Any) -> pykka.ActorRef[Any]:
        """Start an actor with this body."""
        ...


class PykkaEngine:
    """A thread for each actor."""

    name = "pykka"
    future = pykka.ThreadingFuture

    def start(self, body: type[Body], *args: Any) -> pykka.ActorRef[Any]:
        def on_receive(actor: Any, message: Any) -> Any:
            if type(message) is Say:
                return actor.receive(message.value)
            return pykka.ThreadingActor.on_receive(actor, message)

        made = type(body.__name__, (body, pykka.ThreadingActor), {"on_receive": on_receive})
        return made.start(*args)


class ClarionEngine:
    """One loop, in a thread of its own; a crashed actor is restarted at once, as by a parent."""

    name = "clarion"
    future = Reply

    def __init__(self) -> None:
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.runtime = Runtime(
            clock=SystemClock(),
            rng=lambda: 0.5,
            on_crash=lambda report: self.runtime.restart(report.name),
        )

    def start(self, body: type[Body], *args: Any) -> pykka.ActorRef[Any]:
        @handles(Say)
        def on_say(actor: Any, message: Say) -> Any:
            return actor.receive(message.value)

        made = type(body.__name__, (body, Actor), {"on_say": on_say})
        name = f"{body.__name__}-{next(self._numbers)}"

        async def spawn() -> pykka.ActorRef[Any]:
            return self.runtime.spawn(name, lambda: made(*args)).actor_ref

        return self.run(spawn())

    def run(self, doing: Coroutine[Any, Any, Any]) -> Any:
        """Run on the loop of the actors."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(BOUND_S)

    def stop(self) -> None:
        """Stop every actor, and the loop."""
        self.run(self.runtime.close(BOUND_S))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND_S)
        self._loop.close()


@pytest.fixture(params=["pykka", "clarion"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn; no actor outlives its test."""
    if request.param == "pykka":
        yield PykkaEngine()
        pykka.ActorRegistry.stop_all(timeout=BOUND_S)
    else:
        clarion = ClarionEngine()
        yield clarion
        clarion.stop()
    assert pykka.ActorRegistry.get_all() == []


@pytest.fixture
def echo(engine: Engine) -> pykka.ActorRef[Any]:
    """An actor that answers what it is told."""
    return engine.start(Body)


class Gate:
    """Holds an actor in a handler until the test lets it go on."""

    def __init__(self) -> None:
        self.entered, self._open = threading.Event(), threading.Event()

    def hold(self, _actor: Any) -> None:
        """Wait, in the actor."""
        self.entered.set()
        assert self._open.wait(BOUND_S)

    def close(self, ref: pykka.ActorRef[Any]) -> None:
        """Have an actor wait, and be sure that it does."""
        ref.tell(Say(self.hold))
        assert self.entered.wait(BOUND_S)

    def open(self) -> None:
        """Let it go on."""
        self._open.set()


# --- tell and ask ----------------------------------------------------------------------------


def test_an_ask_gives_what_the_handler_returns(echo):
    """Blocking by default."""
    assert echo.ask(Say("a")) == "a"


def test_an_ask_that_does_not_block_gives_a_future(echo):
    """Of pykka's own kind."""
    future = echo.ask(Say("a"), block=False)

    assert isinstance(future, pykka.Future)
    assert future.get(timeout=BOUND_S) == "a"


def test_a_tell_gives_nothing_and_is_handled(echo):
    """Fire and forget."""
    heard: queue.Queue[str] = queue.Queue()

    assert echo.tell(Say(lambda _actor: heard.put("a"))) is None

    assert heard.get(timeout=BOUND_S) == "a"


def test_messages_are_handled_one_at_a_time_in_their_order(echo):
    """Tells and asks of one sender share one queue."""
    heard: list[int] = []
    for number in range(100):
        echo.tell(Say(lambda _actor, number=number: heard.append(number)))

    assert echo.ask(Say(lambda _actor: list(heard))) == list(range(100))


def test_an_exception_in_an_ask_is_raised_for_the_asker(echo):
    """The very same one."""
    error = ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        echo.ask(Say(raising(error)), timeout=BOUND_S)

    assert caught.value is error


def test_an_actor_goes_on_after_the_exception_of_an_ask(echo):
    """It is alive, registered, and answers."""
    with pytest.raises(ZeroDivisionError):
        echo.ask(Say(lambda _actor: 1 // 0), timeout=BOUND_S)

    assert echo.is_alive()
    assert echo in pykka.ActorRegistry.get_all()
    assert echo.ask(Say("a")) == "a"


def test_an_ask_that_takes_too_long_times_out(echo):
    """pykka.Timeout, on both; and the actor goes on."""
    gate = Gate()
    gate.close(echo)

    with pytest.raises(pykka.Timeout):
        echo.ask(Say("a"), timeout=SHORT_S)

    gate.open()
    assert echo.ask(Say("b")) == "b"


def test_actors_ask_each_other_by_futures(engine):
    """A future may be handed on, and waited for by whoever needs it."""
    one, other = engine.start(Body), engine.start(Body)

    future = one.ask(Say(lambda _actor: [other.ask(Say("from the other"), block=False)]))[0]

    assert future.get(timeout=BOUND_S) == "from the other"


def raising(error: BaseException) -> Callable[[Any], None]:
    def receive(_actor: Any) -> None:
        raise error

    return receive


# --- life and death --------------------------------------------------------------------------


class Diary(Body):
    """Writes down its hooks."""

    def __init__(self, diary: list[Any], fails_in: str = "") -> None:
        super().__init__()
        self.diary = diary
        self._fails_in = fails_in
        diary.append(("made", self.actor_urn, self.actor_ref.is_alive()))

    def on_start(self) -> None:
        self._write("on_start")

    def on_stop(self) -> None:
        self._write("on_stop")

    def on_failure(self, kind, value, _traceback) -> None:
        self.diary.append(("on_failure", kind, str(value)))

    def _write(self, hook: str) -> None:
        is_registered = self.actor_ref in pykka.ActorRegistry.get_all()
        self.diary.append((hook, self.actor_ref.is_alive(), is_registered))
        if hook == self._fails_in:
            raise RuntimeError(hook)


def test_an_actor_is_made_started_and_stopped_with_its_hooks(engine):
    """It is registered before on_start, and neither registered nor alive in on_stop."""
    diary: list[Any] = []
    ref = engine.start(Diary, diary)
    ref.ask(Say(None))

    assert ref.stop(timeout=BOUND_S) is True

    assert diary == [
        ("made", ref.actor_urn, True), ("on_start", True, True), ("on_stop", False, False),
    ]  # fmt: skip


def test_what_was_sent_before_a_stop_is_handled_and_what_came_after_is_not(echo):
    """The latter is told ActorDeadError."""
    gate, heard = Gate(), []
    gate.close(echo)
    echo.tell(Say(lambda _actor: heard.append("told before")))
    before = echo.ask(Say("asked before"), block=False)
    stopped = echo.stop(block=False)
    echo.tell(Say(lambda _actor: heard.append("told after")))
    after = echo.ask(Say("asked after"), block=False)

    gate.open()

    assert stopped.get(timeout=BOUND_S) is True
    assert before.get(timeout=BOUND_S) == "asked before"
    with pytest.raises(pykka.ActorDeadError):
        after.get(timeout=BOUND_S)
    assert heard == ["told before"]


def test_a_stopped_actor_is_dead_to_everyone(echo):
    """Tells raise at once, asks in their future, a second stop is False, a proxy is not made."""
    echo.stop(timeout=BOUND_S)

    assert not echo.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        echo.tell(Say("a"))
    asked = echo.ask(Say("a"), block=False)
    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=BOUND_S)
    with pytest.raises(pykka.ActorDeadError):
        echo.proxy()
    assert echo.stop(timeout=BOUND_S) is False


def test_an_actor_is_dead_before_its_inbox_refuses(monkeypatch):
    """A thread between the two gets the answer of a dead actor, and no exception out of `ask`."""
    engine, seen = ClarionEngine(), []
    ref = engine.start(Body)
    close = Mailbox.close

    def look(mailbox: Mailbox) -> None:
        close(mailbox)
        seen.append(attempt(lambda: ref.stop(block=False)))

    monkeypatch.setattr(Mailbox, "close", look)
    ref.stop(timeout=BOUND_S)
    engine.stop()

    assert [each.get(timeout=BOUND_S) for each in seen[:1]] == [False]


def test_every_stop_that_is_under_way_succeeds(echo):
    """ "True if actor is stopped or was being stopped at the time of the call"."""
    gate = Gate()
    gate.close(echo)
    stops = [echo.stop(block=False) for _ in range(3)]

    gate.open()

    assert pykka.get_all(stops, timeout=BOUND_S) == [True, True, True]


def test_an_actor_may_stop_itself(echo):
    """After what it was told before."""
    gate = Gate()
    gate.close(echo)
    echo.tell(Say(lambda actor: actor.stop()))
    last = echo.ask(Say("behind it, before the stop"), block=False)

    gate.open()

    assert last.get(timeout=BOUND_S) == "behind it, before the stop"
    assert echo.actor_stopped.wait(BOUND_S)


def test_an_actor_may_stop_itself_as_it_starts(engine):
    """The hook is no place where that is lost."""

    class Brief(Body):
        def on_start(self) -> None:
            self.stop()

    ref = engine.start(Brief)

    assert ref.actor_stopped.wait(BOUND_S)
    assert ref not in pykka.ActorRegistry.get_all()


def test_a_failing_on_stop_stops_all_the_same(engine):
    """It is logged; who waits for the stop hears of it as of any other."""
    diary: list[Any] = []
    ref = engine.start(Diary, diary, "on_stop")

    assert ref.stop(timeout=BOUND_S) is True

    assert not ref.is_alive()
    assert ref not in pykka.ActorRegistry.get_all()


def test_a_failing_tell_is_told_to_on_failure(engine):
    """With the exception; and on_stop is not called for it."""
    diary: list[Any] = []
    ref = engine.start(Diary, diary)
    failed = threading.Event()

    def fail(actor: Any) -> None:
        actor.on_failure = lambda *found: (Diary.on_failure(actor, *found), failed.set())
        raise LookupError("lost")

    ref.tell(Say(fail))

    assert failed.wait(BOUND_S)
    assert ("on_failure", LookupError, "lost") in diary
    assert not any(entry[0] == "on_stop" for entry in diary)


def test_an_actor_knows_its_urn_and_reference(echo):
    """Inside and outside they are the same."""
    urn, ref = echo.ask(Say(lambda actor: (actor.actor_urn, actor.actor_ref)))

    assert (urn, ref) == (echo.actor_urn, echo)
    assert urn.startswith("urn:uuid:")
    assert echo.actor_urn in str(echo)
    assert "Body" in repr(echo)


# --- the registry ----------------------------------------------------------------------------


class Other(Body):
    """Another class of actors."""


def test_the_registry_finds_actors_by_urn_class_and_name(engine):
    """Subclasses included, stopped ones not."""
    one, other, gone = engine.start(Body), engine.start(Other), engine.start(Other)
    gone.stop(timeout=BOUND_S)

    find = pykka.ActorRegistry
    assert find.get_all() == [one, other]
    assert find.get_by_urn(other.actor_urn) is other
    assert find.get_by_urn(gone.actor_urn) is None
    assert find.get_by_class(Body) == [one, other]
    assert find.get_by_class(Other) == [other]
    assert find.get_by_class_name("Other") == [other]


def test_a_broadcast_reaches_every_actor_of_a_class(engine):
    """Or all of them."""
    heard: queue.Queue[str] = queue.Queue()
    refs = [engine.start(Body), engine.start(Other), engine.start(Other)]
    message = Say(lambda actor: heard.put(type(actor).__name__))

    pykka.ActorRegistry.broadcast(message, Other)
    pykka.ActorRegistry.broadcast(message, "Body")
    pykka.ActorRegistry.broadcast(message)

    for ref in refs:
        ref.ask(Say(None))
    assert sorted(heard.queue) == ["Body"] * 2 + ["Other"] * 4


def test_stop_all_stops_the_last_started_first(engine):
    """LIFO."""
    ended: list[int] = []

    class Numbered(Body):
        def __init__(self, number: int) -> None:
            super().__init__()
            self._number = number

        def on_stop(self) -> None:
            ended.append(self._number)

    for number in range(3):
        engine.start(Numbered, number)

    assert pykka.ActorRegistry.stop_all(timeout=BOUND_S) == [True] * 3
    assert ended == [2, 1, 0]


# --- proxies ---------------------------------------------------------------------------------


class Till(Body):
    """Has attributes and methods."""

    kind = "till"

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._secret = "key"
        self.drawer = pykka.traversable(Drawer())

    @property
    def doubled(self) -> int:
        return 2 * self.total

    def add(self, amount: int, *, times: int = 1) -> int:
        self.total += amount * times
        return self.total

    def fail(self) -> None:
        raise LookupError("empty")


class Drawer:
    """Part of a `Till`."""

    def __init__(self) -> None:
        self.coins = 3

    def count(self) -> int:
        return self.coins


def test_a_proxy_reads_attributes_as_futures(engine):
    """Those of the class, of the instance, and properties; in the actor."""
    proxy = engine.start(Till).proxy()

    assert proxy.kind.get(timeout=BOUND_S) == "till"
    assert proxy.total.get(timeout=BOUND_S) == 0
    assert proxy.doubled.get(timeout=BOUND_S) == 0


def test_a_proxy_calls_methods_in_order(engine):
    """With arguments of both kinds, each a future."""
    proxy = engine.start(Till).proxy()

    futures = [proxy.add(1), proxy.add(2, times=3), proxy.total]

    assert pykka.get_all(futures, timeout=BOUND_S) == [1, 7, 7]


def test_a_proxy_sets_attributes_and_waits_for_it(engine):
    """What was set is there for the next one."""
    ref = engine.start(Till)
    proxy = ref.proxy()

    proxy.total = 50

    assert ref.proxy().doubled.get(timeout=BOUND_S) == 100


def test_a_proxy_raises_what_its_method_raised(engine):
    """In the future; the actor goes on."""
    proxy = engine.start(Till).proxy()

    failed = proxy.fail()
    with pytest.raises(LookupError, match="empty"):
        failed.get(timeout=BOUND_S)

    assert proxy.add(1).get(timeout=BOUND_S) == 1


def test_a_deferred_call_is_a_tell(engine):
    """No future, and it is done in its order."""
    proxy = engine.start(Till).proxy()

    assert proxy.add.defer(5) is None

    assert proxy.total.get(timeout=BOUND_S) == 5


def test_a_proxy_goes_into_what_is_traversable(engine):
    """Attributes and methods of an attribute."""
    proxy = engine.start(Till).proxy()

    proxy.drawer.coins = 8

    assert proxy.drawer.count().get(timeout=BOUND_S) == 8


def test_a_proxy_has_what_the_actor_has_and_no_more(engine):
    """Private attributes are none of anybody's business."""
    proxy = engine.start(Till).proxy()

    assert {"add", "total", "drawer"} <= set(dir(proxy))
    for name in ("nothing", "_secret"):
        with pytest.raises(AttributeError):
            getattr(proxy, name)


def test_proxies_of_one_actor_are_equal(engine):
    """And can be told from those of another."""
    one, other = engine.start(Till), engine.start(Till)

    assert one.proxy() == one.proxy()
    assert hash(one.proxy()) == hash(one.proxy())
    assert one.proxy() != other.proxy()


def test_an_actor_defers_work_to_itself_by_a_proxy(engine):
    """Made in its constructor, kept in a private attribute."""

    class Patient(Till):
        def __init__(self) -> None:
            super().__init__()
            self._later = self.actor_ref.proxy()

        def begin(self) -> Any:
            return [self._later.add(1), self.total]

    later, before = engine.start(Patient).proxy().begin().get(timeout=BOUND_S)

    assert (before, later.get(timeout=BOUND_S)) == (0, 1)


def test_a_proxy_of_a_stopped_actor_is_dead(engine):
    """As its reference is."""
    ref = engine.start(Till)
    proxy = ref.proxy()
    ref.stop(timeout=BOUND_S)

    asked = proxy.add(1)

    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=BOUND_S)


# --- futures ---------------------------------------------------------------------------------


def test_a_future_gives_its_value_again_and_again(engine):
    """From any thread."""
    future = engine.future()
    threading.Thread(target=future.set, args=("a",)).start()

    assert [future.get(timeout=BOUND_S) for _ in range(3)] == ["a"] * 3


def test_a_future_without_a_value_has_none(engine):
    """`set()` alone."""
    future = engine.future()
    future.set()

    assert future.get(timeout=BOUND_S) is None


def test_a_future_times_out_and_may_be_tried_again(engine):
    """A wait that ends early costs the value nothing."""
    future = engine.future()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=SHORT_S)

    future.set("late")

    assert future.get(timeout=BOUND_S) == "late"


@pytest.mark.parametrize("way", ["current", "triple", "class and traceback"])
def test_a_future_takes_an_exception_in_every_way_of_pykka(engine, way):
    """The current one, an `exc_info`, or one whose instance is still to be made."""
    future = engine.future()
    try:
        raise LookupError("no")  # noqa: TRY301
    except LookupError as error:
        if way == "current":
            future.set_exception()
        elif way == "triple":
            future.set_exception((LookupError, error, error.__traceback__))
        else:
            future.set_exception((LookupError, None, None))

    with pytest.raises(LookupError):
        future.get(timeout=BOUND_S)


def test_the_traceback_of_an_exception_does_not_grow(engine):
    """However often it is asked for: it is one exception."""
    future = engine.future()
    try:
        raise LookupError("no")  # noqa: TRY301
    except LookupError:
        future.set_exception()

    def depth() -> int:
        with pytest.raises(LookupError) as caught:
            future.get(timeout=BOUND_S)
        return len(traceback.extract_tb(caught.value.__traceback__))

    assert depth() == depth() == depth()


def test_futures_are_composed_before_they_have_a_value(engine):
    """map, filter, reduce and join."""
    first, second = engine.future(), engine.future()
    composed = [
        first.map(sum),
        first.filter(lambda x: x > 1),
        first.reduce(lambda x, y: x * y),
        first.reduce(lambda x, y: x * y, 10),
        first.join(second),
        first.filter(lambda x: x > 1).map(len),
    ]

    first.set([1, 2, 3])
    second.set("b")

    assert pykka.get_all(composed, timeout=BOUND_S) == [6, [2, 3], 6, 60, [[1, 2, 3], "b"], 2]


def test_a_composed_future_raises_what_its_source_raised(engine):
    """And a wrong kind of value is a TypeError there."""
    failed, number = engine.future(), engine.future()
    failed.set_exception((LookupError, LookupError("no"), None))
    number.set(1)

    for composed, kind in ((failed.map(str), LookupError), (number.filter(bool), TypeError)):
        with pytest.raises(kind):
            composed.get(timeout=BOUND_S)


def test_a_get_hook_is_asked_once(engine):
    """With the timeout, and its answer is kept."""
    future, asked = engine.future(), []
    future.set_get_hook(lambda timeout: asked.append(timeout) or "made")

    assert [future.get(timeout=3), future.get(timeout=4)] == ["made", "made"]
    assert asked == [3]


# --- where ours differs ----------------------------------------------------------------------


def test_every_difference_is_documented():
    """docs/pykka.md has a row for each, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "pykka.md").read_text()

    rows = set(re.findall(r"(?m)\| `(\w+)` \|$", page))

    assert rows == {
        name.removeprefix("test_differs_") for name in globals() if name.startswith("test_differs_")
    }


def on(engine: Engine, *, pykka: Any, clarion: Any) -> Any:
    """Return what is right on this engine."""
    return {"pykka": pykka, "clarion": clarion}[engine.name]


def test_differs_a_failing_tell_ends_a_life_or_only_an_instance(engine):
    """pykka: the actor is dead. Ours: a fresh instance serves the same reference."""
    ref = engine.start(Till)
    ref.ask(Say(lambda actor: actor.add(5)))

    ref.tell(Say(lambda _actor: 1 // 0))
    answer = attempt(lambda: ref.ask(Say(lambda actor: actor.total), timeout=BOUND_S))

    assert answer == on(engine, pykka=pykka.ActorDeadError, clarion=0)


def test_differs_an_unexpected_exception_of_an_ask_costs_the_instance(engine):
    """pykka: its state stays. Ours: a bug may have spoilt it; expected errors do no harm."""
    ref = engine.start(Till)
    proxy = ref.proxy()
    proxy.total = 5

    expected = attempt(lambda: ref.ask(Say(raising(ClarionError("expected"))), timeout=BOUND_S))
    after_expected = proxy.total.get(timeout=BOUND_S)
    attempt(lambda: ref.ask(Say(raising(LookupError("a bug"))), timeout=BOUND_S))
    after_a_bug = proxy.total.get(timeout=BOUND_S)

    assert (expected, after_expected) == (ClarionError, 5)
    assert after_a_bug == on(engine, pykka=5, clarion=0)


def test_differs_a_message_that_crashed_an_actor_gets_one_more_chance(engine):
    """pykka: handled once. Ours: once more by the fresh instance, for all is keyed."""
    ref, runs = engine.start(Body), []

    def fail_first(_actor: Any) -> str:
        runs.append(1)
        if len(runs) == 1:
            raise LookupError("first")
        return "second"

    answer = attempt(lambda: ref.ask(Say(fail_first), timeout=BOUND_S))

    assert (answer, len(runs)) == on(engine, pykka=(LookupError, 1), clarion=("second", 2))


def test_differs_a_failing_on_start_ends_it_or_is_tried_again(engine):
    """pykka: dead. Ours: a crash, answered by a restart."""
    fails = [True]

    class Reluctant(Body):
        def on_start(self) -> None:
            if fails:
                fails.clear()
                raise LookupError("not yet")

    ref = engine.start(Reluctant)
    answer = attempt(lambda: ref.ask(Say("a"), timeout=BOUND_S))

    assert answer == on(engine, pykka=pykka.ActorDeadError, clarion="a")


class Escape(BaseException):
    """Neither an Exception nor a wish to exit."""


def test_differs_a_base_exception_takes_the_process_or_its_actor(engine):
    """pykka: stops every actor, and the asker waits for ever. Ours: a crash like any other."""
    ref, bystander = engine.start(Body), engine.start(Body)

    answer = attempt(lambda: ref.ask(Say(raising(Escape())), timeout=1.0))
    is_stopped = bystander.actor_stopped.wait(on(engine, pykka=BOUND_S, clarion=SHORT_S))

    assert answer == on(engine, pykka=pykka.Timeout, clarion=Escape)
    assert is_stopped == on(engine, pykka=True, clarion=False)


def test_differs_an_unknown_message_is_none_or_an_error(engine):
    """pykka: a warning, and None. Ours: the asker hears that nobody handles it."""
    ref = engine.start(Body)

    answer = attempt(lambda: ref.ask("no Say", timeout=BOUND_S))

    assert answer == on(engine, pykka=None, clarion=ClarionError)


def test_differs_a_future_is_an_answer_or_the_answer_to_come(engine):
    """pykka: the future itself. Ours: a deferred reply; the mailbox goes on meanwhile."""
    ref, inner = engine.start(Body), engine.future()
    inner.set("inside")

    answer = ref.ask(Say(lambda _actor: inner), timeout=BOUND_S)

    assert answer == on(engine, pykka=inner, clarion="inside")


def test_differs_a_coroutine_is_an_answer_or_awaited(engine):
    """pykka knows no asyncio; our handlers may be async."""
    ref = engine.start(Body)

    async def work() -> str:
        return "done"

    answer = ref.ask(Say(lambda _actor: work()), timeout=BOUND_S)
    if inspect.iscoroutine(answer):
        answer.close()
        answer = "a coroutine"

    assert answer == on(engine, pykka="a coroutine", clarion="done")


def test_differs_a_blocking_get_inside_an_actor_waits_or_raises(engine):
    """pykka: each has its thread. Ours: the loop of all would stand still, so it says so."""
    ref, other = engine.start(Body), engine.start(Body)

    answer = attempt(
        lambda: ref.ask(Say(lambda _actor: other.ask(Say("a"), timeout=BOUND_S)), timeout=BOUND_S)
    )

    assert answer == on(engine, pykka="a", clarion=ClarionError)


def test_differs_an_actor_that_asks_itself_hangs_or_is_told(engine):
    """pykka: a deadlock until the time limit. Ours: an error at once."""
    ref = engine.start(Body)

    answer = attempt(
        lambda: ref.ask(
            Say(lambda actor: actor.actor_ref.ask(Say("a"), timeout=0.2)), timeout=BOUND_S
        )
    )

    assert answer == on(engine, pykka=pykka.Timeout, clarion=ClarionError)


def test_differs_a_second_answer_is_an_error_or_dropped(engine):
    """pykka: queue.Full. Ours: who answers cannot know that the asker has given up."""
    future = engine.future()
    future.set("first")

    answer = attempt(lambda: future.set("second"))

    assert answer == on(engine, pykka=queue.Full, clarion=None)
    assert future.get(timeout=BOUND_S) == "first"


def test_differs_awaiting_a_future_blocks_the_loop_or_does_not(engine):
    """pykka: no other task runs meanwhile. Ours: they do."""
    future = engine.future()

    async def wait() -> Any:
        setting = asyncio.create_task(set_soon())
        try:
            async with asyncio.timeout(BOUND_S):
                return await future
        finally:
            setting.cancel()

    async def set_soon() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        future.set("by another task")

    if engine.name == "pykka":
        # Without a limit it would stand for ever.
        future.set_get_hook(lambda _timeout: "blocked")

    assert asyncio.run(wait()) == on(engine, pykka="blocked", clarion="by another task")


def attempt(doing: Callable[[], Any]) -> Any:
    """Return the result, or the class of what was raised; every error of ours is a ClarionError."""
    try:
        return doing()
    except pykka.Timeout:
        return pykka.Timeout
    except pykka.ActorDeadError:
        return pykka.ActorDeadError
    except ClarionError:
        return ClarionError
    except BaseException as error:
        return type(error)
