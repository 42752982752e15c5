"""Dead letters go back into their lane, each once, and what people decide is written down."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Priority, Status
from clarion.domain.receipt import Receipt
from clarion.domain.redrive import DeadFilter, RedrivePart, RedriveState
from clarion.storage import dead_letter
from clarion.storage.command import Cancel, Receive
from clarion.storage.reader import Reader
from clarion.storage.redrive_command import (
    BeginRedrive,
    CancelRedrive,
    DiscardDead,
    LoadRedrives,
    RedriveSome,
    ResolveAsRetry,
    ResolveAsSent,
    Revival,
)

ID = "redrive-1"


def dead(desk, reason="exhausted", **fields):
    """A notification that failed after one call."""
    job = desk.sending(**fields)
    record = desk.record(job, outcome="transient", reason="http_500", detail="it broke")
    desk.run(desk.settlement(job, status=Status.FAILED, reason=reason, record=record))
    return job


def unknown(desk):
    """A notification that some provider may have."""
    job = desk.sending()
    desk.run(desk.settlement(job, status=Status.UNKNOWN, reason="unknown_outcome"))
    return job


def begin(desk, matched=0, channel="email", id=ID, **wanted):
    """Remember a redrive of one lane, a second from now, so that all so far are meant."""
    desk.now += 1.0
    part = RedrivePart(
        id, channel, DeadFilter(**wanted), 10.0, RedriveState.RUNNING, matched, 0, 0, "ada",
        desk.now, desk.now,
    )  # fmt: skip
    desk.run(BeginRedrive("", [part]))
    return part


def some(desk, limit=10, vt=1.0, channel="email", id=ID):
    """Move some."""
    revival = Revival(f"redrive:{id}", vt, desk.now + 500.0, desk.now)
    return desk.run(RedriveSome(channel, id, limit, revival))


def progress(desk):
    """Return the part as it stands on disk."""
    (row,) = desk.rows("SELECT * FROM redrives")
    return row["state"], row["matched"], row["moved"], row["skipped"]


def test_a_dead_letter_comes_back_with_all_attempts_and_a_time_of_its_own(desk):
    """Fresh attempts, nothing tried, another expiry; its calls are counted on."""
    job = dead(desk, priority=Priority.CRITICAL, tenant="acme")
    begin(desk, matched=1)

    found = some(desk)

    (back,) = found.jobs
    assert (back.id, back.attempt, back.tried, back.call, back.tenant) == (job.id, 0, (), 1, "acme")
    row = desk.job_row(job)
    assert (row["expires_at"], row["is_expiry_explicit"]) == (desk.now + 500.0, 1)
    assert (row["state"], row["is_doubtful"], row["possibly_duplicated"]) == (0, 0, 0)
    record = desk.record_row(job)
    assert (record["status"], record["reason"], record["attempts"]) == ("queued", None, 0)
    assert record["expires_at"] == desk.now + 500.0
    assert desk.counts() == {"accepted": 1, "queued": 1}


@pytest.mark.parametrize("is_told", [False, True])
def test_one_that_a_provider_told_of_comes_back_marked(desk, is_told):
    """It said 500 and had the message all the same: to send it again may double it."""
    job = dead(desk)
    if is_told:
        told = Receipt(job.id, "alpha", "delivered", "key", desk.now, Status.DELIVERED)
        desk.run(Receive("email", [told], desk.now))
    begin(desk, matched=1)

    [revived] = some(desk).jobs

    assert (revived.is_doubtful, revived.possibly_duplicated) == (is_told, is_told)
    assert desk.job_row(job)["possibly_duplicated"] == is_told
    assert desk.record_row(job)["possibly_duplicated"] == is_told


def test_it_waits_in_a_flow_of_its_own_behind_everything_fresh(desk):
    """Of low priority, whatever it had, one turn after another; its record keeps its own."""
    jobs = [dead(desk, priority=Priority.HIGH) for _ in range(3)]
    begin(desk, matched=3)

    first, second = some(desk, limit=2, vt=7.0), some(desk, limit=2, vt=7.0)

    stamps = [(job.flow, job.priority, job.vt) for job in (*first.jobs, *second.jobs)]
    assert stamps == [("redrive:redrive-1", Priority.LOW, vt) for vt in (7.0, 8.0, 10.0)]
    assert desk.record_row(jobs[0])["priority"] == Priority.HIGH
    assert desk.load().flows[Priority.LOW, "redrive:redrive-1"] == 10.0


def test_it_goes_through_them_once_the_oldest_death_first(desk):
    """The cursor moves with them; at the end the part is done."""
    jobs = [dead(desk) for _ in range(5)]
    begin(desk, matched=5)

    moved = [some(desk, limit=2) for _ in range(3)]

    assert [job.id for found in moved for job in found.jobs] == [job.id for job in jobs]
    assert [found.state for found in moved] == ["running", "running", "done"]
    assert progress(desk) == ("done", 5, 5, 0)
    assert some(desk).jobs == []
    assert desk.counts() == {"accepted": 5, "queued": 5}


def test_what_dies_again_meanwhile_is_not_redriven_again(desk):
    """A redrive ends, whatever becomes of what it moves."""
    job = dead(desk)
    begin(desk, matched=1)
    some(desk, limit=1)
    desk.intend(job, number=2)
    desk.run(desk.settlement(job, number=2, status=Status.FAILED, reason="exhausted"))

    found = some(desk, limit=1)

    assert (found.state, found.jobs) == (RedriveState.DONE, [])
    assert desk.counts() == {"accepted": 1, "failed": 1}


@pytest.mark.parametrize(
    "wanted", [{"reason": "recipient"}, {"provider": "beta"}, {"since": 10.0}, {"until": 5.0}]
)
def test_only_what_the_filter_names_is_moved(desk, wanted):
    """By reason, by the last provider, by the time of the death; `since` is in, `until` is not."""
    at = desk.now
    other = dead(desk, reason="permanent")
    desk.now += 10.0
    job = desk.sending()
    record = desk.record(job, provider="beta")
    desk.run(desk.settlement(job, status=Status.FAILED, reason="recipient", record=record))
    times = {name: at + value for name, value in wanted.items() if isinstance(value, float)}
    begin(desk, matched=1, **(wanted | times))

    found = some(desk)

    assert [each.id for each in found.jobs] == [other.id if "until" in wanted else job.id]


def test_a_part_moves_what_is_of_its_lane(desk):
    """The others have parts of their own."""
    dead(desk)
    sms = dead(desk, channel="sms")
    begin(desk, matched=1, channel="sms")

    assert [job.id for job in some(desk, channel="sms").jobs] == [sms.id]
    assert desk.counts("email") == {"accepted": 1, "failed": 1}


def test_a_step_looks_at_a_bounded_number(desk, monkeypatch):
    """A filter that few match holds up nobody: it takes more steps instead."""
    monkeypatch.setattr(dead_letter, "SCANNED_AT_ONCE", 2)
    for _ in range(4):
        dead(desk, reason="permanent")
    job = dead(desk, reason="recipient")
    begin(desk, matched=1, reason="recipient")

    steps = [some(desk) for _ in range(3)]

    assert [len(found.jobs) for found in steps] == [0, 0, 1]
    assert steps[2].jobs[0].id == job.id
    assert steps[2].state is RedriveState.DONE


def test_a_cancelled_redrive_moves_no_more(desk):
    """What it moved goes on; cancelling twice is cancelling once."""
    for _ in range(2):
        dead(desk)
    begin(desk, matched=2)
    some(desk, limit=1)

    cancelled = [desk.run(CancelRedrive("", ID, desk.now)) for _ in range(2)]

    assert cancelled == [1, 0]
    assert some(desk).jobs == []
    assert progress(desk) == ("cancelled", 2, 1, 0)
    assert desk.counts() == {"accepted": 2, "failed": 1, "queued": 1}
    assert desk.run(LoadRedrives("")) == []


def test_a_redrive_that_is_begun_twice_is_begun_once(desk):
    """A redelivered command must not set it back."""
    dead(desk)
    part = begin(desk, matched=1)
    some(desk)

    desk.run(BeginRedrive("", [part]))

    assert progress(desk) == ("done", 1, 1, 0)


def test_what_runs_goes_on_in_the_next_process_where_it_stood(desk, open_desk):
    """The table is the truth: nothing is moved twice, nothing left out."""
    jobs = [dead(desk) for _ in range(4)]
    begin(desk, matched=4)
    some(desk, limit=3)
    desk.store.close()

    later = open_desk()
    later.now = desk.now
    (part,) = later.run(LoadRedrives(""))
    found = some(later)

    assert (part.moved, part.who) == (3, "ada")
    assert [job.id for job in found.jobs] == [jobs[3].id]
    assert later.counts() == {"accepted": 4, "queued": 4}


def test_a_step_that_is_rolled_back_moved_nothing(desk):
    """Jobs, records, counts and cursor change together or not at all."""
    job = dead(desk)
    begin(desk, matched=1)
    desk.store.begin()
    desk.store.apply(
        RedriveSome("email", ID, 1, Revival("redrive:x", 1.0, desk.now + 1.0, desk.now))
    )
    desk.store.rollback()

    assert progress(desk) == ("running", 1, 0, 0)
    assert desk.job_row(job) is None
    assert [each.id for each in some(desk).jobs] == [job.id]


def test_a_record_that_cannot_be_read_is_skipped(desk):
    """It would die again at once; it stays where a person can look at it."""
    spoilt, good = dead(desk), dead(desk)
    desk.execute("UPDATE notifications SET content = '{' WHERE id = ?", spoilt.id)
    begin(desk, matched=2)

    found = some(desk)

    assert [job.id for job in found.jobs] == [good.id]
    assert progress(desk) == ("done", 2, 1, 1)
    assert desk.counts() == {"accepted": 2, "failed": 1, "queued": 1}


@pytest.mark.parametrize("is_named", [False, True])
def test_a_spoilt_text_of_one_does_not_stop_the_others(desk, is_named):
    """A redrive and a discard go on past it, and take it along where it can be read."""
    spoilt, good = dead(desk), dead(desk)
    spoil = "UPDATE notifications SET provider = CAST(x'ff' AS TEXT) WHERE id = ?"
    desk.execute(spoil, spoilt.id)
    ids = tuple(sorted([spoilt.id, good.id])) if is_named else None
    begin(desk, matched=2, ids=ids)

    [first] = some(desk, limit=1).jobs
    gone = desk.run(DiscardDead("", DeadFilter(ids=ids), (-1.0, ""), "ada", desk.now))

    assert first.id in (spoilt.id, good.id)
    assert (gone.n, gone.after) == (1, None)


def test_what_is_discarded_stays_failed_and_is_not_redriven(desk):
    """It is put aside: listed, counted and moved no more."""
    job = dead(desk)
    keep = dead(desk, reason="recipient")
    desk.now += 1.0

    gone = desk.run(DiscardDead("", DeadFilter(reason="exhausted"), (-1.0, ""), "ada", desk.now))
    again = desk.run(DiscardDead("", DeadFilter(reason="exhausted"), (-1.0, ""), "ada", desk.now))
    begin(desk, matched=1)

    assert (gone.n, gone.after, again.n) == (1, None, 0)
    assert desk.record_row(job)["discarded_at"] == desk.now - 1.0
    assert [each.id for each in some(desk).jobs] == [keep.id]
    assert desk.counts() == {"accepted": 2, "failed": 1, "queued": 1}


def test_those_that_are_named_are_moved_and_no_others(desk):
    """In the order of their ids, each once, over as many turns and lanes as it takes."""
    jobs = [dead(desk) for _ in range(4)]
    other = dead(desk, channel="sms")
    discarded, *named = sorted([jobs[3].id, jobs[1].id, jobs[0].id])
    desk.now += 1.0
    desk.run(DiscardDead("", DeadFilter(ids=(discarded,)), (-1.0, ""), "ada", desk.now))
    begin(desk, matched=2, ids=(*sorted([discarded, *named, other.id]), "nobody"))

    turns = [[job.id for job in some(desk, limit=1).jobs] for _ in range(3)]

    assert turns == [[named[0]], [named[1]], []]
    assert progress(desk) == ("done", 2, 2, 0)
    assert desk.counts() == {"accepted": 4, "failed": 2, "queued": 2}
    assert desk.counts("sms") == {"accepted": 1, "failed": 1}


def test_discarding_those_that_are_named_leaves_the_others(desk):
    """One step is enough, whatever else is dead."""
    job, other = dead(desk), dead(desk)
    named = DeadFilter(ids=(job.id, "nobody"))

    gone = desk.run(DiscardDead("", named, (-1.0, ""), "ada", desk.now))

    assert (gone.n, gone.after) == (1, None)
    assert desk.record_row(job)["discarded_at"] == desk.now
    assert desk.record_row(other)["discarded_at"] is None


def test_discarding_goes_through_many_in_bounded_steps(desk, monkeypatch):
    """Each answer says where to go on."""
    monkeypatch.setattr(dead_letter, "SCANNED_AT_ONCE", 2)
    for _ in range(5):
        dead(desk)
    desk.now += 1.0
    after, counts = (-1.0, ""), []

    while after is not None:
        step = desk.run(DiscardDead("", DeadFilter(), after, "ada", desk.now))
        counts.append(step.n)
        after = step.after

    assert counts == [2, 2, 1]


def test_a_resolved_one_is_sent_on_a_persons_word(desk):
    """The counts follow; what is not unknown is left alone."""
    job, other = unknown(desk), dead(desk)

    done = desk.run(ResolveAsSent("email", job.id, "ada", desk.now))
    no = desk.run(ResolveAsSent("email", other.id, "ada", desk.now))
    missing = desk.run(ResolveAsSent("email", "nobody", "ada", desk.now))

    assert (done.is_resolved, done.status) == (True, Status.SENT)
    assert (no.is_resolved, no.status) == (False, Status.FAILED)
    assert (missing.is_resolved, missing.status) == (False, None)
    record = desk.record_row(job)
    assert (record["status"], record["reason"], record["provider"]) == ("sent", None, "alpha")
    assert desk.counts() == {"accepted": 2, "sent": 1, "failed": 1}


def test_one_that_is_sent_again_on_a_persons_word_is_marked(desk):
    """Some provider may have it: whatever becomes of it now, that stays said."""
    job = unknown(desk)
    revival = Revival("", 4.0, desk.now + 100.0, desk.now)

    done = desk.run(ResolveAsRetry("email", job.id, "ada", revival))
    again = desk.run(ResolveAsRetry("email", job.id, "ada", revival))

    assert (done.is_resolved, again.is_resolved) == (True, False)
    assert (done.job.call, done.job.is_doubtful, done.job.priority) == (1, True, job.priority)
    assert desk.job_row(job)["possibly_duplicated"] == 1
    assert desk.counts() == {"accepted": 1, "queued": 1}
    cancelled = desk.run(Cancel("email", job.id, desk.now))
    assert cancelled.status is Status.UNKNOWN


async def test_readers_see_what_was_done_and_by_whom(desk, snapshots):
    """The old calls stay in the story, with what people did between them."""
    job = dead(desk)
    begin(desk, matched=1, reason="exhausted")
    reader = Reader(snapshots)

    counted = await reader.count_dead_letters(DeadFilter(reason="exhausted"))
    some(desk)
    found = await reader.get(job.id)
    redrive = await reader.redrive(ID)
    listed = await reader.redrives()
    missing = await reader.redrive("none")
    reader.close()

    assert counted == {"email": 1}
    assert [call.reason for call in found.calls] == ["http_500"]
    assert [(done.event, done.who) for done in found.interventions] == [("redriven", "ada")]
    assert (redrive.id, redrive.state, redrive.parts[0].moved) == (ID, RedriveState.DONE, 1)
    assert redrive.parts[0].wanted == DeadFilter(reason="exhausted")
    assert listed == [redrive]
    assert missing is None


async def test_readers_count_and_show_what_is_named(desk, snapshots):
    """By lane; what is no dead letter counts for nothing."""
    job, other = dead(desk), dead(desk, channel="sms")
    wanted = DeadFilter(ids=tuple(sorted([job.id, other.id, "nobody"])))
    begin(desk, ids=wanted.ids)
    reader = Reader(snapshots)

    counted = await reader.count_dead_letters(wanted)
    redrive = await reader.redrive(ID)
    reader.close()

    assert counted == {"email": 1, "sms": 1}
    assert redrive.parts[0].wanted == wanted
