"""A row that was spoilt on the disk is a dead letter, and nobody else's trouble."""

from __future__ import annotations

import sqlite3

SPOILT = {
    "content": "UPDATE notifications SET content = '{not json' WHERE id = ?",
    "metadata": "UPDATE notifications SET metadata = '[' WHERE id = ?",
    "tried": "UPDATE jobs SET tried = '{}' WHERE id = ?",
    "call": "UPDATE jobs SET call = 9223372036854775807 WHERE id = ?",
}


async def test_spoilt_rows_are_dead_letters_and_the_others_are_delivered(house):
    """No crash, no lane that stands still, no count that is off."""
    provider = await house.sendgrid()
    house.configure({"only": provider.settings()}, {"email": ["only"]})
    clarion = await house.start()
    await clarion.client.request("POST", "/v1/queues/email/pause")
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(40)])
    await clarion.terminate()
    spoilt = dict(zip(SPOILT, ids[::10], strict=True))
    database = sqlite3.connect(clarion.directory / "clarion.db")
    with database:
        for name, id_ in spoilt.items():
            assert database.execute(SPOILT[name], (id_,)).rowcount == 1
    database.close()
    await clarion.start()

    await clarion.client.request("POST", "/v1/queues/email/resume")
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 36, "failed": 4}
    assert stats["accepted"] == 40
    assert set(provider.deliveries) == {*ids} - {*spoilt.values()}
    for id_ in spoilt.values():
        one = await clarion.client.get(id_)
        assert (one["status"], one["reason"]) == ("failed", "poison")
    assert "crashed" not in clarion.log
