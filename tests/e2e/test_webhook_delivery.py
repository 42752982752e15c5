"""Webhooks end to end: signed, and no host is another host's trouble."""

from __future__ import annotations

from clarion.testing import Fault, WebhookLookalike

PER_HOST = 2
SLOTS = 8


async def receivers(house, n):
    return [await house._stack.enter_async_context(WebhookLookalike()) for _ in range(n)]


def hook(receiver, number):
    """Return a notification to a receiver; each, having a port of its own, is a host of its own."""
    return {"channel": "webhook", "to": receiver.hook, "data": {"number": number}}


def configure(house, receiver, **extra):
    table = receiver.settings(max_per_host=PER_HOST, bulkhead={"max_concurrent": SLOTS}, **extra)
    house.configure({"hooks": table}, {"webhook": ["hooks"]})


async def test_a_message_arrives_signed_and_once(house):
    """The receiver verifies by the specification, and refuses what is not right."""
    [receiver] = await receivers(house, 1)
    configure(house, receiver)
    clarion = await house.start()

    ids = await house.send_all(clarion.client, [hook(receiver, n) for n in range(40)])
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 40}
    assert set(receiver.deliveries) == set(ids)
    assert receiver.duplicates() == {}
    assert receiver.max_in_flight <= PER_HOST
    payload = receiver.requests[0].payload
    assert payload["id"] in ids
    assert payload["type"] == "notification"
    assert set(payload["data"]) == {"number"}


async def test_a_dead_host_and_a_hanging_one_do_not_touch_another(house):
    """Their messages wait; the other host's are delivered, and the circuit stays closed."""
    dead, hanging, well = await receivers(house, 3)
    configure(house, well)
    dead.behave(dead.failure)
    hanging.behave(Fault.hang())
    clarion = await house.start()
    await house.send_all(clarion.client, [hook(dead, n) for n in range(20)])
    await house.send_all(clarion.client, [hook(hanging, n) for n in range(20)])
    await hanging.wait_for(lambda: hanging.in_flight == PER_HOST)

    ids = await house.send_all(clarion.client, [hook(well, n) for n in range(60)])
    await well.wait_for(60, timeout_s=4.5)  # The first hung one times out after 5 s.

    assert hanging.max_in_flight == PER_HOST
    assert set(well.deliveries) == set(ids)
    state = house.provider(await clarion.client.providers(), "hooks")
    assert state["circuit"] == "closed"
    assert state["state"] == "ok"


async def test_an_address_that_is_not_public_is_not_called(house):
    """Without `allow_private` a URL into our own network is the recipient's fault."""
    [receiver] = await receivers(house, 1)
    configure(house, receiver, allow_private=False)
    clarion = await house.start()

    by_name = {**hook(receiver, 2), "to": receiver.hook.replace("127.0.0.1", "localhost")}
    ids = await house.send_all(clarion.client, [hook(receiver, 1), by_name])

    for id_ in ids:
        final = await clarion.client.wait_final(id_)
        assert (final["status"], final["reason"]) == ("failed", "recipient")
    assert len(receiver.requests) == 0
