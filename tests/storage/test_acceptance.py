"""Tx1: what is answered with 202 is there, once, and counted once."""

from __future__ import annotations

import json

import pytest

from clarion.domain.notification import Content, Priority
from clarion.storage.acceptance import KEY_LIFE_S, PURGED_AT_ONCE
from clarion.storage.command import Accept, AcceptedRow, ConflictRow, ReplayedRow


def test_an_accepted_draft_is_a_record_a_job_a_count_and_a_stamp(desk):
    """One Accept writes everything that the notification needs to be found, sent and counted."""
    job = desk.job(flow="acme", vt=7.0, tenant="acme", reference="o-1", metadata={"k": [1]})

    results = desk.accept(job)

    assert results == [AcceptedRow(job)]
    record = desk.record_row(job)
    assert record["status"] == "queued"
    assert record["to_address"] == "ada@example.com"
    assert json.loads(record["content"]) == {"subject": "Hi", "text": "Hello"}
    assert json.loads(record["metadata"]) == {"k": [1]}
    assert desk.job_row(job)["vt"] == 7.0
    assert desk.counts() == {"accepted": 1, "queued": 1}
    assert desk.rows("SELECT * FROM flows") == [
        {"channel": "email", "priority": 2, "flow": "acme", "node": "local", "last_vt": 7.0}
    ]


def test_what_is_accepted_loads_as_the_same_job(desk):
    """Nothing of a job is lost on its way to the disk and back."""
    job = desk.job(
        content=Content(
            to="ada@example.com", subject="S", text="T", html="<p>", data={"a": 1},
            headers={"X-A": "b"},
        ),
        priority=Priority.HIGH, flow="acme", vt=2.5, is_expiry_explicit=True, tenant="acme",
        reference="o-1", metadata={"ü": None}, correlation_id="c-1",
    )  # fmt: skip

    desk.accept(job)

    [loaded] = desk.load().ready[Priority.HIGH]
    assert _fields(loaded) == _fields(job)


def _fields(job):
    return {name: getattr(job, name) for name in type(job).__slots__}


def test_a_scheduled_draft_is_counted_as_scheduled_and_stamps_no_flow(desk):
    """The place in the lane of a scheduled one is decided when it is due."""
    job = desk.scheduled(desk.now + 60.0)

    desk.accept(job)

    assert desk.counts() == {"accepted": 1, "scheduled": 1}
    assert desk.record_row(job)["status"] == "scheduled"
    assert desk.rows("SELECT * FROM flows") == []


def test_accepting_twice_changes_nothing(desk):
    """A redelivered Accept answers the same and inserts and counts nothing."""
    acceptance = desk.acceptance(desk.job(), desk.job())
    first = desk.run(acceptance)

    second = desk.run(acceptance)

    assert second == first
    assert desk.counts() == {"accepted": 2, "queued": 2}


def test_accepting_again_does_not_revive_what_has_ended(desk):
    """The record outlives the job: an Accept that comes again after the end sends nothing."""
    job = desk.sending()
    desk.run(desk.settlement(job))

    desk.accept(job)

    assert desk.job_row(job) is None
    assert desk.counts() == {"accepted": 1, "sent": 1}


def test_a_key_that_returns_with_the_same_body_replays_the_first_answer(desk):
    """The second request inserts nothing and is answered as the first one was."""
    first, second = desk.job(), desk.job()
    desk.run(_keyed(desk, [first], ["k"], [{"id": first.id, "status": "queued"}]))

    results = desk.run(_keyed(desk, [second], ["k"], [{"id": second.id}]))

    assert results == [ReplayedRow({"id": first.id, "status": "queued"})]
    assert desk.job_row(second) is None
    assert desk.counts() == {"accepted": 1, "queued": 1}


def test_a_key_that_returns_with_another_body_is_a_conflict(desk):
    """The same key for something else is a mistake of the client, and nothing is stored."""
    first, second = desk.job(), desk.job()
    desk.run(_keyed(desk, [first], ["k"]))

    results = desk.run(_keyed(desk, [second], ["k"], fingerprint="other"))

    assert results == [ConflictRow("k")]
    assert desk.counts() == {"accepted": 1, "queued": 1}


def test_a_key_used_twice_in_one_batch_replays_within_it(desk):
    """Duplicates inside one Accept are decided like those of two requests."""
    first, second, third = desk.job(), desk.job(), desk.job()
    answers = [{"id": job.id} for job in (first, second, third)]

    results = desk.run(_keyed(desk, [first, second, third], ["k", "k", None], answers))

    assert results == [AcceptedRow(first), ReplayedRow({"id": first.id}), AcceptedRow(third)]
    assert desk.counts() == {"accepted": 2, "queued": 2}


def test_a_redelivered_key_is_no_replay_of_itself(desk):
    """The Queue has to hear of the job, so its own second Accept says accepted, not replayed."""
    job = desk.job()
    acceptance = _keyed(desk, [job], ["k"])
    desk.run(acceptance)

    results = desk.run(acceptance)

    assert results == [AcceptedRow(job)]


def test_keys_of_different_tenants_do_not_meet(desk):
    """The scope of a key is its tenant; no tenant is a scope too."""
    first, second = desk.job(), desk.job()
    desk.run(_keyed(desk, [first], ["k"]))

    results = desk.run(_keyed(desk, [second], ["k"], tenant="acme"))

    assert results == [AcceptedRow(second)]


def test_a_key_is_forgotten_after_24_hours(desk):
    """At the end of its life a key is free again, for any body."""
    first = desk.job()
    desk.run(_keyed(desk, [first], ["k"]))
    second = desk.job(created_at=desk.now + KEY_LIFE_S)

    results = desk.run(_keyed(desk, [second], ["k"], fingerprint="other"))

    assert results == [AcceptedRow(second)]


@pytest.mark.parametrize("surplus", [0, 3])
def test_expired_keys_are_purged_in_bounded_steps(desk, surplus):
    """Commits that add keys delete expired ones, never more than a step at once."""
    old = [desk.job() for _ in range(PURGED_AT_ONCE + surplus)]
    desk.run(_keyed(desk, old, [f"old-{position}" for position in range(len(old))]))
    late = desk.job(created_at=desk.now + KEY_LIFE_S + 1.0)

    desk.run(_keyed(desk, [late], ["new"]))

    [row] = desk.rows("SELECT count(*) AS n FROM idempotency")
    assert row["n"] == 1 + surplus


def test_a_text_that_is_no_json_stores_nothing_of_its_command(desk):
    """What cannot be written down fails as a whole; the store stays as it was."""
    good, bad = desk.job(), desk.job(metadata={"x": float("nan")})

    with pytest.raises(ValueError, match="JSON"):
        desk.accept(good, bad)

    assert desk.counts() == {}
    assert desk.rows("SELECT * FROM notifications") == []


def _keyed(desk, jobs, keys, answers=None, fingerprint="body", tenant=None):
    drafts = [
        desk.draft(job, idempotency_key=key, fingerprint=fingerprint, tenant=tenant)
        for job, key in zip(jobs, keys, strict=True)
    ]
    return Accept("email", drafts, jobs, answers)
