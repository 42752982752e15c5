"""What providers tell later: kept once, in any order, and moved by the rule of each status."""

from __future__ import annotations

from collections import Counter

import pytest

from clarion.domain.notification import MOVES, JobState, Reason, Status
from clarion.domain.receipt import Receipt
from clarion.storage import receipt as storage_receipt
from clarion.storage.command import Cancel, Discard, Expire, Receive, Received
from clarion.storage.receipt import MAX_OF_EVENT
from clarion.storage.recount import recount

SENT, DELIVERED, UNDELIVERED = Status.SENT, Status.DELIVERED, Status.UNDELIVERED
GOOD = {SENT: SENT, DELIVERED: DELIVERED, UNDELIVERED: UNDELIVERED, None: None}
FROM_SENT = {SENT: None, DELIVERED: DELIVERED, UNDELIVERED: UNDELIVERED, None: None}
NEVER = {SENT: None, DELIVERED: None, UNDELIVERED: None, None: None}

# --- a notification in each status, one call to alpha behind it --------------------------------


def waiting(desk):
    job = desk.sending()
    desk.run(
        desk.deferral(
            job, due_at=desk.now + 30.0, waiting="receipt", is_doubtful=True, is_walk_unknown=True,
            record=desk.record(job, outcome="unknown"),
        )
    )  # fmt: skip
    return job


def ready(desk):
    job = desk.sending()
    desk.run(desk.deferral(job, is_doubtful=True, record=desk.record(job, outcome="unknown")))
    return job


def sending(desk):
    return desk.sending()


def settled(status, reason=None):
    def make(desk):
        job = desk.sending()
        desk.run(desk.settlement(job, status=status, reason=reason))
        return job

    return make


def moved_by_receipt(status):
    def make(desk):
        job = settled(SENT)(desk)
        desk.run(Receive("email", [receipt(job, status, key="earlier")], desk.now))
        return job

    return make


STANDINGS = {
    "queued, waiting for a receipt": (waiting, GOOD),
    "queued, ready for another call": (ready, GOOD),
    "sending": (sending, GOOD),
    "unknown": (settled(Status.UNKNOWN, Reason.UNKNOWN_OUTCOME), GOOD),
    "sent": (settled(SENT), FROM_SENT),
    "delivered": (moved_by_receipt(DELIVERED), NEVER),
    "undelivered": (moved_by_receipt(UNDELIVERED), NEVER),
    "failed": (settled(Status.FAILED, Reason.EXHAUSTED), NEVER),
    "expired": (settled(Status.EXPIRED, Reason.EXPIRED), NEVER),
    "cancelled": (settled(Status.CANCELLED, Reason.CANCELLED), NEVER),
    "suppressed": (settled(Status.SUPPRESSED), NEVER),
}


def receipt(job, status, **fields):
    values = {
        "provider": "alpha",
        "event": "told",
        "key": "event-1",
        "at": job.created_at + 5.0,
        "reason": Reason.RECIPIENT if status is UNDELIVERED else None,
        "code": "code",
        "detail": "said so",
    }
    return Receipt(job.id, status=status, **(values | fields))


def receive(desk, *receipts):
    desk.now += 1.0
    return desk.run(Receive("email", list(receipts), desk.now))


def status_of(desk, job):
    row = desk.job_row(job)
    return Status(desk.record_row(job)["status"]) if row is None else JobState(row["state"]).status


CASES = [
    pytest.param(make, news, moves[news], id=f"{name} <- {news or 'a fact'}")
    for name, (make, moves) in STANDINGS.items()
    for news in (SENT, DELIVERED, UNDELIVERED, None)
]


@pytest.mark.parametrize(("make", "news", "new"), CASES)
def test_a_receipt_moves_what_it_may_and_is_kept_whatever_it_does(desk, make, news, new):
    """Every status by every kind of news; counts move along, and the row of the job goes."""
    job = make(desk)
    before = status_of(desk, job)

    [result] = receive(desk, receipt(job, news))

    if new is None:
        assert result == Received("kept", job.id, before)
        assert status_of(desk, job) == before
    else:
        assert (result.verdict, result.old, result.new) == ("moved", before, new)
        assert result.has_ended_job is before.is_live
        assert new in MOVES[before]
        record = desk.record_row(job)
        assert (record["status"], record["provider"]) == (new, "alpha")
        assert record["reason"] == ("recipient" if new is UNDELIVERED else None)
        assert (record["detail"], record["updated_at"]) == ("said so", desk.now)
        assert record["attempts"] == (0 if make is moved_by_receipt else 1)
        assert desk.job_row(job) is None
    [kept] = desk.rows("SELECT * FROM receipts WHERE key = 'event-1'")
    assert (kept["event"], kept["code"], kept["moved_to"]) == ("told", "code", new)
    assert (kept["at"], kept["received_at"]) == (job.created_at + 5.0, desk.now)
    assert recount(desk.connection) == []


@pytest.mark.parametrize(("make", "news", "new"), CASES)
def test_a_receipt_that_comes_again_changes_nothing(desk, make, news, new):
    """In the same command, in a later one, after the next status: once is all that counts."""
    job = make(desk)
    one = receipt(job, news)
    [first, second] = receive(desk, one, one)
    counts, record = desk.counts(), desk.record_row(job)

    [third] = receive(desk, one)

    assert first.verdict in ("moved", "kept")
    assert (second.verdict, third.verdict) == ("repeated", "repeated")
    assert (desk.counts(), desk.record_row(job)) == (counts, record)


@pytest.mark.parametrize("order", [(SENT, DELIVERED), (DELIVERED, SENT)])
@pytest.mark.parametrize("make", [waiting, sending, settled(Status.UNKNOWN), settled(SENT)])
def test_the_order_of_receipts_does_not_matter(desk, make, order):
    """Delivered before processed ends as delivered, too; in one command or in two."""
    job = make(desk)
    told = [receipt(job, status, key=status) for status in order]

    receive(desk, *told)

    assert status_of(desk, job) is DELIVERED
    assert desk.counts() == {"accepted": 1, "delivered": 1}
    assert len(desk.rows("SELECT * FROM receipts")) == 2


def test_the_end_of_a_call_that_a_receipt_overtook_is_only_noted(desk):
    """An early receipt wins: neither the answer nor a retry changes what it said."""
    for end in (desk.settlement, lambda job: desk.deferral(job, record=desk.record(job))):
        job = desk.sending()
        receive(desk, receipt(job, DELIVERED))

        assert not desk.run(end(job))

        assert status_of(desk, job) is DELIVERED
        assert len(desk.rows("SELECT * FROM provider_calls WHERE notification_id = ?", job.id)) == 1
    assert desk.counts() == {"accepted": 2, "delivered": 2}
    assert desk.intend(job, 2) == []


def double(desk, **fields):
    """Call 1 to alpha without an answer, call 2 to beta on its way."""
    job = ready(desk)
    desk.intend(job, 2, provider="beta")
    return job


def test_good_news_of_an_older_call_counts(desk):
    """Whoever has the message, nobody has to send it again; the mark of the double stays."""
    job = double(desk)

    receive(desk, receipt(job, DELIVERED))

    record = desk.record_row(job)
    assert (record["status"], record["provider"]) == ("delivered", "alpha")
    assert record["possibly_duplicated"] == 1


def test_bad_news_of_an_older_call_does_not(desk):
    """The later one may fare better, while it is out and after it was accepted."""
    job = double(desk)
    receive(desk, receipt(job, UNDELIVERED, key="while out"))
    assert status_of(desk, job) is Status.SENDING

    desk.run(desk.settlement(job, 2, record=desk.record(job, 2, provider="beta")))
    receive(desk, receipt(job, UNDELIVERED, key="after"))

    assert status_of(desk, job) is SENT
    receive(desk, receipt(job, UNDELIVERED, provider="beta"))
    assert status_of(desk, job) is UNDELIVERED


def again_at_alpha(desk, message_id=None):
    """Call 1 to alpha without an answer, call 2 to alpha accepted."""
    job = ready(desk)
    desk.intend(job, 2)
    record = desk.record(job, 2, provider_message_id="second")
    desk.run(desk.settlement(job, 2, record=record))
    return job


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"call": 1}, SENT),
        ({"call": 2}, UNDELIVERED),
        ({"provider_message_id": "second"}, UNDELIVERED),
        # The only call whose answer, and with it the id, never came.
        ({"provider_message_id": "another"}, SENT),
    ],
)
def test_which_call_of_one_provider_it_was_is_found_out(desk, fields, status):
    """By the number that it repeats, else by its own id of the message."""
    job = again_at_alpha(desk)

    receive(desk, receipt(job, UNDELIVERED, **fields))

    assert status_of(desk, job) is status


@pytest.mark.parametrize("spoil", ["status = 'lost'", "provider = CAST(x'ff' AS TEXT)"])
def test_a_spoilt_row_does_not_stop_the_receipts_of_others(desk, spoil):
    """They come many in a commit, and the provider would repeat all of them for a day."""
    spoilt, good = settled(SENT)(desk), settled(SENT)(desk)
    desk.execute(f"UPDATE notifications SET {spoil} WHERE id = ?", spoilt.id)

    results = receive(desk, receipt(spoilt, DELIVERED), receipt(good, DELIVERED))

    assert [each.id for each in results] == [spoilt.id, good.id]
    assert results[1].verdict == "moved"
    assert status_of(desk, good) is DELIVERED


def test_what_was_never_given_to_the_provider_is_unknown_to_it(desk):
    """Neither an id that is not ours nor another account's message; nothing is kept."""
    other = settled(SENT)(desk)
    fresh = desk.accepted()
    strange = Receipt("01NOBODY", "alpha", "told", "k", desk.now, DELIVERED)

    results = receive(
        desk, strange, receipt(other, DELIVERED, provider="beta"), receipt(fresh, DELIVERED)
    )

    assert [each.verdict for each in results] == ["unknown"] * 3
    assert desk.rows("SELECT * FROM receipts") == []
    assert desk.counts() == {"accepted": 2, "sent": 1, "queued": 1}


@pytest.mark.parametrize("end", ["cancel", "expire", "discard"])
def test_an_unknown_end_of_any_cause_is_resolved(desk, end):
    """Cancelled, expired or poison with a doubtful call behind it."""
    job = waiting(desk)
    desk.run(
        {
            "cancel": Cancel("email", job.id, desk.now),
            "expire": Expire("email", desk.now + 2000.0, 1000.0),
            "discard": Discard("email", job.id, desk.now),
        }[end]
    )
    assert status_of(desk, job) is Status.UNKNOWN

    receive(desk, receipt(job, DELIVERED))

    assert status_of(desk, job) is DELIVERED
    assert desk.record_row(job)["reason"] is None


def test_facts_without_end_are_kept_up_to_a_bound(desk):
    """A scanner that opens a message for ever fills no disk, and hides no complaint."""
    job = settled(SENT)(desk)
    opens = [receipt(job, None, key=f"open {n}", event="open") for n in range(MAX_OF_EVENT + 5)]
    receive(desk, *opens)

    receive(desk, receipt(job, None, key="complaint", event="spamreport"))
    receive(desk, receipt(job, DELIVERED))

    kept = Counter(row["event"] for row in desk.rows("SELECT event FROM receipts"))
    assert kept == {"open": MAX_OF_EVENT, "spamreport": 1, "told": 1}
    assert status_of(desk, job) is DELIVERED


def test_receipts_of_ever_new_events_are_bounded_too(desk, monkeypatch):
    """In all; news of the status still count, and are kept."""
    monkeypatch.setattr(storage_receipt, "MAX_KEPT", 3)
    job = settled(SENT)(desk)
    receive(desk, *(receipt(job, None, key=f"{n}", event=f"word_{n}") for n in range(5)))

    receive(desk, receipt(job, DELIVERED))

    assert len(desk.rows("SELECT * FROM receipts")) == 4
    assert status_of(desk, job) is DELIVERED
