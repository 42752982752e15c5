"""A draft becomes a job: when it is due, when it expires, where it stands."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Content, Delivery, Draft, JobState, Priority
from clarion.policies.admission import admit

NOW = 1000.0


def admitted(**fields):
    stamps = []

    def stamp(priority, flow):
        stamps.append((priority, flow))
        return 7.0

    draft = Draft("email", Content("ada@example.com", text="Hi"), **fields)
    job = admit(
        draft, id="1", now=NOW, stamp=stamp, delivery=Delivery.AT_LEAST_ONCE, expires_after_s=60.0
    )
    return job, stamps


@pytest.mark.parametrize("send_at", [None, NOW - 5.0, NOW])
def test_what_is_due_is_ready_and_has_its_place(send_at):
    """A `send_at` that is past is now; the flow is the tenant."""
    job, stamps = admitted(send_at=send_at, tenant="acme", priority=Priority.HIGH)

    assert (job.state, job.due_at, job.waiting, job.vt) == (JobState.READY, None, None, 7.0)
    assert (job.flow, stamps) == ("acme", [(Priority.HIGH, "acme")])


def test_what_is_scheduled_gets_its_place_when_its_time_comes():
    """It does not queue up early, and takes no turn of its flow meanwhile."""
    job, stamps = admitted(send_at=NOW + 5.0)

    assert (job.state, job.due_at, job.waiting) == (JobState.SCHEDULED, NOW + 5.0, "schedule")
    assert stamps == []


@pytest.mark.parametrize(
    ("fields", "expires_at", "is_explicit"),
    [
        ({}, NOW + 60.0, False),
        ({"send_at": NOW - 5.0}, NOW + 60.0, False),
        ({"send_at": NOW + 5.0}, NOW + 65.0, True),
        ({"expires_at": NOW + 2.0}, NOW + 2.0, True),
        ({"expires_at": NOW + 9.0, "send_at": NOW + 5.0}, NOW + 9.0, True),
    ],
)
def test_it_expires_counted_from_the_later_of_created_and_send_at(fields, expires_at, is_explicit):
    """Only a default that counts from its creation is found by the time in its id."""
    job, _ = admitted(**fields)

    assert (job.expires_at, job.is_expiry_explicit) == (expires_at, is_explicit)


@pytest.mark.parametrize("delivery", [None, *Delivery])
def test_the_callers_delivery_wins_over_the_default(delivery):
    """The default is the lane's."""
    job, _ = admitted(delivery=delivery)

    assert job.delivery is (delivery or Delivery.AT_LEAST_ONCE)
