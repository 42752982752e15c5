"""Rows that are gathered and written together: fewer calls, and nothing seen too late."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Call, Status
from clarion.storage.bulk import INSERT_CALLS, SIZES
from clarion.storage.command import Cancel, Intend


class Counting:
    """Counts the statements that go over a connection."""

    def __init__(self, connection):
        self._connection = connection
        self.statements = 0

    def run(self, statement, values):
        self.statements += 1
        return self._connection.run(statement, values)


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 200])
def test_any_number_of_rows_is_written(desk, n):
    """In as few statements as the sizes allow."""
    rows = [
        (f"id{number}", 1, "alpha", "accepted", "", "", 0.1, 0.2, "", None, None, 0)
        for number in range(n)
    ]
    connection = Counting(desk.connection)

    assert INSERT_CALLS.run(connection, rows) == n

    [(found,)] = desk.execute("SELECT count(*) FROM provider_calls").fetchall()
    assert found == n
    assert connection.statements <= n // SIZES[0] + len(SIZES)


def test_a_number_comes_back_to_the_last_bit(desk):
    """A place in the lane is compared between memory and disk."""
    job = desk.job(vt=0.1 + 0.2)

    desk.run(desk.acceptance(job))

    [(vt,)] = desk.execute("SELECT vt FROM jobs").fetchall()
    assert vt == 0.1 + 0.2


def test_what_one_batch_accepts_and_sends_and_ends_is_seen_in_order(desk):
    """Commands of one job in one commit find the rows that the earlier ones gathered."""
    job, other = desk.job(), desk.job()

    accepted, intended, settled, cancelled, late = desk.run_together(
        [
            desk.acceptance(job, other),
            Intend("email", [Call(job, 1, "alpha")], desk.now),
            desk.settlement(job),
            Cancel("email", other.id, desk.now),
            Cancel("email", job.id, desk.now),
        ]
    )

    assert len(accepted) == 2
    assert [call.number for call in intended] == [1]
    assert settled is True
    assert cancelled.verdict == "cancelled"
    assert (late.verdict, late.status) == ("final", "sent")


def test_an_intent_that_one_row_forbids_still_notes_the_others(desk):
    """The statement for all is undone, and each row decides for itself."""
    jobs = [desk.job() for _ in range(3)]
    desk.run(desk.acceptance(*jobs))
    desk.run(Cancel("email", jobs[1].id, desk.now))

    matched = desk.run(Intend("email", [Call(job, 1, "alpha") for job in jobs], desk.now))

    assert [call.job.id for call in matched] == [jobs[0].id, jobs[2].id]


def test_settlements_in_a_row_end_each_what_is_there(desk):
    """One that comes again, one of another call, one whose job has gone: each hears for itself."""
    twice, later, cancelled, last = jobs = [desk.accepted() for _ in range(4)]
    desk.run(Intend("email", [Call(job, 1, "alpha") for job in jobs if job is not cancelled], 0.0))
    desk.run(Cancel("email", cancelled.id, desk.now))

    ended = desk.run_together(
        [
            desk.settlement(twice),
            desk.settlement(later, number=2),
            desk.settlement(cancelled),
            desk.settlement(twice, status=Status.FAILED, reason="permanent"),
            desk.settlement(last),
        ]
    )

    assert ended == [True, False, False, False, True]
    assert desk.record_row(twice)["status"] == "sent"
    assert desk.job_row(later)["sending"] == "alpha"
    assert desk.counts() == {"accepted": 4, "sent": 2, "sending": 1, "cancelled": 1}


def test_settlements_in_a_row_see_what_their_batch_accepted(desk):
    """Their jobs are written before they are looked for."""
    jobs = [desk.job() for _ in range(2)]

    *_, first, second = desk.run_together(
        [
            desk.acceptance(*jobs),
            Intend("email", [Call(job, 1, "alpha") for job in jobs], desk.now),
            *(desk.settlement(job) for job in jobs),
        ]
    )

    assert (first, second) == (True, True)
    assert desk.counts() == {"accepted": 2, "sent": 2}


def test_a_record_that_is_there_keeps_the_others_of_its_batch(desk):
    """The statement for all is undone, and each row decides for itself: none is sent again."""
    ended, new = desk.sending(), desk.job()
    desk.run(desk.settlement(ended))

    desk.run_together([desk.acceptance(ended), desk.acceptance(new)])

    assert desk.job_row(ended) is None
    assert desk.job_row(new)["state"] == 0
    assert desk.counts() == {"accepted": 2, "sent": 1, "queued": 1}
