"""What a Queue loads, in the order of the writes."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Priority
from clarion.storage.command import Load, LoadTimers, Promote, Refill, SetControl


def test_a_head_is_loaded_per_priority_in_order(desk):
    """By (vt, id), at most `head` each, with a word on what is left behind."""
    late = desk.accepted(vt=9.0)
    first, second = desk.accepted(vt=1.0), desk.accepted(vt=1.0)
    urgent = desk.accepted(priority=Priority.CRITICAL, vt=50.0)

    lane = desk.load(head=2)

    assert [job.id for job in lane.ready[Priority.NORMAL]] == [first.id, second.id]
    assert [job.id for job in lane.ready[Priority.CRITICAL]] == [urgent.id]
    assert lane.is_spilled == {0: False, 1: False, 2: True, 3: False}
    assert late.id not in {job.id for job in lane.ready[Priority.NORMAL]}


def test_a_load_sees_what_its_own_batch_wrote(desk):
    """Ordered behind all that its forerunner asked, counts and stamps included."""
    job = desk.job(flow="acme", vt=4.0)

    *_, lane = desk.run_together([desk.acceptance(job), Load("email", 10, desk.now, 10)])

    assert [ready.id for ready in lane.ready[Priority.NORMAL]] == [job.id]
    assert lane.depth == {"scheduled": 0, "queued": 1, "sending": 0}
    assert lane.flows == {(2, "acme"): 4.0}


def test_a_load_names_the_calls_that_may_be_out(desk):
    """With provider, number and since when."""
    job = desk.sending()

    lane = desk.load()

    [loaded] = lane.sending
    assert (loaded.id, loaded.call, loaded.sending) == (job.id, 1, "alpha")
    assert loaded.sending_since == desk.now
    assert lane.depth["sending"] == 1


def test_a_load_brings_the_timers_of_the_near_future_and_the_next_instant(desk):
    """Earliest first; the first that is not loaded says when to load again."""
    for delay in (5.0, 3.0, 90.0):
        desk.accept(desk.scheduled(desk.now + delay))

    lane = desk.load()

    assert [job.due_at - desk.now for job in lane.timed] == [3.0, 5.0]
    assert lane.next_timer_at == desk.now + 90.0


def test_timers_beyond_the_limit_are_announced(desk):
    """Equal due times do not hide one another."""
    for _ in range(3):
        desk.accept(desk.scheduled(desk.now + 5.0))

    jobs, next_at, _ = desk.run(LoadTimers("email", desk.now + 60.0, 2))

    assert len(jobs) == 2
    assert next_at == desk.now + 5.0


def test_no_timer_is_announced_when_all_are_loaded(desk):
    """None means that nothing is left to wait for."""
    desk.accept(desk.scheduled(desk.now + 5.0))

    jobs, next_at, _ = desk.run(LoadTimers("email", desk.now + 60.0, 2))

    assert (len(jobs), next_at) == (1, None)


def test_a_refill_goes_on_behind_the_tail(desk):
    """Rows that share the stamp of the tail are told apart by their id."""
    jobs = [desk.accepted(vt=1.0 + position // 2) for position in range(6)]

    page = desk.run(Refill("email", 2, (jobs[2].vt, jobs[2].id), 2))
    rest = desk.run(Refill("email", 2, (jobs[4].vt, jobs[4].id), 2))

    assert ([job.id for job in page.jobs], page.is_spilled) == ([jobs[3].id, jobs[4].id], True)
    assert ([job.id for job in rest.jobs], rest.is_spilled) == ([jobs[5].id], False)


def test_a_refill_without_a_tail_starts_at_the_head(desk):
    """An empty memory has no tail to go on behind."""
    job = desk.accepted(vt=-5.0)

    page = desk.run(Refill("email", 2, None, 10))

    assert ([each.id for each in page.jobs], page.is_spilled) == ([job.id], False)


def test_lanes_do_not_see_each_other(desk):
    """A load is of one channel."""
    desk.accepted(channel="sms")
    desk.sending(channel="sms")

    lane = desk.load("email")

    assert not any(lane.ready.values())
    assert (lane.sending, lane.flows, lane.depth["queued"]) == ([], {}, 0)


def test_a_paused_lane_is_still_paused_after_a_restart(desk, open_desk):
    """An operator's decision outlives the process; the last word counts."""
    desk.run(SetControl("email", "lane", "email", "running", "ada", desk.now))
    desk.run(SetControl("email", "lane", "email", "paused", "ada", desk.now))
    desk.store.close()

    reopened = open_desk()

    assert reopened.load("email").is_paused
    assert not reopened.load("sms").is_paused


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("notifications", "content", "{not json"),
        ("notifications", "content", "[1]"),
        ("notifications", "content", '{"text": 5}'),
        ("notifications", "metadata", "[]"),
        ("notifications", "metadata", "[" * 100_000),
        ("jobs", "tried", '{"a": 1}'),
        ("jobs", "delivery", "sometimes"),
        ("jobs", "call", 2**31 - 1),
        ("jobs", "call", -1),
        ("jobs", "attempt", 2**31 - 1),
    ],
)
@pytest.mark.parametrize("read", ["load", "refill", "timers"])
def test_a_row_that_cannot_be_read_ends_as_poison_and_stops_no_lane(
    desk, read, table, column, value
):
    """Never a crash: the others are loaded, the spoilt one is a dead letter of the same commit."""
    make = _scheduled if read == "timers" else desk.accepted
    good, bad = (make(desk) if read == "timers" else make() for _ in range(2))
    desk.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", value, bad.id)

    jobs = _read(desk, read)

    assert [job.id for job in jobs] == [good.id]
    record = desk.record_row(bad)
    assert (record["status"], record["reason"]) == ("failed", "poison")
    assert desk.job_row(bad) is None
    assert desk.counts()["failed"] == 1


def test_a_text_that_is_no_utf8_is_poison_as_well(desk):
    """The driver refuses such a row as a whole; it must not hide the rows beside it."""
    good, bad = desk.accepted(), desk.accepted()
    spoil = "UPDATE notifications SET content = CAST(x'7b22ff227d' AS TEXT) WHERE id = ?"
    desk.execute(spoil, bad.id)

    lane = desk.load()

    assert [job.id for job in lane.ready[Priority.NORMAL]] == [good.id]
    assert lane.undecodable == [bad.id]


def test_a_job_without_its_record_is_ended(desk):
    """It can never be sent, and must not be loaded for ever."""
    job = desk.accepted()
    desk.execute("DELETE FROM notifications WHERE id = ?", job.id)

    lane = desk.load()

    assert lane.undecodable == [job.id]
    assert lane.depth["queued"] == 0
    assert desk.job_row(job) is None


def test_a_timer_in_a_state_that_does_not_exist_is_ended(desk):
    """It is counted as what waits, so that the counts stay the sum of the rows."""
    job = _scheduled(desk)
    desk.run(Promote("email", [job], desk.now))
    spoil = "UPDATE jobs SET state = 9, due_at = ? WHERE id = ?"
    desk.execute(spoil, desk.now, job.id)

    lane = desk.load()

    assert lane.undecodable == [job.id]
    assert desk.counts() == {"accepted": 1, "failed": 1}


def test_a_read_without_writes_passes_over_what_it_cannot_end(desk):
    """While the disk is full the others load; the spoilt row is ended by a later load."""
    good, bad = desk.accepted(), desk.accepted()
    desk.execute("UPDATE jobs SET tried = '{' WHERE id = ?", bad.id)

    lane = desk.store.read(Load("email", 10, desk.now, 10))

    assert [job.id for job in lane.ready[Priority.NORMAL]] == [good.id]
    assert lane.undecodable == []
    assert desk.job_row(bad) is not None
    assert desk.load().undecodable == [bad.id]


def _scheduled(desk):
    job = desk.scheduled(desk.now + 5.0)
    desk.accept(job)
    return job


def _read(desk, read):
    if read == "load":
        return desk.load().ready[Priority.NORMAL]
    if read == "refill":
        return desk.run(Refill("email", 2, None, 10)).jobs
    return desk.run(LoadTimers("email", desk.now + 60.0, 10))[0]
