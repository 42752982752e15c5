"""One tenant's flood is nobody else's waiting time."""

from __future__ import annotations

FLOOD = 100_000
RATE = 200


def place_of(provider, id_):
    """Return how many deliveries came before the one of `id_`."""
    return list(provider.deliveries).index(id_)


async def deliver_one(house, clarion, provider, **more):
    """Send one and return how many others were delivered while it waited."""
    before = provider.deliveries.total()
    one = await clarion.client.post(**house.email("late", **more))
    await provider.wait_for(lambda: provider.deliveries[one["id"]] == 1, timeout_s=20.0)
    return place_of(provider, one["id"]) - before


async def test_a_single_message_passes_a_flood_of_another_tenant(house):
    """It leaves within a few messages' time, at any moment and after a restart."""
    provider = await house.sendgrid()
    house.configure(
        {
            "only": provider.settings(
                bulkhead={"max_concurrent": 8}, rate_limit={"per_second": RATE, "burst": 4}
            )
        },
        {"email": ["only"]},
    )
    clarion = await house.start()
    for start in range(0, FLOOD, 10_000):
        numbers = range(start, start + 10_000)
        await house.send_all(clarion.client, [house.email(n, tenant="flood") for n in numbers])
    await provider.wait_for(200)
    slack = 60  # What is in flight, and what leaves during the request itself.

    assert await deliver_one(house, clarion, provider, tenant="small") <= slack
    assert await deliver_one(house, clarion, provider, tenant="smaller") <= slack
    assert await deliver_one(house, clarion, provider, tenant="flood", priority="critical") <= slack
    await clarion.kill()
    await clarion.start()
    assert await deliver_one(house, clarion, provider, tenant="small") <= slack
    assert await deliver_one(house, clarion, provider, tenant="newcomer") <= slack
    assert await deliver_one(house, clarion, provider, tenant="flood", priority="critical") <= slack
