"""A provider that hangs costs its own slots, and nothing else."""

from __future__ import annotations

from clarion.testing import Fault

SLOTS = 4


async def test_a_hanging_provider_does_not_touch_another_channel(house):
    """While every e-mail slot hangs, all text messages are delivered."""
    mail, texts = await house.sendgrid(), await house.twilio()
    house.configure(
        {
            "mail": mail.settings(bulkhead={"max_concurrent": SLOTS}),
            "texts": texts.settings(),
        },
        {"email": ["mail"], "sms": ["texts"]},
    )
    mail.behave(Fault.hang())
    clarion = await house.start()
    await house.send_all(clarion.client, [house.email(n) for n in range(50)])
    await mail.wait_for(lambda: mail.in_flight == SLOTS)

    ids = await house.send_all(clarion.client, [house.sms(n) for n in range(300)])
    await texts.wait_for(300, timeout_s=4.5)  # The first hung e-mail times out after 5 s.

    assert mail.in_flight == SLOTS
    assert mail.max_in_flight == SLOTS
    assert (await clarion.client.wait_final(ids[-1]))["status"] == "sent"


async def test_the_fallback_takes_over_when_the_primary_stalls(house):
    """After `spill_after` without any movement new work goes on to the next provider."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(bulkhead={"max_concurrent": SLOTS}, timeout=20.0,
                                        breaker={"half_open_timeout": 20.0}),
            "second": second.settings(),
        },
        {"email": {"providers": ["primary", "second"], "spill_after": 0.3}},
    )  # fmt: skip
    primary.behave(Fault.hang())
    clarion = await house.start()
    await house.send_all(clarion.client, [house.email(n) for n in range(60)])

    await second.wait_for(60 - SLOTS, timeout_s=10.0)

    assert primary.in_flight == SLOTS
    assert primary.max_in_flight == SLOTS
    state = house.provider(await clarion.client.providers(), "primary")
    assert state["state"] == "stalled"
