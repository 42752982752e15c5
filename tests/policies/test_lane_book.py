"""The book of a lane: every live job that memory knows stands in exactly one place."""

from __future__ import annotations

from typing import Any

from clarion.domain.notification import Content, Delivery, Job, JobState, Priority
from clarion.policies.lane_book import LaneBook

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
