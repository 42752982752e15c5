"""What a process that died left behind."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from clarion.domain.notification import Delivery, JobState
from clarion.storage.command import Promote, Sweep
from clarion.storage.recount import recount
from clarion.storage.sweep import MAX_DEATHS


def test_a_call_of_a_dead_process_goes_on_marked_as_doubtful(desk):
    """at_least_once: ready again at once, restarts counted apart from attempts, call kept."""
    job = desk.sending()
    desk.now += 30.0

    assert desk.run(Sweep("", desk.now)) == 1

    [loaded] = desk.load().ready[job.priority]
    assert (loaded.state, loaded.is_doubtful, loaded.sending) == (JobState.READY, True, None)
    assert (loaded.restarts, loaded.attempt, loaded.call) == (1, 0, 1)
    [call] = desk.rows("SELECT * FROM provider_calls")
    assert (call["provider"], call["outcome"], call["reason"]) == (
        "alpha",
        "unknown",
        "process_died",
    )
    assert desk.counts() == {"accepted": 1, "queued": 1}


def test_a_call_of_a_dead_process_parks_what_may_go_out_once_only(desk):
    """at_most_once: nobody knows whether it is out, so a person or a receipt decides."""
    job = desk.sending(delivery=Delivery.AT_MOST_ONCE)

    desk.run(Sweep("", desk.now))

    record = desk.record_row(job)
    assert (record["status"], record["reason"]) == ("unknown", "unknown_outcome")
    assert record["provider"] == "alpha"
    assert desk.job_row(job) is None
    assert desk.counts() == {"accepted": 1, "unknown": 1}


def test_what_was_out_at_every_death_is_suspected_in_the_end(desk):
    """It may be what kills the process, which would start and die for ever; a person decides."""
    job = desk.sending()
    for deaths in range(1, MAX_DEATHS):
        desk.run(Sweep("", desk.now))
        assert desk.job_row(job)["restarts"] == deaths
        desk.intend(job, deaths + 1)

    with capture_logs() as logs:
        desk.run(Sweep("", desk.now))

    record = desk.record_row(job)
    assert (record["status"], record["reason"]) == ("unknown", "poison")
    assert f"died {MAX_DEATHS} times" in record["detail"]
    assert desk.job_row(job) is None
    assert desk.counts() == {"accepted": 1, "unknown": 1}
    assert [entry["event"] for entry in logs] == ["job_suspected"]
    assert recount(desk.store.connection) == []


def test_the_next_intent_after_a_sweep_is_marked_as_a_possible_duplicate(desk):
    """A death with a call in flight is one of the two ways to a second send."""
    job = desk.sending()
    desk.run(Sweep("", desk.now))

    desk.intend(job, 2)

    assert desk.job_row(job)["possibly_duplicated"] == 1


def test_a_clock_that_was_set_back_while_nobody_ran_holds_no_retry(desk):
    """What was accepted last tells how late it was; a `send_at` is an instant, and stays."""
    retried = desk.sending()
    desk.run(desk.deferral(retried, due_at=desk.now + 30.0))
    later = desk.accepted(due_at=desk.now + 500.0, state=JobState.SCHEDULED)
    desk.now -= 3600.0

    with capture_logs() as logs:
        desk.run(Sweep("", desk.now))

    assert desk.job_row(retried)["due_at"] == pytest.approx(desk.now + 30.0, abs=1.0)
    assert desk.job_row(later)["due_at"] == desk.now + 3600.0 + 500.0
    assert [entry["event"] for entry in logs] == ["clock_set_back"]


def test_a_clock_that_goes_on_moves_no_retry(desk):
    """A few seconds are left alone, here as while it runs."""
    retried = desk.sending()
    desk.run(desk.deferral(retried, due_at=desk.now + 30.0))
    due_at = desk.job_row(retried)["due_at"]

    for now in (desk.now - 4.0, desk.now, desk.now + 10.0):
        desk.run(Sweep("", now))

    assert desk.job_row(retried)["due_at"] == due_at


def test_sweeping_covers_all_lanes_and_spares_what_waits(desk):
    """Only rows with an intent are touched, in every channel."""
    desk.sending()
    desk.sending(channel="sms")
    waiting = desk.accepted()
    before = desk.job_row(waiting)

    assert desk.run(Sweep("", desk.now)) == 2
    assert desk.run(Sweep("", desk.now)) == 0
    assert desk.job_row(waiting) == before


def test_stamps_behind_everything_that_waits_are_forgotten(desk):
    """`max(V, last)` is V for them; the table does not grow with every tenant ever seen."""
    desk.accepted(flow="done", vt=3.0)
    [gone] = desk.load().ready[2]
    desk.intend(gone)
    desk.run(desk.settlement(gone))
    desk.accepted(flow="busy", vt=5.0)
    desk.accepted(flow="ahead", vt=9.0)

    desk.run(Sweep("", desk.now))

    assert desk.load().flows == {(2, "ahead"): 9.0}


def test_the_greatest_stamp_stays_where_nothing_waits(desk):
    """It is where the order of an empty lane goes on, before retries that still have a time."""
    retry = desk.sending(flow="a", vt=4.0)
    desk.run(desk.deferral(retry, due_at=desk.now + 5.0))
    other = desk.sending(flow="b", vt=8.0)
    desk.run(desk.settlement(other))

    desk.run(Sweep("", desk.now))

    assert desk.load().flows == {(2, "b"): 8.0}
    assert desk.run(Promote("email", [retry], desk.now)) == [retry]


@pytest.mark.parametrize("spoil", ["state = 99", "priority = 42", "state = -1"])
def test_a_job_that_no_lane_would_find_is_ended_as_poison(desk, spoil):
    """It stands in none of the indices that are asked, so it would wait for ever."""
    job, other = desk.accepted(), desk.accepted()
    desk.execute(f"UPDATE jobs SET {spoil} WHERE id = ?", job.id)

    with capture_logs() as logs:
        desk.run(Sweep("", desk.now))

    assert (desk.record_row(job)["status"], desk.record_row(job)["reason"]) == ("failed", "poison")
    assert [each["notification_id"] for each in logs] == [job.id]
    assert desk.job_row(other) is not None
    assert recount(desk.connection) == []
