"""What users see: one notification, searches, dead letters and counts, beside the writer."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from clarion.domain.notification import Content, Priority, Status
from clarion.errors import InvalidNotification, StorageUnavailable
from clarion.storage.command import Cancel, Discard, Expire, SetControl, Sweep
from clarion.storage.reader import Reader
from clarion.storage.recount import recount


@pytest.fixture
def reader(desk, snapshots):
    reader = Reader(snapshots)
    yield reader
    reader.close()


async def test_a_queued_notification_is_shown_as_it_was_asked_for(desk, reader):
    """Content, priority, tenant, reference and metadata come back."""
    content = Content("ada@example.com", "S", "T", "<p>", {"a": [1]}, {"X-A": "b"})
    job = desk.accepted(
        content=content, priority=Priority.LOW, tenant="acme", reference="o-1", metadata={"k": "ü"}
    )

    shown = await reader.get(job.id)

    assert (shown.content, shown.priority) == (content, Priority.LOW)
    assert (shown.tenant, shown.reference, shown.metadata) == ("acme", "o-1", {"k": "ü"})
    assert (shown.status, shown.attempts, shown.provider) == (Status.QUEUED, 0, None)
    assert (shown.created_at, shown.updated_at) == (desk.now, desk.now)


async def test_a_notification_that_never_was_is_none(reader):
    """An unknown id is no error of the store."""
    assert await reader.get("nope") is None


async def test_a_call_that_is_out_shows_its_provider(desk, reader):
    """The job's row says how a live one stands, not the record."""
    job = desk.accepted()
    desk.now += 3.0
    desk.intend(job, provider="beta")
    desk.run(Cancel("email", job.id, desk.now))

    shown = await reader.get(job.id)

    assert (shown.status, shown.provider) == (Status.SENDING, "beta")
    assert shown.cancel_requested
    assert shown.updated_at == desk.now


async def test_a_retry_shows_when_and_why_it_waits(desk, reader):
    """With the attempts burnt so far and the provider of its last call."""
    job = desk.sending()
    record = desk.record(job, outcome="transient", considered=(("beta", "circuit open"),))
    desk.run(desk.deferral(job, due_at=desk.now + 8.0, attempt=1, waiting="retry", record=record))

    shown = await reader.get(job.id)

    assert (shown.status, shown.waiting) == (Status.QUEUED, "retry")
    assert shown.next_attempt_at == desk.now + 8.0
    assert (shown.attempts, shown.provider) == (1, "alpha")
    assert shown.calls == (record,)


async def test_a_scheduled_one_shows_when_it_will_be_sent(desk, reader):
    """Its next attempt is its first."""
    job = desk.scheduled(desk.now + 8.0)
    desk.accept(job)

    shown = await reader.get(job.id)

    assert (shown.status, shown.waiting) == (Status.SCHEDULED, "schedule")
    assert shown.next_attempt_at == desk.now + 8.0


async def test_calls_are_shown_in_their_order_deaths_included(desk, reader):
    """A restart with a call in flight is visible, and so is the mark that follows from it."""
    job = desk.sending()
    desk.run(Sweep("", desk.now))
    desk.intend(job, 2, "beta")
    desk.run(desk.settlement(job, 2, record=desk.record(job, 2, provider="beta")))

    shown = await reader.get(job.id)

    assert [(call.number, call.reason) for call in shown.calls] == [
        (1, "process_died"),
        (2, "http_202"),
    ]
    assert (shown.status, shown.provider) == (Status.SENT, "beta")
    assert shown.possibly_duplicated


async def test_what_ended_as_poison_is_shown(desk, reader):
    """A spoilt content is left out; the dead letter is still there to be looked at."""
    job = desk.accepted()
    desk.execute("UPDATE notifications SET content = '{', metadata = '['")
    desk.run(Discard("email", job.id, desk.now))

    shown = await reader.get(job.id)
    letters, _ = await reader.dead_letters(reason="poison")

    assert (shown.status, shown.content.to) == (Status.FAILED, "ada@example.com")
    assert [letter.id for letter in letters] == [job.id]


# --- searches --------------------------------------------------------------------------------


@pytest.fixture
def crowd(desk):
    """One notification in each kind of status, by name."""
    jobs = {"queued": desk.accepted(reference="r-1"), "sending": desk.sending()}
    jobs["retry"] = desk.sending()
    desk.run(desk.deferral(jobs["retry"], due_at=desk.now + 8.0, waiting="retry"))
    jobs["scheduled"] = desk.scheduled(desk.now + 9.0, reference="r-1")
    desk.accept(jobs["scheduled"])
    jobs["sent"] = desk.sending(reference="r-1")
    desk.run(desk.settlement(jobs["sent"]))
    jobs["sms"] = desk.sending(channel="sms", content=Content("+15550100", text="x"))
    desk.run(desk.settlement(jobs["sms"]))
    jobs["failed"] = desk.sending()
    desk.run(desk.settlement(jobs["failed"], 1, Status.FAILED, "permanent"))
    return jobs


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["failed", "sms", "sent", "scheduled", "retry", "sending", "queued"]),
        ({"status": "queued"}, ["retry", "queued"]),
        ({"status": "sending"}, ["sending"]),
        ({"status": "scheduled"}, ["scheduled"]),
        ({"status": "sent"}, ["sms", "sent"]),
        ({"status": "failed"}, ["failed"]),
        ({"status": "expired"}, []),
        ({"channel": "sms"}, ["sms"]),
        ({"channel": "email", "status": "sent"}, ["sent"]),
        ({"channel": "sms", "status": "queued"}, []),
        ({"to": "+15550100"}, ["sms"]),
        ({"to": "ada@example.com", "status": "sent"}, ["sent"]),
        ({"to": "ada@example.com", "status": "queued"}, ["retry", "queued"]),
        ({"to": "ada@example.com", "channel": "sms"}, []),
        ({"reference": "r-1"}, ["sent", "scheduled", "queued"]),
        ({"reference": "r-1", "status": "scheduled"}, ["scheduled"]),
        ({"reference": "r-1", "status": "sent", "to": "ada@example.com"}, ["sent"]),
        ({"reference": "r-2"}, []),
    ],
)
async def test_a_search_finds_what_stands_so_now_newest_first(reader, crowd, filters, names):
    """Every filter and their combinations; live statuses are those of the jobs."""
    found, cursor = await reader.find(**filters)

    assert [each.id for each in found] == [crowd[name].id for name in names]
    assert cursor is None


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"status": "sent"},
        {"status": "sent", "channel": "email"},
        {"channel": "email"},
        {"to": "ada@example.com"},
        {"reference": "r"},
    ],
)
async def test_pages_follow_each_other_without_gap_or_overlap(desk, reader, filters):
    """Keyset paging: the cursor is the last one shown, so new arrivals shift nothing."""
    jobs = [desk.sending(reference="r") for _ in range(5)]
    for job in jobs:
        desk.run(desk.settlement(job))
    seen, cursor = [], None

    while True:
        page, cursor = await reader.find(limit=2, cursor=cursor, **filters)
        seen += [each.id for each in page]
        desk.accepted(reference="r")
        if cursor is None:
            break

    assert seen == [job.id for job in reversed(jobs)]


async def test_pages_of_live_ones_follow_each_other(desk, reader):
    """The same over jobs."""
    jobs = [desk.accepted() for _ in range(5)]

    first, cursor = await reader.find(status="queued", limit=3)
    rest, end = await reader.find(status="queued", limit=3, cursor=cursor)

    assert [each.id for each in first + rest] == [job.id for job in reversed(jobs)]
    assert end is None


@pytest.mark.parametrize("cursor", ["x", "!!", "bm8", "WzFd", "e30", "W10"])
async def test_a_cursor_of_somebody_else_is_a_fault_of_the_request(reader, cursor):
    """Never an error of the server, and never the first page by mistake."""
    with pytest.raises(InvalidNotification, match="cursor"):
        await reader.find(cursor=cursor)


async def test_an_unknown_status_is_a_fault_of_the_request(reader):
    """The answer names the ones there are."""
    with pytest.raises(InvalidNotification, match="queued, sending"):
        await reader.find(status="lost")


# --- dead letters ----------------------------------------------------------------------------


@pytest.fixture
def dead(desk):
    """Three dead letters, ten seconds apart, and one that somebody discarded."""
    jobs = []
    for provider, reason in [
        ("a", "permanent"),
        ("b", "exhausted"),
        ("a", "exhausted"),
        ("a", "x"),
    ]:
        job = desk.sending()
        record = desk.record(job, provider=provider, outcome="permanent")
        desk.run(desk.settlement(job, 1, Status.FAILED, reason, record=record))
        jobs.append(job)
        desk.now += 10.0
    desk.execute("UPDATE notifications SET discarded_at = 1.0 WHERE id = ?", jobs.pop().id)
    return jobs


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        ({}, [2, 1, 0]),
        ({"reason": "exhausted"}, [2, 1]),
        ({"provider": "a"}, [2, 0]),
        ({"provider": "a", "reason": "exhausted"}, [2]),
        ({"channel": "sms"}, []),
        ({"since": 10.0}, [2, 1]),
        ({"until": 10.0}, [0]),
        ({"since": 10.0, "until": 20.0}, [1]),
    ],
)
async def test_dead_letters_are_found_by_how_where_and_when_they_died(
    desk, reader, dead, filters, positions
):
    """The latest death first; what was discarded is not there any more."""
    start = desk.now - 40.0
    for name in ("since", "until"):
        if name in filters:
            filters = filters | {name: start + filters[name]}

    found, _ = await reader.dead_letters(**filters)

    assert [each.id for each in found] == [dead[position].id for position in positions]


async def test_pages_of_dead_letters_follow_each_other(desk, reader, dead):
    """Also where several died at the same instant."""
    desk.execute("UPDATE notifications SET updated_at = 5.0")

    first, cursor = await reader.dead_letters(limit=2)
    rest, end = await reader.dead_letters(limit=2, cursor=cursor)

    assert [each.id for each in first + rest] == [job.id for job in reversed(dead)]
    assert end is None


# --- counts and controls ---------------------------------------------------------------------


async def test_accepted_is_the_sum_of_all_statuses(crowd, reader):
    """At any moment, over all channels and in each."""
    stats = await reader.stats()

    assert stats["accepted"] == sum(stats["by_status"].values()) == len(crowd)
    assert stats["by_channel"]["sms"]["by_status"]["sent"] == 1
    for lane in stats["by_channel"].values():
        assert lane["accepted"] == sum(lane["by_status"].values())


async def test_a_lane_knows_how_many_are_live(desk, crowd, reader):
    """From the counts, not by counting rows."""
    assert await reader.depth("email") == {"queued": 2, "sending": 1, "scheduled": 1}
    assert await reader.depth("push") == {}


async def test_controls_tell_who_decided_what_and_when(desk, reader):
    """The last word for each lane, provider and breaker."""
    desk.run(SetControl("", "provider", "alpha", "disabled", "ada", desk.now))
    desk.run(SetControl("email", "lane", "email", "paused", "bob", desk.now))
    desk.run(SetControl("", "provider", "alpha", "enabled", "eve", desk.now))

    assert await reader.controls() == {
        ("provider", "alpha"): ("enabled", "eve", desk.now),
        ("lane", "email"): ("paused", "bob", desk.now),
    }


# --- beside the writer -----------------------------------------------------------------------


async def test_readers_see_the_last_commit_while_a_transaction_runs(desk, reader):
    """Neither waits for the other."""
    first = desk.accepted()
    desk.store.begin()
    second = desk.job()
    desk.store.apply(desk.acceptance(second))

    assert (await reader.get(first.id)).id == first.id
    assert await reader.get(second.id) is None
    desk.store.commit()
    assert (await reader.get(second.id)).id == second.id


async def test_a_reader_cannot_write(desk, reader):
    """One writing connection is what keeps the file whole."""
    with pytest.raises(StorageUnavailable, match="read-only"):
        await reader._ask(lambda connection: connection.execute("DELETE FROM jobs"))


async def test_a_search_that_takes_too_long_is_given_up(desk, snapshots):
    """Every wait has an end; the query is stopped, not only forgotten."""
    reader = Reader(snapshots, timeout_s=0.2)
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
        " SELECT count(*) FROM n"
    )

    with pytest.raises(StorageUnavailable, match="did not answer within"):
        await reader._ask(lambda connection: connection.execute(endless).fetchall())

    assert await Reader(snapshots).get("nope") is None


async def test_an_expired_one_is_final(desk, reader):
    """An end without a call is shown with its reason."""
    job = desk.accepted(expires_at=desk.now + 1.0, is_expiry_explicit=True)
    desk.run(Expire("email", desk.now + 1.0, 3600.0))

    shown = await reader.get(job.id)

    assert (shown.status, shown.reason) == (Status.EXPIRED, "expired")
    assert (shown.next_attempt_at, shown.waiting) == (None, None)


SPOILT = "the stored row cannot be worked on: there is no state 99"


@pytest.mark.parametrize(
    ("table", "spoil", "reason", "detail"),
    [
        (
            "jobs",
            "state = 99",
            "poison",
            "the stored row cannot be worked on: there is no state 99",
        ),
        ("notifications", "priority = 42", None, None),
        ("notifications", "delivery = 'twice'", None, None),
    ],
)
async def test_a_spoilt_row_is_shown_as_what_it_is(desk, reader, table, spoil, reason, detail):
    """Nobody is answered with an error of ours; one that no lane would find is named in the log."""
    job = desk.accepted()
    desk.execute(f"UPDATE {table} SET {spoil} WHERE id = ?", job.id)

    with capture_logs() as logs:
        shown = await reader.get(job.id)
        found, _ = await reader.find()

    assert [each.id for each in found] == [job.id]
    assert (shown.status, shown.reason, shown.detail) == ("queued", reason, detail)
    assert {each["notification_id"] for each in logs} == ({job.id} if reason else set())
    assert recount(desk.connection) == []
