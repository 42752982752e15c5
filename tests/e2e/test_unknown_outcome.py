"""A provider that takes a message and never says so: unknown, never a silent duplicate."""

from __future__ import annotations

from clarion.testing import Fault

GRACE_S = 0.8
TIMEOUT_S = 0.5


async def house_with_lost_answers(house):
    provider = await house.sendgrid()
    house.configure(
        {"only": provider.settings(timeout=TIMEOUT_S)},
        {"email": ["only"]},
        defaults={"unknown_grace": GRACE_S},
    )
    provider.behave(Fault.accept_then_hang(), times=1)
    return provider, await house.start()


async def test_at_most_once_makes_exactly_one_request(house):
    """It parks as `unknown`, with a sentence that says so."""
    provider, clarion = await house_with_lost_answers(house)
    one = await clarion.client.post(**house.email(1, delivery="at_most_once"))

    final = await clarion.client.wait_final(one["id"])

    assert final["status"] == "unknown"
    assert len(provider.requests) == 1
    assert final["possibly_duplicated"] is False
    assert "only" in final["explanation"]


async def test_at_least_once_tries_again_after_the_grace_and_says_so(house):
    """Waits for a receipt first; the second call is marked on the notification and counted."""
    provider, clarion = await house_with_lost_answers(house)
    one = await clarion.client.post(**house.email(1))

    async def is_waiting():
        now = await clarion.client.get(one["id"])
        return now if now["waiting"] == "receipt" else None

    waiting = await house.until(is_waiting)
    assert waiting["status"] == "queued"
    final = await clarion.client.wait_final(one["id"])

    first, second = provider.requests
    assert second.at - first.at >= TIMEOUT_S + GRACE_S - 0.05
    assert final["status"] == "sent"
    assert final["possibly_duplicated"] is True
    assert provider.deliveries[one["id"]] == 2
    assert (
        'clarion_possible_duplicates_total{channel="email"} 1.0' in await clarion.client.metrics()
    )
