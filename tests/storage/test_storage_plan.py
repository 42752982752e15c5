"""Every statement on a hot or growing table is answered from the index made for it."""

from __future__ import annotations

import re

import pytest

from clarion.domain.notification import Status
from clarion.storage import (
    acceptance,
    bulk,
    dead_letter,
    delivery,
    ending,
    lane,
    purge,
    receipt,
    redrive,
    revival,
    search,
    sweep,
)
from clarion.storage.statement import Statement


@pytest.fixture
def backend():
    """This is about SQLite alone."""
    return "sqlite"


_RECORD = "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"

PLANS = [
    (dead_letter.SCAN, "notifications_dead ((updated_at,id)>(?,?) AND updated_at<?)"),
    (dead_letter.FIND_DEAD, _RECORD),
    (dead_letter.DISCARD, _RECORD),
    (purge.FIND_OLD, "sqlite_autoindex_notifications_1 (id>? AND id<?)"),
    (purge.DELETE_RECORD, _RECORD),
    (purge.FIND_REDRIVEN, "redrives_running"),
    *((sql, "USING PRIMARY KEY (notification_id=?)") for sql in purge.DELETE_STORY),
    (revival.FIND_ENDED, _RECORD),
    (revival.FIND_ENDED, "provider_calls USING PRIMARY KEY (notification_id=?)"),
    (revival.FIND_ENDED, "receipts USING PRIMARY KEY (notification_id=?)"),
    *((sql, _RECORD) for sql in revival.REVIVE.values()),
    (redrive.FIND_RUNNING, "redrives_running"),
    (redrive.TAKE_OVER, "redrives_running"),
    (redrive.FIND_PART, "redrives USING PRIMARY KEY (id=? AND channel=?)"),
    (redrive.FIND_REDRIVE, "redrives USING PRIMARY KEY (id=?)"),
    (redrive.LIST_REDRIVES, "redrives USING PRIMARY KEY (id=?)"),
    (redrive.ADVANCE, "redrives USING PRIMARY KEY (id=? AND channel=?)"),
    (redrive.CANCEL, "redrives"),
    (redrive.FIND_STATUS, _RECORD),
    (redrive.RESOLVE_AS_SENT, _RECORD),
    (search.GET_INTERVENTIONS, "interventions USING PRIMARY KEY (notification_id=?)"),
    (search.count_dead_letters(frozenset()).statement, "notifications_dead"),
    (search.count_dead_letters(frozenset({"id"})).statement, _RECORD),
    (lane.LOAD_READY, "jobs_ready (channel=? AND priority=? AND node=? AND (vt,id)>(?,?))"),
    (lane.LOAD_SENDING, "jobs_sending (channel=?)"),
    (lane.LOAD_TIMED, "jobs_timed (channel=? AND node=? AND due_at>? AND due_at<?)"),
    (lane.NEXT_TIMER, "jobs_timed (channel=? AND node=? AND due_at>?)"),
    (lane.COUNT_TIMED, "COVERING INDEX jobs_timed (channel=?)"),
    (lane.BRING_FORWARD, "jobs_timed (channel=? AND node=? AND due_at>?)"),
    (lane.PROMOTE_TIMED, "jobs USING PRIMARY KEY (id=?)"),
    (lane.PROMOTE_SCHEDULED, "jobs USING PRIMARY KEY (id=?)"),
    (delivery.INTEND_QUEUED, "jobs USING PRIMARY KEY (id=?)"),
    (delivery.INTEND_SCHEDULED, "jobs USING PRIMARY KEY (id=?)"),
    (delivery.END_CALLED_JOB, "jobs USING PRIMARY KEY (id=?)"),
    (delivery.DEFER, "jobs USING PRIMARY KEY (id=?)"),
    (ending.END_WAITING_JOB, "jobs USING PRIMARY KEY (id=?)"),
    (bulk.INTEND.statements[8], "jobs USING PRIMARY KEY (id=?)"),
    (
        bulk.END_NOTIFICATIONS.statements[8],
        "notifications USING COVERING INDEX sqlite_autoindex_notifications_1 (id=?)",
    ),
    (bulk.END_NOTIFICATIONS.statements[8], "provider_calls USING PRIMARY KEY (notification_id=?)"),
    (ending.FIND_EXPIRED_BY_CHOICE, "jobs_expiry (channel=? AND expires_at<?)"),
    (ending.FIND_EXPIRED_BY_DEFAULT, "jobs USING PRIMARY KEY (id<?)"),
    (delivery.FIND_MOVE, "receipts USING PRIMARY KEY (notification_id=?)"),
    (receipt.FIND_RECORD, "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"),
    (receipt.FIND_JOB, "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"),
    (receipt.FIND_JOB, "jobs USING PRIMARY KEY (id=?)"),
    (receipt.FIND_CALLS, "provider_calls USING PRIMARY KEY (notification_id=?)"),
    (receipt.FIND_KEPT, "receipts USING PRIMARY KEY (notification_id=? AND provider=? AND key=?)"),
    (receipt.COUNT_KEPT, "receipts USING PRIMARY KEY (notification_id=?)"),
    (receipt.MOVE, "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"),
    (search.FIND_CHANNEL, "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"),
    (search.GET_RECEIPTS, "receipts USING PRIMARY KEY (notification_id=?)"),
    (lane.LOAD_FLOWS, "flows USING PRIMARY KEY (channel=?)"),
    (lane.FIND_CONTROL, "controls USING PRIMARY KEY (kind=? AND name=?)"),
    (ending.END_JOB, "jobs USING PRIMARY KEY (id=?)"),
    (ending.FIND_JOB, "jobs USING PRIMARY KEY (id=?)"),
    (ending.FIND_CALL_OUT, "jobs USING PRIMARY KEY (id=?)"),
    (ending.FIND_STATUS, "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"),
    (ending.REQUEST_CANCEL, "jobs USING PRIMARY KEY (id=?)"),
    (sweep.RELEASE, "jobs USING PRIMARY KEY (id=?)"),
    (sweep.PRUNE_FLOWS, "flows USING PRIMARY KEY (channel=? AND priority=?)"),
    (sweep.FIND_SENDING, "jobs_sending"),
    (sweep.FIND_SPOILT, "jobs_spoilt"),
    (sweep.FIND_LAST, "SEARCH notifications USING"),
    (sweep.FIND_FIRST_STAMP, "jobs_ready (channel=? AND priority=? AND node=?)"),
    (acceptance.FIND_KEY, "idempotency USING PRIMARY KEY (tenant=? AND key=?)"),
    (acceptance.PURGE_KEYS, "idempotency_expiry (expires_at<?)"),
    (search.GET, "notifications USING INDEX sqlite_autoindex_notifications_1 (id=?)"),
    (search.GET_CALLS, "provider_calls USING PRIMARY KEY (notification_id=?)"),
]


@pytest.mark.parametrize(("sql", "index"), PLANS)
def test_a_statement_uses_its_index(desk, sql, index):
    """Named in the plan, with the columns that are looked up, and without sorting."""
    plan = _plan(desk, sql)

    assert index in plan
    if sql not in SORTED:
        assert "TEMP B-TREE" not in plan


SORTED = {
    # At most as many as slots; a group for each channel; the lanes of some redrives.
    sweep.FIND_SENDING, search.count_dead_letters(frozenset()).statement,
    search.count_dead_letters(frozenset({"id"})).statement, redrive.LIST_REDRIVES,
}  # fmt: skip

SMALL = {
    # One row for each status, channel or decision, or read once per process.
    "LOAD_COUNTS", "COUNTS", "CONTROLS", "FIND_LANES", "FIND_CHANNELS",
    # A row for each node.
    "FIND_ANOTHER",
    # Of a server alone; see `test_postgresql`.
    "CLAIM_READY", "CLAIM_TIMED", "LOAD_CLAIMED", "TAKE_TURN",
    # A row for each redrive that ever was asked for, once a pass.
    "DELETE_REDRIVES",
}  # fmt: skip


MODULES = [
    acceptance, dead_letter, delivery, ending, lane, purge, receipt, redrive, revival,
    search, sweep,
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_no_statement_is_left_out(module):
    """A new statement gets its plan here, or a reason why it needs none."""
    planned = {sql for sql, _ in PLANS}
    left_out = {
        name
        for name, sql in vars(module).items()
        if isinstance(sql, Statement) and re.match("SELECT|UPDATE|DELETE", sql.sqlite)
        if sql not in planned and name not in SMALL
    }

    assert left_out == set()


SEARCHES = [
    ({}, "sqlite_autoindex_notifications_1 (id<?)"),
    ({"channel"}, "notifications_channel (channel=? AND id<?)"),
    ({"to"}, "notifications_to (to_address=? AND id<?)"),
    ({"to", "channel"}, "notifications_to (to_address=? AND id<?)"),
    ({"to", "status:sent"}, "notifications_to (to_address=? AND id<?)"),
    ({"to", "status:queued"}, "notifications_to (to_address=? AND id<?)"),
    ({"reference", "to", "channel"}, "notifications_reference (reference=? AND id<?)"),
    ({"reference", "status:failed"}, "notifications_reference (reference=? AND id<?)"),
    ({"channel", "status:sent"}, "notifications_status (status=? AND channel=? AND id<?)"),
    ({"channel", "status:queued"}, "jobs USING PRIMARY KEY (id<?)"),
    ({"status:queued"}, "jobs USING PRIMARY KEY (id<?)"),
    ({"status:scheduled"}, "jobs USING PRIMARY KEY (id<?)"),
]


@pytest.mark.parametrize(("names", "index"), SEARCHES)
def test_a_search_uses_its_index_and_sorts_nothing(desk, names, index):
    """Newest first is the order of the index, so a page costs the same in a big table."""
    plan = _plan(desk, _search(names))

    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_a_search_for_what_is_out_looks_at_nothing_else(desk):
    """There are at most as many as slots; they are sorted, whatever else is stored."""
    assert "jobs_sending" in _plan(desk, _search({"status:sending"}))


@pytest.mark.parametrize("names", [set(), {"since"}, {"since", "until", "channel", "reason"}])
def test_dead_letters_come_from_an_index_of_their_own(desk, names):
    """What was sent does not slow down the search for what was not."""
    plan = _plan(desk, search.dead_letters(frozenset(names)).statement)

    assert "notifications_dead" in plan
    assert "TEMP B-TREE" not in plan


def _search(names):
    statuses = [name.split(":")[1] for name in names if name.startswith("status:")]
    plain = {name.split(":")[0] for name in names}
    status = Status(statuses[0]) if statuses else None
    return search.search(frozenset(plain), status).statement


def _plan(desk, statement):
    sql = statement.sqlite
    numbers = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    places = max(numbers, default=sql.count("?"))
    rows = desk.connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * places).fetchall()
    return "\n".join(row[3] for row in rows)
