"""Throttling and wrong credentials are no failures of the provider, and are not treated as such."""

from __future__ import annotations

import json

from clarion.testing import Fault

RETRY_AFTER_S = 1.5


async def test_nothing_goes_to_a_throttling_provider_before_its_time(house):
    """Retry-After is kept; the circuit stays closed, attempts unburnt; the fallback helps out."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(bulkhead={"max_concurrent": 1}),
            "second": second.settings(),
        },
        {"email": ["primary", "second"]},
    )
    primary.behave(Fault.throttled(RETRY_AFTER_S), times=1)
    clarion = await house.start()
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(30)])
    await clarion.client.wait_drained()

    assert second.deliveries.total() == 30
    state = house.provider(await clarion.client.providers(), "primary")
    assert state["circuit"] == "closed"
    assert state["state"] == "throttled"
    for id_ in ids:
        assert (await clarion.client.get(id_))["attempts"] <= 1

    async def is_back():
        await clarion.client.post(**house.email("late"))
        return primary.deliveries.total()

    await house.until(is_back)
    first, *later = [request for request in primary.requests if request.is_send]
    assert later[0].at - first.at >= RETRY_AFTER_S


async def test_wrong_credentials_are_told_and_the_rest_goes_elsewhere(house):
    """MISCONFIGURED at once; `/health` and the log say what to fix."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(api_key="SG.wrong", bulkhead={"max_concurrent": 2}),
            "second": second.settings(),
        },
        {"email": ["primary", "second"]},
    )
    clarion = await house.start()
    await house.send_all(clarion.client, [house.email(n) for n in range(40)])
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 40}
    assert second.deliveries.total() == 40
    assert len([each for each in primary.requests if each.is_send]) <= 2
    health = (await clarion.client.health()).body
    assert health["status"] == "warn"
    assert "misconfigured" in str(health["checks"]["provider:primary"])
    assert "provider_misconfigured" in clarion.log
    assert "[providers.primary]" in clarion.log
    assert 'circuit_breaker_state{name="primary"} 2.0' in await clarion.client.metrics()


async def test_a_corrected_account_is_found_by_its_probe(house):
    """After `misconfigured_probe` one health probe, then one real send, then all."""
    only = await house.sendgrid()
    house.configure(
        {"only": only.settings(misconfigured_probe=0.3, bulkhead={"max_concurrent": 2})},
        {"email": ["only"]},
    )
    only.behave(Fault.unauthorized())
    clarion = await house.start()
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(20)])

    async def is_held():
        return (await clarion.client.get(ids[-1]))["held"]

    await house.until(is_held)
    await house.until(lambda: [each for each in only.requests if not each.is_send])
    tried = len([each for each in only.requests if each.is_send])
    assert tried <= 2
    only.recover()
    stats = await clarion.client.wait_drained()
    assert house.ended(stats) == {"sent": 20}
    assert only.duplicates() == {}


async def test_one_id_leads_from_the_request_to_the_failed_call(house):
    """The log names the call by the id that the request brought, and no address in clear."""
    only = await house.sendgrid()
    house.configure({"only": only.settings()}, {"email": ["only"]})
    only.behave(Fault.error(400, message="bad subject", field="subject"))
    clarion = await house.start()
    answer = await clarion.client.request(
        "POST", "/v1/notifications", json=house.email(1), headers={"X-Request-ID": "order-4711"}
    )
    await clarion.client.wait_final(answer.body["id"])

    assert answer.headers["X-Request-ID"] == "order-4711"
    lines = [json.loads(line) for line in clarion.log.splitlines()]
    (line,) = [each for each in lines if each["event"] == "provider_call_failed"]
    assert line["correlation_id"] == "order-4711"
    assert line["notification_id"] == answer.body["id"]
    assert "user1@example.com" not in clarion.log
