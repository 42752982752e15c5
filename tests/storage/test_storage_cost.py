"""What a delivery costs the disk; these counts are the budget, not a benchmark."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Call
from clarion.storage.command import Intend


@pytest.fixture
def backend():
    """This is about SQLite alone."""
    return "sqlite"


BATCH = 64
SHARED_ROWS = 12
"""Counts and stamps of all commits together; they do not grow with the batch."""
SHARED_STATEMENTS = 30
"""Begin, bulk writes, counts, stamps and commit of the three; they do not grow either."""


def test_a_delivery_writes_six_rows_in_three_shared_commits(desk):
    """Two at the acceptance, one at the intent, three at the settlement."""
    jobs = [desk.job() for _ in range(BATCH)]
    statements: list[str] = []
    desk.connection.set_trace_callback(statements.append)
    before = desk.connection.total_changes

    desk.run(desk.acceptance(*jobs))
    desk.run(Intend("email", [Call(job, 1, "alpha") for job in jobs], desk.now))
    desk.run_together([desk.settlement(job) for job in jobs])

    written = desk.connection.total_changes - before
    assert 6 * BATCH <= written <= 6 * BATCH + SHARED_ROWS
    assert statements.count("COMMIT") == 3


def test_deliveries_of_a_batch_share_their_statements(desk):
    """Each statement gives the interpreter to the event loop and has to win it back."""
    jobs = [desk.job() for _ in range(BATCH)]
    statements: list[str] = []
    desk.connection.set_trace_callback(statements.append)

    desk.run_together([desk.acceptance(job) for job in jobs])
    desk.run(Intend("email", [Call(job, 1, "alpha") for job in jobs], desk.now))
    desk.run_together([desk.settlement(job) for job in jobs])

    assert len(statements) <= SHARED_STATEMENTS


def test_counts_are_written_once_per_status_and_commit(desk):
    """However many notifications moved."""
    jobs = [desk.job(flow="acme", vt=float(n)) for n in range(BATCH)]
    statements: list[str] = []
    desk.connection.set_trace_callback(statements.append)

    desk.run_together([desk.acceptance(job) for job in jobs])

    assert sum(each.startswith("INSERT INTO counts") for each in statements) == 2
    assert sum(each.startswith("INSERT INTO flows") for each in statements) == 1
