"""The book of a lane: every live job that memory knows stands in exactly one place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from clarion.domain.notification import Call, Content, Delivery, Job, JobState, Priority
from clarion.policies.lane_book import LaneBook
from clarion.policies.verdict import Again

NOW = 1_000.0


def a_job(**fields: Any) -> Job:
    values: dict[str, Any] = {
        "id": "1",
        "channel": "email",
        "content": Content("ada@example.com"),
        "priority": Priority.NORMAL,
        "flow": "",
        "vt": 1.0,
        "state": JobState.SCHEDULED,
        "created_at": NOW,
        "expires_at": NOW + 1000.0,
        "delivery": Delivery.AT_LEAST_ONCE,
        "due_at": NOW,
    }
    return Job(**(values | fields))


def test_a_timer_that_was_loaded_again_while_it_fell_due_does_not_hide_the_promoted_job():
    """The disk may be asked for timers before it hears that one is due; that copy is stale."""
    book, job = LaneBook(max_in_memory=8, max_timers=8), a_job()
    book.timers.load([job], None, NOW + 60.0)
    (due,) = book.timers.due(NOW)
    book.timers.load([a_job()], None, NOW + 60.0)

    book.promoted(due)

    assert job.id in book.line
    assert job.id not in book.timers


@pytest.mark.parametrize("due_at", [None, NOW + 5.0])
def test_a_job_that_goes_on_is_in_memory_what_its_row_is(due_at):
    """What the verdict says of the next walk is what the next verdict starts from."""
    book, job = a_book(), a_job(state=JobState.SENDING, due_at=None, sending="a")
    again = Again(
        due_at=due_at, tried=("a",), attempt=3, waiting="retry", is_doubtful=True,
        is_walk_unknown=True, is_walk_burning=True, probes=2, bugs=1,
    )  # fmt: skip

    book.timers.load([], None, NOW + 60.0)

    book.go_on(job, again)

    for field in dataclasses.fields(again):
        assert getattr(job, field.name) == getattr(again, field.name), field.name
    assert job.sending is None
    assert (job.id in book.line) is (due_at is None)
    assert (job.id in book.timers) is (due_at is not None)


def a_call(number: int = 1, **fields: Any) -> Call:
    return Call(a_job(state=JobState.SENDING, due_at=None, **fields), number, "a")


def a_book() -> LaneBook:
    return LaneBook(max_in_memory=8, max_timers=8)


def test_a_forerunners_call_is_known_by_its_id_and_number():
    """An answer to a call that the load found is taken, once; another number is late."""
    book = a_book()
    job = a_job(state=JobState.SENDING, call=3, sending="a", due_at=None)
    book.inherit([job], NOW, monotonic=0.0)

    assert book.conclude(a_call(2)) is None
    known = book.conclude(a_call(3))

    assert known is not None
    assert known.job is job
    assert known.key == ("1", 3)
    assert book.disinherit("1")
    assert not book.disinherit("1")
    assert book.conclude(a_call(3)) is None


def test_an_intent_of_a_forerunner_takes_the_job_that_the_load_found():
    """What the load knows of a job is newer than what the forerunner's call carries."""
    book = a_book()
    job = a_job(state=JobState.SENDING, call=1, sending="a", due_at=None)
    book.inherit([job], NOW, monotonic=0.0)
    call = a_call(1)

    assert book.adopt(call)
    assert not book.adopt(a_call(2))
    assert call.job is job


def test_an_intent_marks_what_may_be_a_duplicate():
    """A call behind an unknown one may be the second delivery."""
    book, call = a_book(), a_call(is_doubtful=True)

    book.adopt(call)

    assert call.job.possibly_duplicated


def test_a_call_is_overdue_by_its_own_way_out_not_by_the_disks():
    """However long the intent took, the provider has its whole time from the dispatch on."""
    book, call = a_book(), a_call()
    book.adopt(call)

    book.dispatched([call], NOW, monotonic=60.0)

    assert book.overdue(65.0, lambda _provider: 10.0) == []
    assert book.overdue(71.0, lambda _provider: 10.0) == [call]


def test_a_cancelled_schedule_of_the_far_future_leaves_the_count():
    """It is a row only: memory has to be told that it was scheduled."""
    book, far = a_book(), a_job(due_at=NOW + 10_000.0)
    book.accepting = 1
    book.accepted([far], 1)

    book.forget(far.id, JobState.SCHEDULED)

    assert (book.live, book.scheduled, book.ready) == (0, 0, 0)
