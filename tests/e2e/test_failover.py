"""A provider's trouble stays its own: fallback, hold, recovery by probe."""

from __future__ import annotations

THRESHOLD = 5
SLOTS = 8


def sends(provider):
    return [request for request in provider.requests if request.is_send]


def ramped(requests):
    """Whether no request came beside more others than had been delivered before it, plus one."""
    first = requests[0].delivered_before
    return all(each.in_flight <= 1 + each.delivered_before - first for each in requests)


async def test_all_is_delivered_through_the_fallback_while_the_primary_answers_500(house):
    """The primary sees at most its threshold plus its slots; each timeline says why."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(
                bulkhead={"max_concurrent": SLOTS},
                breaker={"failure_threshold": THRESHOLD, "timeout": 30.0},
            ),
            "second": second.settings(),
        },
        {"email": ["primary", "second"]},
    )
    primary.behave(primary.failure)
    clarion = await house.start()
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(200)])

    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 200}
    assert second.deliveries.total() == 200
    assert set(second.deliveries) == set(ids)
    assert not second.duplicates()
    assert len(sends(primary)) <= THRESHOLD + SLOTS
    story = (await clarion.client.get(ids[-1]))["timeline"]
    choice = next(event for event in story if event["provider"] == "second")
    reasons = {each["provider"]: each["why"] for each in choice["considered"]}
    assert "circuit" in reasons["primary"]


async def test_a_primary_that_stays_down_sees_one_probe_at_a_time(house):
    """After the first failures a circuit that stays open lets one probe through per period."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(
                bulkhead={"max_concurrent": SLOTS},
                breaker={"failure_threshold": THRESHOLD, "timeout": 0.1, "timeout_max": 0.1},
            ),
            "second": second.settings(),
        },
        {"email": ["primary", "second"]},
    )
    primary.behave(primary.failure)
    clarion = await house.start()
    await house.send_all(clarion.client, [house.email(n) for n in range(100)])
    await clarion.client.wait_drained()
    primary.ledger.clear()

    async def is_probed_thrice():
        await clarion.client.post(**house.email("more"))
        return len(sends(primary)) >= 3

    await house.until(is_probed_thrice)
    await clarion.client.wait_drained()

    assert primary.max_in_flight == 1
    assert {each.in_flight for each in sends(primary)} == {1}
    calls = 'circuit_breaker_state{name="primary"}'
    assert calls in await clarion.client.metrics()


async def test_new_work_goes_to_the_primary_again_after_two_good_probes(house):
    """Recovery is by probe and ramp, not by the clock alone."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {"primary": primary.settings(), "second": second.settings()},
        {"email": ["primary", "second"]},
    )
    primary.behave(primary.failure)
    clarion = await house.start()
    await house.send_all(clarion.client, [house.email(n) for n in range(50)])
    await clarion.client.wait_drained()
    assert primary.deliveries.total() == 0

    primary.recover()

    async def is_closed():
        await clarion.client.post(**house.email("probe"))
        answer = await clarion.client.providers()
        return house.provider(answer, "primary")["state"] == "ok"

    await house.until(is_closed)
    before = second.deliveries.total()
    await house.send_all(clarion.client, [house.email(n) for n in range(20)])
    await clarion.client.wait_drained()
    assert second.deliveries.total() == before
    assert primary.deliveries.total() >= 20


async def test_work_is_held_while_every_provider_is_down_and_delivered_once_after(house):
    """Accepting goes on; attempts are unburnt; a handful of probes; then all, without a rush."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(bulkhead={"max_concurrent": SLOTS}),
            "second": second.settings(bulkhead={"max_concurrent": SLOTS}),
        },
        {"email": ["primary", "second"]},
    )
    for provider in (primary, second):
        provider.behave(provider.failure)
    clarion = await house.start()
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(100)])

    async def is_held():
        one = await clarion.client.get(ids[-1])
        return one if one["held"] else None

    one = await house.until(is_held)
    assert "primary" in one["held_reason"]
    assert "second" in one["held_reason"]
    assert one["status"] == "queued"
    assert one["attempts"] == 0
    late = await house.send_all(clarion.client, [house.email(n) for n in range(100, 150)])
    seen = len(sends(primary)) + len(sends(second))
    assert seen <= 2 * (THRESHOLD + SLOTS) + 10

    for provider in (primary, second):
        provider.ledger.clear()
        provider.latency_s = 0.02
        provider.recover()
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 150}
    total = primary.deliveries + second.deliveries
    assert set(total) == {*ids, *late}
    assert max(total.values()) == 1
    for provider in (primary, second):
        assert provider.max_in_flight <= SLOTS
        assert ramped(sends(provider))
