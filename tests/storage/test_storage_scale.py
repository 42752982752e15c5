"""What a Queue asks costs the same however much is stored: counted in steps, not in seconds."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Call, Priority
from clarion.storage.command import Expire, Intend, Load, LoadTimers, Refill, Sweep

MANY = 100_000
FEW = 1_000
HEAD = 500

FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {many})
INSERT INTO {table} SELECT {columns} FROM n
"""
ID = "printf('%026d', i)"
JOB = (
    f"{ID}, 'email', 2, '', i, CASE WHEN i % 10 THEN 0 ELSE 1 END,"
    " CASE WHEN i % 10 THEN NULL ELSE 1800000000.0 + i END,"
    " 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 1900000000.0, i % 2, 'at_least_once', 0, 0, 0, NULL,"
    " 'local'"
)
RECORD = (
    f"{ID}, 'email', 'ada@example.com', '{{}}', 2, 'at_least_once', NULL, NULL, NULL, '',"
    " 'queued', NULL, NULL, NULL, 0, 0, 1800000000.0, 1800000000.0, 1900000000.0, NULL"
)


class Steps:
    """Counts what SQLite does, by its own measure, in hundreds."""

    def __init__(self, connection):
        self._connection = connection
        self.n = 0

    def __enter__(self):
        self.n = 0
        self._connection.set_progress_handler(self._count, 100)
        return self

    def __exit__(self, *_):
        self._connection.set_progress_handler(None, 0)

    def _count(self):
        self.n += 1
        return 0


@pytest.fixture
def fill(open_desk_at, tmp_path):
    def make(many):
        desk = open_desk_at(f"sqlite:///{tmp_path}/{many}.db")
        desk.store.begin()
        for table, columns in (("jobs", JOB), ("notifications", RECORD)):
            desk.connection.execute(FILL.format(many=many, table=table, columns=columns))
        desk.store.commit()
        return desk

    return make


QUESTIONS = {
    "load": lambda: Load("email", HEAD, 1_800_000_000.0 + 10_000.0, 50),
    "refill": lambda: Refill("email", 2, (float(FEW // 2), ""), HEAD // 2),
    "timers": lambda: LoadTimers("email", 1_800_000_000.0 + FEW, 50),
    "sweep": lambda: Sweep("", 1_800_000_000.0),
}


def test_questions_cost_the_same_with_a_thousand_and_a_hundred_thousand_rows(fill):
    """A start, a refill and the timers read what they return, and not much more."""
    costs = {}
    for many in (FEW, MANY):
        desk = fill(many)
        for name, question in QUESTIONS.items():
            with Steps(desk.connection) as steps:
                desk.run(question())
            costs[name, many] = steps.n

    for name in QUESTIONS:
        # A lane that loads counts its timers: one entry of their index each, in 3 steps.
        counted = 3 * (MANY // 10) / 100 if name == "load" else 0
        assert costs[name, MANY] <= costs[name, FEW] * 1.2 + 5 + counted, name


def test_looking_for_what_expired_by_default_reads_only_what_is_old_enough(fill):
    """Ids are ordered by time: those of the last `default_expires_after` are not looked at."""
    costs = {}
    for many in (FEW, MANY):
        desk = fill(many)
        # The ids of these rows are counted from the epoch, in 2^80ths of a millisecond.
        with Steps(desk.connection) as steps:
            assert desk.run(Expire("email", 3600.0, 3600.0)) == []
        costs[many] = steps.n

    assert costs[MANY] <= costs[FEW] * 1.2 + 5


def test_a_delivery_costs_the_same_with_a_hundred_thousand_rows_waiting(fill):
    """Taking work and settling it find their rows by key."""
    costs = {}
    for many in (FEW, MANY):
        desk = fill(many)
        jobs = desk.run(Refill("email", 2, None, 64)).jobs
        with Steps(desk.connection) as steps:
            desk.run(Intend("email", [Call(job, 1, "alpha") for job in jobs], desk.now))
            desk.run_together([desk.settlement(job) for job in jobs])
        costs[many] = steps.n

    assert 0 < costs[MANY] <= costs[FEW] * 1.2 + 5


def test_a_load_is_bounded_and_a_lane_of_any_length_is_read_in_pages(fill):
    """Memory holds a head; the rest stays on the disk, and each row comes exactly once."""
    desk = fill(MANY)

    lane = desk.run(Load("email", HEAD, 1_800_000_000.0 + MANY, 50))
    found = [job.id for job in lane.ready[Priority.NORMAL]]
    is_spilled = lane.is_spilled[Priority.NORMAL]
    pages = 0
    after = lane.ready[Priority.NORMAL][-1]
    while is_spilled:
        page = desk.run(Refill("email", 2, (after.vt, after.id), 10_000))
        jobs, is_spilled = page.jobs, page.is_spilled
        assert len(jobs) <= 10_000
        found += [job.id for job in jobs]
        after, pages = jobs[-1], pages + 1

    assert (len(lane.ready[Priority.NORMAL]), len(lane.timed)) == (HEAD, 50)
    assert lane.next_timer_at == 1_800_000_000.0 + 500
    assert pages == 9
    assert found == [f"{i:026d}" for i in range(MANY) if i % 10]
