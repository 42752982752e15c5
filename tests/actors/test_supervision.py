"""A parent and its children in virtual time: who is restarted when, and who pays for a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from clarion.actors.children import SLOW_RETRY_S, Children
from clarion.actors.parent import PROVEN_AFTER_S, Parent
from clarion.actors.runtime import Actor, CrashReport, Ref, Runtime, handles
from clarion.actors.supervisor_messages import ActorCrashed
from clarion.errors import AskTimeout
from clarion.policies.restart import CALM_S, RestartBudget
from clarion.telemetry.metrics import Metrics
from clarion.testing import Crash
from clarion.testing.virtual_time import VirtualClock, run_virtual

LIMIT = 10
BACK_OFF_S = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
"""With draws of 1, the most that each wait may be."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Answered with the number of the instance."""


@dataclass(frozen=True, slots=True)
class Poison:
    """Crashes whoever handles it."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Is never done."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Goes round a circle of actors."""

    names: tuple[str, ...]
    is_awaited: bool


class Root(Parent):
    """A parent that does nothing else."""

    def on_start(self) -> None:
        self.see_to_children()


class Child(Actor):
    """Crashes as it is told; `tree.born` has the instants at which its instances were made."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self._tree = tree
        tree.born.setdefault(self.name, []).append(self.context.clock.monotonic())
        if self.name in tree.unborn:
            raise OSError("it cannot be made")
        self._number = len(tree.born[self.name])

    async def on_start(self) -> None:
        if self.name in self._tree.hanging:
            await asyncio.Event().wait()

    @handles(Ping)
    def answer(self, _message: Ping) -> int:
        return self._number

    @handles(Poison)
    def fail(self, _message: Poison) -> None:
        raise LookupError("a bug")

    @handles(Hang)
    async def hang(self, _message: Hang) -> None:
        await asyncio.Event().wait()

    @handles(Pass)
    def pass_on(self, message: Pass) -> Any:
        self._tree.passed += 1
        if not message.names:
            return "round"
        on = self.context.ref_of(message.names[0]).ask(Pass(message.names[1:], message.is_awaited))
        return _wait_for(on) if message.is_awaited else on


async def _wait_for(reply: Awaitable[Any]) -> Any:
    return await reply


class Tree:
    """A root over some children, and a guardian that restarts the root at once."""

    def __init__(self, *names: str) -> None:
        self.born: dict[str, list[float]] = {}
        self.unborn: set[str] = set()
        """Children whose constructor fails."""
        self.hanging: set[str] = set()
        """Children whose start never ends."""
        self.passed = 0
        self.fatal: list[str] = []
        self.children = Children(lambda: RestartBudget(LIMIT, rng=lambda: 1.0))
        self._loop = asyncio.get_running_loop()
        self.runtime = Runtime(clock=VirtualClock(self._loop), rng=lambda: 1.0, hung_after_s=30.0)
        self.runtime.spawn("root", self._make_root, on_crash=self._guard)
        for name in names:
            self.children.add(name)
            self.runtime.spawn(name, lambda: Child(self), on_crash=self._crashed)

    def _make_root(self) -> Root:
        return Root(
            self.children, clock=self.runtime.clock, metrics=Metrics(), on_fatal=self.fatal.append
        )

    def _guard(self, _report: CrashReport) -> None:
        self._loop.call_later(1.0, self.runtime.restart, "root")

    def _crashed(self, report: CrashReport) -> None:
        self.runtime.ref("root").tell(ActorCrashed(report.name, "", "", report.crash_number))

    def ref(self, name: str) -> Ref:
        return self.runtime.ref(name)

    async def state(self, name: str) -> str:
        """Say how the parent sees a child, once all that was told so far is handled."""
        await asyncio.sleep(1e-6)
        return self.children.states()[name]

    async def crash(self, name: str, times: int = 1) -> None:
        """Crash a child again and again, each time as soon as it is back."""
        for _ in range(times):
            number = len(self.born[name])
            self.ref(name).tell(Crash("by the test"))
            while len(self.born[name]) == number:
                await asyncio.sleep(0.01)

    def waits(self, name: str) -> list[float]:
        """Return the seconds between the instances of a child."""
        return [after - before for before, after in pairwise(self.born[name])]


Story = Callable[[Tree], Awaitable[None]]


def play(story: Story, *names: str) -> None:
    """Let a story happen to a tree of these children."""

    async def main() -> None:
        tree = Tree(*names)
        for name in names:
            if name not in tree.hanging:
                await tree.runtime.started(name)
        try:
            async with asyncio.timeout(1000.0):  # virtual seconds
                await story(tree)
        finally:
            await tree.runtime.close(1.0)

    run_virtual(main())


# --- budgets ---------------------------------------------------------------------------------


def test_a_child_is_restarted_after_waits_that_double_and_given_up_at_the_eleventh_crash():
    """Inclusive: ten crashes in a minute are within the budget. Then it is tried slowly."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", LIMIT)
        assert await tree.state("one") == "running"

        tree.ref("one").tell(Crash("once too often"))
        assert await tree.state("one") == "failed"
        await asyncio.sleep(SLOW_RETRY_S - 0.1)
        assert len(tree.born["one"]) == LIMIT + 1
        await asyncio.sleep(0.2)
        assert len(tree.born["one"]) == LIMIT + 2

        assert tree.waits("one")[:LIMIT] == pytest.approx(BACK_OFF_S, abs=0.02)

    play(story, "one")


def test_a_crash_of_an_hour_ago_does_not_count():
    """The period slides: eleven crashes, but never more than ten within a minute."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", LIMIT)
        await asyncio.sleep(60.0)

        await tree.crash("one", LIMIT)

        assert await tree.state("one") == "running"
        assert tree.fatal == []

    play(story, "one")


def test_a_child_pays_for_its_own_crashes_only():
    """A sibling that is over its budget costs it no restart and no time."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", LIMIT)
        tree.ref("one").tell(Crash("once too often"))
        began = tree.runtime.clock.monotonic()

        await tree.crash("other")

        assert tree.born["other"][-1] - began == pytest.approx(BACK_OFF_S[0], abs=0.02)
        assert await tree.state("other") == "running"
        assert await tree.state("one") == "failed"

    play(story, "one", "other")


def test_a_calm_time_starts_the_back_off_over():
    """Ten seconds without a crash; a moment less do not."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", 3)
        await asyncio.sleep(CALM_S - 1.0)
        await tree.crash("one")
        await asyncio.sleep(CALM_S)
        await tree.crash("one")

        assert tree.waits("one")[2] == pytest.approx(0.2, abs=0.02)
        assert tree.waits("one")[3] - (CALM_S - 1.0) == pytest.approx(BACK_OFF_S[3], abs=0.02)
        assert tree.waits("one")[4] - CALM_S == pytest.approx(BACK_OFF_S[0], abs=0.02)

    play(story, "one")


def test_a_start_that_fails_counts_as_a_crash():
    """No loop of failing starts outruns the budget, and the one that works ends it."""

    async def story(tree: Tree) -> None:
        tree.unborn.add("one")
        tree.ref("one").tell(Crash("into the failing start"))
        await asyncio.sleep(40.0)
        assert await tree.state("one") == "failed"
        assert len(tree.born["one"]) == LIMIT + 2  # the first, ten within the budget, one slow

        tree.unborn.clear()
        await asyncio.sleep(SLOW_RETRY_S + PROVEN_AFTER_S)

        assert await tree.state("one") == "running"
        assert await tree.ref("one").ask(Ping()) > 1

    play(story, "one")


def test_a_life_is_proven_by_its_own_time_only():
    """The timer of an instance that has crashed since says nothing for the next one."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", LIMIT)
        tree.ref("one").tell(Crash("once too often"))
        await asyncio.sleep(SLOW_RETRY_S + PROVEN_AFTER_S / 2)
        tree.ref("one").tell(Crash("before it is proven"))

        await asyncio.sleep(PROVEN_AFTER_S)
        assert await tree.state("one") == "failed"

        await asyncio.sleep(SLOW_RETRY_S + PROVEN_AFTER_S)
        assert await tree.state("one") == "running"

    play(story, "one")


# --- escalation ------------------------------------------------------------------------------


def test_only_the_journal_takes_the_process_with_it():
    """Whoever else is over its budget, the others go on."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", LIMIT)
        tree.ref("one").tell(Crash("once too often"))
        assert (await tree.state("one"), tree.fatal) == ("failed", [])

        await tree.crash("journal", LIMIT)
        tree.ref("journal").tell(Crash("once too often"))

        assert (await tree.state("journal"), tree.fatal) == ("failed", ["journal"])

    play(story, "one", "journal")


def test_a_restart_that_was_planned_outlives_the_parent():
    """And so do the budgets: a parent's crash is no amnesty."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", LIMIT - 1)
        tree.ref("one").tell(Crash("with its restart still to come"))
        assert await tree.state("one") == "restarting"
        tree.ref("root").tell(Crash("before that"))
        await asyncio.sleep(0)

        while await tree.state("one") != "running":
            await asyncio.sleep(0.01)
        tree.ref("one").tell(Crash("once too often"))

        assert await tree.state("one") == "failed"

    play(story, "one")


def test_a_child_that_crashes_while_its_parent_is_away_is_seen_to():
    """What it was told meanwhile waits in its mailbox."""

    async def story(tree: Tree) -> None:
        tree.ref("root").tell(Crash("away for a second"))
        await asyncio.sleep(0.1)

        await tree.crash("one")

        assert await tree.ref("one").ask(Ping()) == 2

    play(story, "one")


# --- messages over a crash -------------------------------------------------------------------


def test_messages_wait_in_the_mailbox_through_one_crash_after_the_other():
    """A second failure during the back-off loses none of them, and their order stays."""

    async def story(tree: Tree) -> None:
        tree.unborn.add("one")
        tree.ref("one").tell(Crash("with messages behind it"))
        await asyncio.sleep(0.001)
        asked = [tree.ref("one").ask(Ping(), timeout_s=60.0) for _ in range(20)]
        await asyncio.sleep(1.0)
        assert len(tree.born["one"]) > 3
        tree.unborn.clear()

        answers = await asyncio.gather(*asked)

        assert answers == [len(tree.born["one"])] * 20

    play(story, "one")


def test_an_ask_that_is_overdue_when_its_actor_is_back_is_not_handled():
    """Nobody waits for it any more."""

    async def story(tree: Tree) -> None:
        tree.unborn.add("one")
        tree.ref("one").tell(Crash("for longer than the ask has time"))
        await asyncio.sleep(0.001)

        with pytest.raises(AskTimeout):
            await tree.ref("one").ask(Pass((), is_awaited=False), timeout_s=0.5)
        tree.unborn.clear()
        await asyncio.sleep(5.0)
        await tree.ref("one").ask(Ping())

        assert tree.passed == 0

    play(story, "one")


def test_a_poisonous_message_costs_two_crashes_and_no_more():
    """Handled once more, then put aside; what is behind it gets its answer."""

    async def story(tree: Tree) -> None:
        poison = tree.ref("one").ask(Poison(), timeout_s=60.0)
        behind = tree.ref("one").ask(Ping(), timeout_s=60.0)

        with pytest.raises(LookupError):
            await poison
        assert await behind == 3

        assert [each.message for each in tree.runtime.quarantine] == [Poison()]
        await asyncio.sleep(60.0)
        assert len(tree.born["one"]) == 3

    play(story, "one")


# --- hung actors -----------------------------------------------------------------------------


def test_a_hung_message_is_interrupted_like_a_crash_and_then_put_aside():
    """As `app` does: whoever is named by `hung` is interrupted, and its parent restarts it."""

    async def story(tree: Tree) -> None:
        tree.ref("one").tell(Hang())
        behind = tree.ref("one").ask(Ping(), timeout_s=300.0)
        checks = 0
        while not behind.done:
            await asyncio.sleep(5.0)
            checks += 1
            for each in tree.runtime.hung():
                tree.runtime.interrupt(each.name)

        assert await behind == 3
        assert [each.message for each in tree.runtime.quarantine] == [Hang()]
        assert 2 * 30.0 < checks * 5.0 <= 2 * 40.0
        assert tree.runtime.hung() == []

    play(story, "one")


def test_a_start_that_hangs_is_seen_and_interrupted_too():
    """An actor without a message in hand can hang as well."""

    async def story(tree: Tree) -> None:
        tree.hanging.add("one")
        tree.ref("one").tell(Crash("into a start that hangs"))
        await asyncio.sleep(32.0)
        assert [each.name for each in tree.runtime.hung()] == ["one"]

        tree.hanging.clear()
        tree.runtime.interrupt("one")
        await asyncio.sleep(1.0)

        assert await tree.ref("one").ask(Ping()) == 3

    play(story, "one")


# --- stops -----------------------------------------------------------------------------------


def test_a_child_that_is_stopped_during_its_back_off_stays_stopped():
    """The restart that was planned makes nobody of it any more."""

    async def story(tree: Tree) -> None:
        await tree.crash("one", 5)
        tree.ref("one").tell(Crash("with a wait of more than a second to come"))
        waiting = tree.ref("one").ask(Ping())
        await asyncio.sleep(0.001)

        await tree.runtime.stop("one", 1.0)
        with pytest.raises(Exception, match="stopped"):
            await waiting
        await asyncio.sleep(60.0)

        assert len(tree.born["one"]) == 6
        assert not tree.ref("one").is_alive()

    play(story, "one")


def test_an_ask_always_ends_whenever_it_races_with_a_crash_and_a_stop():
    """With an answer or an error, at every turn of the loop around both."""

    async def story(tree: Tree) -> None:
        asked = []
        for turn in range(200):
            if turn == 50:
                tree.ref("one").tell(Crash("in between"))
            if turn == 120:
                stopping = asyncio.create_task(tree.runtime.stop("one", 1.0))
            asked.append(tree.ref("one").ask(Ping(), timeout_s=5.0))
            await asyncio.sleep(0.01 if turn % 10 == 0 else 0)
        await stopping

        answers = await asyncio.gather(*asked, return_exceptions=True)

        assert all(each.done for each in asked)
        numbers = [each for each in answers if isinstance(each, int)]
        assert set(numbers) == {1, 2}
        assert numbers == sorted(numbers)
        assert not any(isinstance(each, AskTimeout) for each in answers)

    play(story, "one")


# --- asks in a circle ------------------------------------------------------------------------

CIRCLE = ("one", "two", "three", "one")


def test_asks_in_a_circle_that_are_awaited_end_with_the_first_deadline():
    """Each waits for the next; with the deadline of the first they are all free again."""

    async def story(tree: Tree) -> None:
        with pytest.raises(AskTimeout):
            await tree.ref("one").ask(Pass(CIRCLE[1:], is_awaited=True), timeout_s=2.0)

        assert [await tree.ref(name).ask(Ping()) for name in CIRCLE[:3]] == [1, 1, 1]
        assert tree.runtime.clock.monotonic() == pytest.approx(2.0, abs=0.1)
        assert tree.passed == 3  # The fourth one was void before "one" could look at it.
        assert tree.runtime.hung() == []

    play(story, *CIRCLE[:3])


def test_asks_in_a_circle_that_are_deferred_go_round():
    """No actor waits inside a handler, so there is nothing to deadlock: what our actors do."""

    async def story(tree: Tree) -> None:
        answer = await tree.ref("one").ask(Pass(CIRCLE[1:] * 3, is_awaited=False), timeout_s=2.0)

        assert (answer, tree.passed) == ("round", 10)

    play(story, *CIRCLE[:3])
