"""Counts reconcile at any moment."""

from __future__ import annotations

import asyncio

from clarion.testing import Fault


async def test_stats_reconcile_at_every_poll_under_load(house):
    """`accepted` equals the sum of `by_status`, overall and per channel, whenever one looks."""
    provider, texts = await house.sendgrid(), await house.twilio()
    provider.fail_ratio = 0.3
    house.configure(
        {"mail": provider.settings(breaker={"failure_threshold": 20}), "texts": texts.settings()},
        {"email": ["mail"], "sms": ["texts"]},
    )
    provider.behave(Fault.error(400, message="bad", field="subject"), times=20)
    clarion = await house.start()
    polls = 0

    async def send():
        for start in range(0, 600, 30):
            numbers = range(start, start + 30)
            await house.send_all(clarion.client, [house.email(n) for n in numbers])
            await house.send_all(clarion.client, [house.sms(n) for n in numbers])

    sending = asyncio.create_task(send())
    while not sending.done() or polls < 50:
        stats = await clarion.client.stats()
        polls += 1
        assert stats["accepted"] == sum(stats["by_status"].values())
        by_channel = stats["by_channel"].values()
        assert stats["accepted"] == sum(each["accepted"] for each in by_channel)
        for each in by_channel:
            assert each["accepted"] == sum(each["by_status"].values())
    await sending
    stats = await clarion.client.wait_drained(60.0)
    assert stats["accepted"] == 1200
    assert stats["by_status"]["failed"] >= 20
    assert stats["by_status"]["sent"] + stats["by_status"]["failed"] == 1200
