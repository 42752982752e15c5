"""The head in memory against the rows on disk: nothing is lost or doubled, whatever moves when.

The model is a disk of a few lines: commands are carried out in the order in which they were asked,
and what they came to is heard of later, in that order.
"""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clarion.domain.notification import Content, Delivery, Job, JobState, Priority
from clarion.policies.lane import Lane

CAPACITY = 2
PAGE = 2
PICK = st.integers(0, 63)


def place(job):
    return (job.vt, job.id)


class LaneMachine(RuleBasedStateMachine):
    """A Queue and a Journal around one priority of a `Lane`."""

    def __init__(self):
        super().__init__()
        self.lane = Lane(CAPACITY * len(Priority))
        self.disk: dict[str, str] = {}
        self.jobs: dict[str, Job] = {}
        self.commands: deque = deque()
        self.messages: deque = deque()
        self.out: dict[str, Job] = {}
        self.timed: dict[str, Job] = {}
        self.promoting: dict[str, Job] = {}
        self.is_refilling = False
        self.number = 0

    # --- what the Queue does ---------------------------------------------------------------

    @rule(flow=st.sampled_from("abc"), n=st.integers(1, 6))
    def arrive(self, flow, n):
        for _ in range(n):
            self.number += 1
            job = Job(
                f"{self.number:05}", "email", Content(to=""), Priority.NORMAL, flow,
                self.lane.stamp(Priority.NORMAL, flow), JobState.READY, 0.0, 1e9,
                Delivery.AT_LEAST_ONCE,
            )  # fmt: skip
            self.commands.append(("accept", job))

    @rule(n=st.integers(1, 6))
    def take(self, n):
        for _ in range(n):
            job = self.lane.take(lambda _job: True)
            if job is None:
                return
            assert job.id not in self.out
            self.out[job.id] = job
            self.commands.append(("intend", job))

    @precondition(lambda self: self.out)
    @rule(
        picks=st.lists(PICK, min_size=1, max_size=6),
        then=st.sampled_from(["ready", "ready", "ready", "timed", "ended"]),
        tried=st.sampled_from([(), ("a",), ("a",), ("b", "a")]),
    )
    def calls_end(self, picks, then, tried):
        for pick in picks:
            if self.out:
                self._call_ends(self._pick(self.out, pick), then, tried)

    def _call_ends(self, job, then, tried):
        if ("intend", job) in self.commands or {("intended", job), ("refused", job)} & {
            *self.messages
        }:
            return  # Its intent is not known to be on the disk yet.
        del self.out[job.id]
        self.commands.append((then, job))
        job.tried = tried
        if then == "ready":
            self.lane.push(job)
        elif then == "timed":
            self.timed[job.id] = job

    @rule()
    def give_up(self):
        job = self.lane.take(lambda _job: True)
        if job is not None:
            self.commands.append(("ended", job))

    @rule()
    def restart(self):
        self.commit(len(self.commands))
        self.messages.clear()
        self.is_refilling = False
        self.lane = Lane(CAPACITY * len(Priority))
        rows, flows = self._rows(), {}
        for job in self.jobs.values():
            flows[Priority.NORMAL, job.flow] = job.vt
        self.lane.load(
            {Priority.NORMAL: rows[:CAPACITY]}, {Priority.NORMAL: len(rows) > CAPACITY}, flows
        )
        self.out = {each: self.jobs[each] for each, s in self.disk.items() if s == "sending"}
        self.timed = {each: self.jobs[each] for each, s in self.disk.items() if s == "timed"}
        self.promoting = {}

    @precondition(lambda self: self.timed)
    @rule(pick=PICK)
    def timer_falls_due(self, pick):
        job = self._pick(self.timed, pick)
        self.promoting[job.id] = self.timed.pop(job.id)
        self.commands.append(("promote", job))

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick):
        self.commands.append(("cancel", self._pick(self.jobs, pick)))

    @rule()
    def refill(self):
        if not self.is_refilling and self.lane.refill_wanted():
            self.is_refilling = True
            self.commands.append(("refill", self.lane.tail(Priority.NORMAL)))

    # --- what the Journal and the mailbox do -----------------------------------------------

    @rule(n=st.integers(1, 12))
    def commit(self, n):
        for _ in range(min(n, len(self.commands))):
            self._commit(*self.commands.popleft())

    def _commit(self, command, what):
        match command:
            case "accept":
                self.disk[what.id] = "ready"
                self.jobs[what.id] = what
            case "intend":
                is_ready = self.disk.get(what.id) == "ready"
                self.disk.update({what.id: "sending"} if is_ready else {})
                self.messages.append(("intended" if is_ready else "refused", what))
                return
            case "ready" | "timed":
                self.disk[what.id] = command
                return
            case "ended":
                self.disk.pop(what.id, None)
                return
            case "promote":
                if self.disk.get(what.id) != "timed":
                    return
                self.disk[what.id] = "ready"
            case "cancel":
                if self.disk.get(what.id) not in ("ready", "timed"):
                    return
                del self.disk[what.id]
            case "refill":
                rows = [job for job in self._rows() if place(job) > what]
                self.messages.append(("refilled", (tuple(rows[:PAGE]), len(rows) > PAGE)))
                return
        self.messages.append((command, what))

    @rule(n=st.integers(1, 12))
    def hear(self, n):
        for _ in range(min(n, len(self.messages))):
            self._hear(*self.messages.popleft())

    def _hear(self, message, what):
        match message:
            case "accept":
                if what.id not in self._elsewhere():
                    self.lane.admit(what)
            case "refused":
                self.out.pop(what.id)
            case "promote":
                self.promoting.pop(what.id)
                self.lane.admit(what)
            case "cancel":
                self.lane.discard(what.id)
                self.timed.pop(what.id, None)
                self.promoting.pop(what.id, None)
            case "refilled":
                self.is_refilling = False
                jobs, is_spilled = what
                self.lane.refill(Priority.NORMAL, jobs, is_spilled, skip=self._elsewhere())

    def _rows(self):
        return sorted(
            (self.jobs[each] for each, state in self.disk.items() if state == "ready"), key=place
        )

    def _elsewhere(self):
        known = {*self.out, *self.timed, *self.promoting}
        return known | {each for each in self.jobs if each in self.lane}

    def _pick(self, jobs, pick):
        return jobs[list(jobs)[pick % len(jobs)]]

    # --- what must hold --------------------------------------------------------------------

    @invariant()
    def memory_is_bounded(self):
        assert len(self.lane) <= CAPACITY * 3  # fresh, and two ways to have walked

    def teardown(self):
        self._settle()
        expected = [job.id for job in self._rows()]
        taken = []
        while (job := self.lane.take(lambda _job: True)) is not None:
            taken.append(job.id)
            self.out[job.id] = job
            self.commands.append(("intend", job))
            self._settle()
        assert taken == expected

    def _settle(self):
        for _ in range(1000):
            self.refill()
            if not self.commands and not self.messages:
                return
            self.commit(64)
            self.hear(64)
        raise AssertionError("it asks for more for ever")


TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("seed", range(100))
def test_a_long_life_under_load_loses_and_doubles_nothing(seed):
    """Full heads, slow disks and many walks at once: states that few steps do not reach."""
    rng = random.Random(seed)
    machine = LaneMachine()

    for _ in range(300):
        _one_step(machine, rng)
        machine.memory_is_bounded()

    machine.teardown()


def _one_step(machine, rng):
    match rng.randrange(12):
        case 0 | 1:
            machine.arrive(rng.choice("abc"), rng.randint(1, 4))
        case 2 | 3:
            machine.take(rng.randint(1, 5))
        case 4 | 5 | 6 if machine.out:
            picks = [rng.randrange(64) for _ in range(rng.randint(1, 5))]
            then = rng.choice(["ready"] * 6 + ["timed", "ended"])
            machine.calls_end(picks, then, rng.choice([(), ("a",), ("a",), ("b", "a")]))
        case 7 if machine.timed:
            machine.timer_falls_due(rng.randrange(64))
        case 8 if machine.jobs and rng.random() < 0.3:
            machine.cancel(rng.randrange(64))
        case 9:
            machine.refill()
            if rng.random() < 0.1:
                machine.give_up()
            elif rng.random() < 0.1:
                machine.restart()
        case 10:
            machine.commit(rng.randint(1, 8))
        case _:
            machine.hear(rng.randint(1, 8))
