"""Cancelling at any stage: before a call, during one, between two, and too late."""

from __future__ import annotations

import time

import pytest

from clarion.domain.instant import rfc3339
from clarion.testing import Fault

HOUR_S = 3600.0


@pytest.fixture
async def one_provider(house):
    """A provider with one slot, and a server that waits long before it tries again."""
    provider = await house.sendgrid()
    house.configure(
        {"only": provider.settings(timeout=1.0, bulkhead={"max_concurrent": 1})},
        {"email": ["only"]},
        retry={"initial_delay": 1000.0, "max_delay": 1000.0, "jitter": False},
        defaults={"unknown_grace": 1000.0},
    )
    return provider, await house.start()


async def cancel(clarion, id_):
    return await clarion.client.request("POST", f"/v1/notifications/{id_}/cancel")


async def until_waiting(house, clarion, id_, reason):
    async def is_waiting():
        return (await clarion.client.get(id_))["waiting"] == reason

    await house.until(is_waiting)


async def test_what_no_call_was_made_for_is_cancelled(house, one_provider):
    """Scheduled, and queued behind a lane that is paused."""
    provider, clarion = one_provider
    await clarion.client.request("POST", "/v1/queues/email/pause")
    scheduled = await clarion.client.post(**house.email(1, send_at=rfc3339(time.time() + HOUR_S)))
    queued = await clarion.client.post(**house.email(2))

    answers = [await cancel(clarion, each["id"]) for each in (scheduled, queued)]

    assert [answer.body["status"] for answer in answers] == ["cancelled", "cancelled"]
    assert house.ended(await clarion.client.stats()) == {"cancelled": 2}
    await clarion.client.request("POST", "/v1/queues/email/resume")
    assert len(provider.requests) == 0


async def test_what_waits_for_a_retry_is_cancelled(house, one_provider):
    """The provider surely did not take it."""
    provider, clarion = one_provider
    provider.behave(Fault.error(500))
    one = await clarion.client.post(**house.email(1))
    await until_waiting(house, clarion, one["id"], "retry")

    answer = await cancel(clarion, one["id"])

    assert (answer.body["status"], answer.body["reason"]) == ("cancelled", "cancelled")
    assert len(provider.requests) == 1


async def test_what_waits_for_a_receipt_ends_as_unknown(house, one_provider):
    """`cancelled` means that no provider can have it, and here one may."""
    provider, clarion = one_provider
    provider.behave(Fault.accept_then_hang())
    one = await clarion.client.post(**house.email(1))
    await until_waiting(house, clarion, one["id"], "receipt")

    answer = await cancel(clarion, one["id"])

    assert (answer.body["status"], answer.body["reason"]) == ("unknown", "cancelled")
    assert provider.deliveries[one["id"]] == 1


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_call_that_is_out_is_the_last_one(house, one_provider, is_taken):
    """If the provider takes it, it is sent; if its answer is lost, nobody is asked again."""
    provider, clarion = one_provider
    provider.latency_s = 0.5
    if not is_taken:
        provider.behave(Fault.hang())
    one = await clarion.client.post(**house.email(1))
    await provider.wait_for(lambda: provider.in_flight == 1)

    answer = await cancel(clarion, one["id"])
    final = await clarion.client.wait_final(one["id"])

    assert (answer.status, answer.body["status"]) == (200, "sending")
    assert answer.body["cancel_requested"] is True
    assert final["status"] == ("sent" if is_taken else "unknown")
    assert len(provider.requests) == 1


async def test_what_has_ended_cannot_be_cancelled(house, one_provider):
    """409, and it stays as it is."""
    _provider, clarion = one_provider
    one = await clarion.client.post(**house.email(1))
    await clarion.client.wait_final(one["id"])

    answer = await cancel(clarion, one["id"])

    assert answer.status == 409
    assert (await clarion.client.get(one["id"]))["status"] == "sent"
