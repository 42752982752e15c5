"""Each actor crashed on purpose, again and again, under load."""

from __future__ import annotations

import asyncio

import pytest

import clarion
from clarion.testing import Crash

ROUNDS = 6
PER_ROUND = 40
NAMES = ["supervisor", "journal", "queue:email", "provider:only", "breaker:only"]


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_is_lost_or_doubled_when_it_crashes_under_load(house, name):
    """It is restarted behind its address; all are delivered, and a doubled one is marked."""
    provider = await house.sendgrid()
    provider.latency_s = 0.01
    path = house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": 8})}, {"email": ["only"]}
    )
    async with clarion.start(path) as service:
        receipts = []
        for number in range(ROUNDS):
            sends = [service.send(**house.email(f"{number}-{index}")) for index in range(PER_ROUND)]
            sending = asyncio.gather(*sends)
            service.ref(name).tell(Crash(f"round {number}"))
            receipts += await sending
        finals = await asyncio.gather(*(each.settled(timeout=20) for each in receipts))

        assert {final.status for final in finals} == {"sent"}
        assert set(provider.deliveries) == {receipt.id for receipt in receipts}
        marked = {final.id for final in finals if final.possibly_duplicated}
        assert set(provider.duplicates()) <= marked
        stats = await service.stats()
        assert stats["accepted"] == ROUNDS * PER_ROUND == stats["by_status"]["sent"]
        actors = (await service.providers()).restarts
        if name != "supervisor":
            assert actors[name] == ROUNDS


async def test_a_lane_over_its_budget_closes_alone(house):
    """Its channel answers LaneClosed at once; the other channel goes on."""
    mail, texts = await house.sendgrid(), await house.twilio()
    path = house.configure(
        {"mail": mail.settings(), "texts": texts.settings()},
        {"email": ["mail"], "sms": ["texts"]},
    )
    async with clarion.start(path) as service:

        async def is_over():
            service.ref("queue:email").tell(Crash("once more"))
            return (await service.providers()).actors["queue:email"] == "failed"

        await house.until(is_over, timeout_s=40.0)
        with pytest.raises(clarion.errors.LaneClosed):
            await service.send(**house.email(1))
        receipt = await service.send(**house.sms(1))
        assert (await receipt.settled(timeout=10)).status == "sent"
