"""The counts of the book against the rows that it mirrors, over any life of its jobs."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clarion.domain.notification import Call, Content, Delivery, Job, JobState, Priority
from clarion.policies.lane_book import LaneBook
from clarion.policies.verdict import Again

PICK = st.integers(0, 63)
HORIZON_AT = 100.0


class BookMachine(RuleBasedStateMachine):
    """A Queue that tells its book what the disk and the providers said."""

    def __init__(self):
        super().__init__()
        self.book = LaneBook(400, 100)
        self.book.timers.load([], None, HORIZON_AT)
        self.rows: dict[str, Job] = {}
        self.late: list[Call] = []
        self.number = 0
        self.at = 1.0

    @rule(due_at=st.sampled_from([None, None, 5.0, HORIZON_AT + 5.0]), n=st.integers(1, 3))
    def accept(self, due_at, n):
        self.book.accepting += n + 1  # One draft was refused by the disk.
        state = JobState.READY if due_at is None else JobState.SCHEDULED
        jobs = []
        for _ in range(n):
            self.number += 1
            jobs.append(
                Job(
                    f"{self.number:04}", "email", Content(to=""), Priority.NORMAL, "",
                    float(self.number), state, 0.0, 1e9, Delivery.AT_LEAST_ONCE, due_at=due_at,
                )
            )  # fmt: skip
        self.rows.update((job.id, job) for job in jobs)
        self.book.accepted(jobs, n + 1)

    @rule(is_written=st.booleans())
    def take(self, is_written):
        job = self.book.line.take(lambda _job: True)
        if job is None:
            return
        call = Call(job, job.call + 1, "a")
        self.book.intend([call])
        assert job.id in self.book
        self.book.intending.pop(job.id)
        if not is_written:
            self.book.line.push(job)
            return
        assert self.book.adopt(call)
        assert not self.book.adopt(Call(job, call.number + 1, "a"))
        self.book.dispatched([call], self.at, self.at)

    @precondition(lambda self: self.book.in_flight)
    @rule(pick=PICK, due_at=st.sampled_from([None, 7.0, HORIZON_AT + 7.0, "end"]))
    def answer(self, pick, due_at):
        call = self._pick(self.book.in_flight, pick)
        assert call in self.book.calls_out
        assert self.book.conclude(call) is call
        self.late.append(call)
        if due_at == "end":
            del self.rows[call.job.id]
            self.book.live -= 1  # As the disk reports it.
        else:
            self.book.go_on(call.job, Again(due_at, ("a",), 1))
            self.book.waiting += due_at is not None  # As the disk reports it.

    @precondition(lambda self: self.late)
    @rule(pick=PICK)
    def late_answer(self, pick):
        call = self.late[pick % len(self.late)]
        assert self.book.conclude(call) is None

    @rule(is_written=st.booleans())
    def timers_fall_due(self, is_written):
        due = self.book.timers.due(10.0)
        self.book.promote(due)
        for job in due:
            assert job.id in self.book
            if is_written:
                self.book.promoted(job)
            else:  # Cancelled before the disk got to it.
                del self.rows[job.id]
                self.book.forget(job.id, job.state)

    @precondition(lambda self: self.rows)
    @rule(pick=PICK)
    def end_while_it_waits(self, pick):
        job = self._pick(self.rows, pick)
        if job.state is JobState.SENDING:
            return
        del self.rows[job.id]
        self.book.forget(job.id, job.state)

    def _pick(self, jobs, pick):
        return jobs[list(jobs)[pick % len(jobs)]]

    def _count(self, state):
        return sum(job.state is state for job in self.rows.values())

    @invariant()
    def the_counts_are_those_of_the_rows(self):
        book = self.book
        assert book.accepting == 0
        assert book.live == len(self.rows)
        assert book.scheduled == self._count(JobState.SCHEDULED)
        assert book.out == self._count(JobState.SENDING)
        assert book.waiting == self._count(JobState.TIMED)
        assert book.ready == self._count(JobState.READY)

    @invariant()
    def each_job_stands_in_one_place(self):
        book = self.book
        for job_id in self.rows:
            places = (job_id in book.line, job_id in book.timers, job_id in book.in_flight)
            assert sum(places) <= 1
        assert {call.job.id for call in book.calls_out} == set(book.in_flight)


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
