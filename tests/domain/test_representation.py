"""The JSON of a notification."""

from __future__ import annotations

import json
from typing import Any

from clarion.domain.notification import (
    Content,
    Delivery,
    Job,
    JobState,
    Notification,
    Priority,
    Status,
)
from clarion.domain.representation import represent, represent_accepted, rfc3339

NOW = 1_800_000_000.0
CONTRACT = [
    "id", "channel", "to", "status", "held", "held_reason", "waiting", "next_attempt_at",
    "attempts", "provider", "possibly_duplicated", "cancel_requested", "reason", "explanation",
    "priority", "tenant", "reference", "metadata", "created_at", "updated_at",
]  # fmt: skip


def job(**fields: Any) -> Job:
    values: dict[str, Any] = {
        "id": "01", "channel": "email", "content": Content("ada@example.com", "Hi", "Hello"),
        "priority": Priority.HIGH, "flow": "acme", "vt": 1.0, "state": JobState.READY,
        "created_at": NOW, "expires_at": NOW + 1000, "delivery": Delivery.AT_LEAST_ONCE,
        "tenant": "acme", "reference": "order-1", "metadata": {"a": "b"},
    }  # fmt: skip
    return Job(**(values | fields))


def stored(**fields: Any) -> Notification:
    values: dict[str, Any] = {
        "id": "01", "channel": "email", "content": Content("ada@example.com", "Hi", "Hello"),
        "status": Status.QUEUED, "priority": Priority.HIGH, "delivery": Delivery.AT_LEAST_ONCE,
        "created_at": NOW, "updated_at": NOW, "expires_at": NOW + 1000, "tenant": "acme",
        "reference": "order-1", "metadata": {"a": "b"},
    }  # fmt: skip
    return Notification(**(values | fields))


def test_it_has_the_keys_of_the_contract() -> None:
    """All of them, always, and the timeline where it was asked for."""
    assert list(represent(stored())) == CONTRACT
    assert list(represent(stored(), with_timeline=True)) == [*CONTRACT, "timeline"]
    assert list(represent_accepted(job())) == CONTRACT


def test_it_shows_neither_body_nor_headers() -> None:
    """What was written is between the sender and the recipient."""
    content = Content("ada@example.com", "s3cret", "s3cret", "s3cret", {"a": "s3cret"}, {})

    assert "s3cret" not in json.dumps(represent(stored(content=content), with_timeline=True))
    assert "s3cret" not in json.dumps(represent_accepted(job(content=content)))


def test_values_are_json_with_utc_milliseconds() -> None:
    """No enumeration and no float instant gets out."""
    found = represent(
        stored(next_attempt_at=NOW + 0.25, waiting="retry"),
        is_held=True, held_reason="no provider", explanation="It waits.",
    )  # fmt: skip

    assert json.loads(json.dumps(found)) == found
    assert {name: found[name] for name in CONTRACT[:8]} == {
        "id": "01", "channel": "email", "to": "ada@example.com", "status": "queued",
        "held": True, "held_reason": "no provider", "waiting": "retry",
        "next_attempt_at": "2027-01-15T08:00:00.250Z",
    }  # fmt: skip
    assert found["priority"] == "high"
    assert found["explanation"] == "It waits."
    assert found["created_at"] == rfc3339(NOW) == "2027-01-15T08:00:00.000Z"


def test_what_was_accepted_looks_like_what_is_read() -> None:
    """The 202 and the first read differ in nothing but what has happened since."""
    accepted = represent_accepted(job())

    assert accepted == represent(stored(), explanation=accepted["explanation"])


def test_a_scheduled_one_says_when() -> None:
    """Its time is its next attempt."""
    found = represent_accepted(job(state=JobState.SCHEDULED, due_at=NOW + 60, waiting="schedule"))

    assert (found["status"], found["waiting"]) == ("scheduled", "schedule")
    assert found["next_attempt_at"] == "2027-01-15T08:01:00.000Z"
    assert "08:01:00" in found["explanation"]


def test_the_answer_speaks_of_the_acceptance_even_if_the_job_has_moved_on() -> None:
    """A replay must be the same, and the job may be out before the first answer is written."""
    moved = job(state=JobState.SENDING, attempt=1, sending="smtp", possibly_duplicated=True)

    assert represent_accepted(moved) == represent_accepted(job())
