"""The counts against the rows."""

from __future__ import annotations

from clarion.domain.notification import Status
from clarion.storage.recount import Difference, recount


def test_counts_that_agree_with_the_rows_have_no_difference(desk):
    """Live, ended and accepted ones, over all channels."""
    desk.accept(desk.scheduled(desk.now + 5.0))
    desk.run(desk.settlement(desk.sending(), 1, Status.FAILED, "permanent"))
    desk.sending(channel="sms")

    assert recount(desk.connection) == []


def test_a_count_that_the_rows_do_not_confirm_is_reported(desk):
    """With both numbers, for each status that differs."""
    desk.accepted()
    desk.execute("UPDATE counts SET n = 5 WHERE status = 'queued'")
    desk.execute("DELETE FROM counts WHERE status = 'accepted'")

    assert recount(desk.connection) == [
        Difference("email", "accepted", 0, 1),
        Difference("email", "queued", 5, 1),
    ]
