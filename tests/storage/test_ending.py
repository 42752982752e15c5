"""Ends that no call brings about: cancelled, expired, poison."""

from __future__ import annotations

import pytest

from clarion.domain.notification import JobState, Status
from clarion.storage.command import Cancel, CancelResult, Discard, EndedRow, Expire

DEFAULT_EXPIRY_S = 3600.0


def test_cancelling_what_waits_ends_it(desk):
    """Queued and scheduled ones end as cancelled, with the reason said."""
    queued, scheduled = desk.accepted(), desk.scheduled(desk.now + 60.0)
    desk.accept(scheduled)

    for job in (queued, scheduled):
        result = desk.run(Cancel("email", job.id, desk.now))
        former = JobState.SCHEDULED if job is scheduled else JobState.READY
        assert result == CancelResult("cancelled", job.id, Status.CANCELLED, former)

    assert desk.record_row(queued)["reason"] == "cancelled"
    assert desk.counts() == {"accepted": 2, "cancelled": 2}


def test_cancelling_what_some_provider_may_have_ends_as_unknown(desk):
    """`cancelled` means that no provider can have it."""
    job = desk.sending()
    desk.run(desk.deferral(job, is_doubtful=True))

    result = desk.run(Cancel("email", job.id, desk.now))

    assert result == CancelResult("cancelled", job.id, Status.UNKNOWN, JobState.READY)
    assert desk.record_row(job)["reason"] == "cancelled"
    assert desk.counts() == {"accepted": 1, "unknown": 1}


def test_cancelling_what_is_out_is_a_request(desk):
    """The call goes on; the row remembers that it should be the last, even over a restart."""
    job = desk.sending()

    result = desk.run(Cancel("email", job.id, desk.now))

    assert result == CancelResult("requested", job.id, Status.SENDING)
    [loaded] = desk.load().sending
    assert loaded.cancel_requested
    assert desk.counts() == {"accepted": 1, "sending": 1}


def test_cancelling_twice_says_that_it_is_final(desk):
    """The second cancel finds the end of the first."""
    job = desk.accepted()
    desk.run(Cancel("email", job.id, desk.now))

    result = desk.run(Cancel("email", job.id, desk.now))

    assert result == CancelResult("final", job.id, Status.CANCELLED)
    assert desk.counts() == {"accepted": 1, "cancelled": 1}


def test_cancelling_what_never_was_says_so(desk):
    """An unknown id is missing, not final."""
    assert desk.run(Cancel("email", "nope", desk.now)) == CancelResult("missing", "nope")


def test_expiry_ends_what_is_over_whether_chosen_or_by_default(desk):
    """At its expiry, a chosen one is found by its index and a default one by its id."""
    chosen = desk.accepted(expires_at=desk.now + 10.0, is_expiry_explicit=True)
    default = desk.accepted(expires_at=desk.now + DEFAULT_EXPIRY_S)
    desk.now += DEFAULT_EXPIRY_S + 0.001
    fresh = desk.accepted(expires_at=desk.now + DEFAULT_EXPIRY_S)

    ended = desk.run(Expire("email", desk.now, DEFAULT_EXPIRY_S))

    assert ended == [
        EndedRow(each.id, Status.EXPIRED, JobState.READY) for each in (chosen, default)
    ]
    assert desk.job_row(fresh) is not None
    assert desk.counts() == {"accepted": 3, "expired": 2, "queued": 1}


def test_expiry_spares_what_has_time_left(desk):
    """A moment before its expiry, a chosen one still waits."""
    job = desk.accepted(expires_at=desk.now + 10.0, is_expiry_explicit=True)

    assert desk.run(Expire("email", desk.now + 9.999, DEFAULT_EXPIRY_S)) == []
    assert desk.job_row(job) is not None


def test_expiry_never_interrupts_a_call(desk):
    """What is out may still be sent."""
    desk.sending(expires_at=desk.now + 10.0, is_expiry_explicit=True)
    desk.sending(expires_at=desk.now + 10.0)

    assert desk.run(Expire("email", desk.now + 2 * DEFAULT_EXPIRY_S, DEFAULT_EXPIRY_S)) == []


def test_expiry_of_what_some_provider_may_have_ends_as_unknown(desk):
    """`expired` means that no provider can have it."""
    job = desk.sending(expires_at=desk.now + 10.0, is_expiry_explicit=True)
    desk.run(desk.deferral(job, is_doubtful=True))

    ended = desk.run(Expire("email", desk.now + 10.0, DEFAULT_EXPIRY_S))

    assert ended == [EndedRow(job.id, Status.UNKNOWN, JobState.READY)]
    assert desk.record_row(job)["reason"] == "expired"


def test_expiry_is_bounded_and_goes_on_where_it_stopped(desk):
    """No commit becomes long: a limit per command over both kinds together."""
    for _ in range(3):
        desk.accepted(expires_at=desk.now + 1.0, is_expiry_explicit=True)
        desk.accepted(expires_at=desk.now + DEFAULT_EXPIRY_S)
    expiry = Expire("email", desk.now + 2 * DEFAULT_EXPIRY_S, DEFAULT_EXPIRY_S, limit=4)

    sizes = [len(desk.run(expiry)) for _ in range(3)]

    assert sizes == [4, 2, 0]


def test_expiry_concerns_its_own_lane(desk):
    """Each lane ends its own."""
    other = desk.accepted(channel="sms", expires_at=desk.now + 1.0, is_expiry_explicit=True)

    assert desk.run(Expire("email", desk.now + 9.0, DEFAULT_EXPIRY_S)) == []
    assert desk.job_row(other) is not None


def test_poison_that_was_never_out_is_a_dead_letter(desk):
    """A job that keeps failing before any call ends as failed, reason poison."""
    job = desk.accepted()

    assert desk.run(Discard("email", job.id, desk.now)) is True

    record = desk.record_row(job)
    assert (record["status"], record["reason"]) == ("failed", "poison")
    assert desk.counts() == {"accepted": 1, "failed": 1}


@pytest.mark.parametrize("is_out", [True, False])
def test_poison_that_some_provider_may_have_is_unknown(desk, is_out):
    """`failed` means that no provider can have it."""
    job = desk.sending()
    if not is_out:
        desk.run(desk.deferral(job, is_doubtful=True))

    desk.run(Discard("email", job.id, desk.now))

    record = desk.record_row(job)
    assert (record["status"], record["reason"]) == ("unknown", "poison")


def test_the_call_of_poison_that_was_out_is_kept(desk):
    """Its receipt has to find it, and no later call may have its number."""
    job = desk.sending()

    desk.run(Discard("email", job.id, desk.now))

    [call] = desk.rows("SELECT number, provider, outcome, reason FROM provider_calls")
    assert call == {"number": 1, "provider": "alpha", "outcome": "unknown", "reason": "poison"}
    assert desk.record_row(job)["provider"] == "alpha"


def test_discarding_twice_changes_nothing(desk):
    """The second finds no job."""
    job = desk.accepted()
    desk.run(Discard("email", job.id, desk.now))

    assert desk.run(Discard("email", job.id, desk.now)) is False
    assert desk.counts() == {"accepted": 1, "failed": 1}
