"""Tx2 and Tx3: conditional on id and call, so that late and repeated writes change nothing."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Call, JobState, Status
from clarion.storage.command import Intend, Promote


def test_an_intent_notes_the_provider_and_raises_the_call_number(desk):
    """After Tx2 the disk knows that the call may be out, and where."""
    job = desk.accepted()

    matched = desk.intend(job, provider="beta")

    assert [call.key for call in matched] == [(job.id, 1)]
    row = desk.job_row(job)
    assert (row["state"], row["call"], row["sending"]) == (JobState.SENDING, 1, "beta")
    assert row["sending_since"] == desk.now
    assert desk.counts() == {"accepted": 1, "sending": 1}


def test_an_intent_written_twice_matches_once(desk):
    """The second of two equal intents finds the row sending."""
    job = desk.accepted()
    desk.intend(job)

    assert desk.intend(job) == []
    assert desk.counts() == {"accepted": 1, "sending": 1}


@pytest.mark.parametrize("number", [0, 2, 3])
def test_an_intent_with_a_wrong_number_changes_nothing(desk, number):
    """Only the next number after the row's own call is an intent."""
    job = desk.accepted()
    before = desk.job_row(job)

    assert desk.intend(job, number) == []
    assert desk.job_row(job) == before


def test_intents_of_one_command_match_each_for_itself(desk):
    """A call whose row is gone does not take the others with it."""
    kept, gone = desk.accepted(), desk.job()

    matched = desk.run(Intend("email", [Call(gone, 1, "a"), Call(kept, 1, "a")], desk.now))

    assert [call.job for call in matched] == [kept]


@pytest.mark.parametrize("is_doubtful", [False, True])
def test_an_intent_behind_an_unknown_call_is_marked(desk, is_doubtful):
    """No silent duplicate: a call after an unresolved UNKNOWN marks the notification."""
    job = desk.sending()
    desk.run(desk.deferral(job, is_doubtful=is_doubtful))

    desk.intend(job, 2)

    assert bool(desk.job_row(job)["possibly_duplicated"]) is is_doubtful


def test_an_intent_takes_a_timed_or_scheduled_row_as_well(desk):
    """The memory of the lane may be ahead of the disk; the count leaves the right status."""
    timed, scheduled = desk.sending(), desk.scheduled(desk.now + 5.0)
    desk.accept(scheduled)
    desk.run(desk.deferral(timed, due_at=desk.now + 5.0, waiting="retry"))

    assert desk.intend(timed, 2)
    assert desk.intend(scheduled)

    assert desk.counts() == {"accepted": 2, "sending": 2}
    assert desk.job_row(scheduled)["due_at"] is None


def test_a_settlement_ends_everything_at_once(desk):
    """The job goes, the record says how it ended, the call is kept, the counts move."""
    job = desk.sending()
    desk.now += 2.0

    assert desk.run(desk.settlement(job, detail="taken")) is True

    assert desk.job_row(job) is None
    record = desk.record_row(job)
    assert (record["status"], record["provider"], record["attempts"]) == ("sent", "alpha", 1)
    assert (record["updated_at"], record["detail"]) == (desk.now, "taken")
    [call] = desk.rows("SELECT * FROM provider_calls")
    assert (call["notification_id"], call["number"], call["outcome"]) == (job.id, 1, "accepted")
    assert desk.counts() == {"accepted": 1, "sent": 1}


def test_a_settlement_written_twice_counts_once(desk):
    """The second settlement finds no row and says so."""
    job = desk.sending()
    settlement = desk.settlement(job)
    desk.run(settlement)

    assert desk.run(settlement) is False
    assert desk.counts() == {"accepted": 1, "sent": 1}


def test_a_settlement_of_an_older_call_changes_nothing(desk):
    """The number fences off late answers: the job is with another call by now."""
    job = desk.sending()
    desk.run(desk.deferral(job))
    desk.intend(job, 2)

    assert desk.run(desk.settlement(job, 1)) is False

    assert desk.job_row(job)["call"] == 2
    assert desk.rows("SELECT * FROM provider_calls") == []
    assert desk.counts() == {"accepted": 1, "sending": 1}


def test_an_end_without_a_call_spares_a_call_that_is_out(desk):
    """Expiry never interrupts a call: with no number, only a waiting row ends."""
    waiting, out = desk.accepted(), desk.sending()

    assert desk.run(desk.settlement(waiting, None, Status.EXPIRED, "expired")) is True
    assert desk.run(desk.settlement(out, None, Status.EXPIRED, "expired")) is False

    assert desk.counts() == {"accepted": 2, "expired": 1, "sending": 1}


def test_an_end_without_a_call_names_the_last_provider(desk):
    """Who had it last is still said when no call ended it."""
    job = desk.sending()
    desk.run(desk.deferral(job, record=desk.record(job, outcome="transient")))

    desk.run(desk.settlement(job, None, Status.EXPIRED, "expired"))

    assert desk.record_row(job)["provider"] == "alpha"


@pytest.mark.parametrize(
    ("outcome", "attempts"),
    [("accepted", 3), ("transient", 3), ("unknown", 3), ("throttled", 2), ("misconfigured", 2)],
)
def test_the_call_that_ends_it_is_an_attempt_if_its_outcome_burns_one(desk, outcome, attempts):
    """Two burnt before, and the walk that ends it counts unless the provider was not asked."""
    job = desk.sending(attempt=2)
    record = desk.record(job, outcome=outcome)

    desk.run(desk.settlement(job, 1, Status.CANCELLED, "cancelled", record=record))

    assert desk.record_row(job)["attempts"] == attempts


@pytest.mark.parametrize("outcome", ["transient", "throttled", "misconfigured"])
def test_an_exhausted_one_had_all_its_attempts_whatever_the_last_call_came_to(desk, outcome):
    """An earlier call of its last walk burnt, or there would have been another one."""
    job = desk.sending(attempt=4)
    record = desk.record(job, outcome=outcome)

    desk.run(desk.settlement(job, 1, Status.FAILED, "exhausted", record=record))

    assert desk.record_row(job)["attempts"] == 5


def test_one_that_is_exhausted_while_it_waits_had_all_its_attempts(desk):
    """The rest of its route shut, and its last walk is over without another call."""
    job = desk.accepted(attempt=4)

    desk.run(desk.settlement(job, None, Status.FAILED, "exhausted"))

    assert desk.record_row(job)["attempts"] == 5


def test_the_mark_of_a_possible_duplicate_stays_with_the_record(desk):
    """The row of the job is where the mark was made; its record keeps it."""
    job = desk.sending()
    desk.run(desk.deferral(job, is_doubtful=True))
    desk.intend(job, 2)

    desk.run(desk.settlement(job, 2))

    assert desk.record_row(job)["possibly_duplicated"] == 1


def test_a_deferral_without_a_due_time_makes_the_job_ready(desk):
    """Now, for the next provider: back to its place in the lane, with its progress."""
    job = desk.sending(vt=3.0)

    assert desk.run(desk.deferral(job, tried=("alpha", "beta"), probes=1, bugs=2)) is not None

    row = desk.job_row(job)
    assert (row["state"], row["due_at"], row["sending"]) == (JobState.READY, None, None)
    assert (row["vt"], row["probes"], row["bugs"], row["call"]) == (3.0, 1, 2, 1)
    [loaded] = desk.load().ready[job.priority]
    assert loaded.tried == ("alpha", "beta")
    assert desk.counts() == {"accepted": 1, "queued": 1}


def test_a_deferral_with_a_due_time_makes_the_job_wait(desk):
    """Waiting is a durable due time, never a sleep."""
    job = desk.sending()
    deferral = desk.deferral(
        job, due_at=desk.now + 9.0, attempt=1, waiting="retry", is_doubtful=True,
        is_walk_unknown=True, is_walk_burning=True, record=desk.record(job, outcome="transient"),
    )  # fmt: skip

    desk.run(deferral)

    [loaded] = desk.load().timed
    assert (loaded.state, loaded.due_at) == (JobState.TIMED, desk.now + 9.0)
    assert (loaded.attempt, loaded.waiting) == (1, "retry")
    assert loaded.is_doubtful and loaded.is_walk_unknown and loaded.is_walk_burning
    assert len(desk.rows("SELECT * FROM provider_calls")) == 1


def test_a_deferral_written_twice_changes_nothing(desk):
    """The row is not sending any more, whatever the second one says."""
    job = desk.sending()
    desk.run(desk.deferral(job))
    before = desk.job_row(job)

    again = desk.deferral(job, due_at=desk.now + 1.0, record=desk.record(job))

    assert desk.run(again) is None
    assert desk.job_row(job) == before
    assert desk.rows("SELECT * FROM provider_calls") == []
    assert desk.counts() == {"accepted": 1, "queued": 1}


def test_a_deferral_of_an_older_call_changes_nothing(desk):
    """A late answer to call 1 does not end call 2."""
    job = desk.sending()
    desk.run(desk.deferral(job))
    desk.intend(job, 2)

    assert desk.run(desk.deferral(job, 1)) is None
    assert desk.job_row(job)["sending"] == "alpha"


def test_a_timer_that_fell_due_makes_its_job_ready(desk):
    """A retry keeps its status, a scheduled one becomes queued; both get their stamp."""
    retry, scheduled = desk.sending(), desk.scheduled(desk.now + 5.0, flow="acme")
    desk.accept(scheduled)
    desk.run(desk.deferral(retry, due_at=desk.now + 5.0, waiting="retry"))
    scheduled.vt = 12.0

    promoted = desk.run(Promote("email", [retry, scheduled], desk.now))

    assert promoted == [retry, scheduled]
    assert [job.id for job in desk.load().ready[2]] == [retry.id, scheduled.id]
    assert desk.job_row(scheduled)["waiting"] is None
    assert desk.counts() == {"accepted": 2, "queued": 2}
    assert desk.load().flows[2, "acme"] == 12.0


def test_promoting_twice_changes_nothing(desk):
    """Only rows that still wait for their time match."""
    job = desk.scheduled(desk.now + 5.0)
    desk.accept(job)
    promotion = Promote("email", [job], desk.now)
    desk.run(promotion)

    assert desk.run(promotion) == []
    assert desk.counts() == {"accepted": 1, "queued": 1}


def test_promoting_spares_a_call_that_is_out(desk):
    """A timer that fires behind an intent does not take the job from its call."""
    job = desk.sending()

    assert desk.run(Promote("email", [job], desk.now)) == []
    assert desk.job_row(job)["state"] == JobState.SENDING
