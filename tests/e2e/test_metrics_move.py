"""`/metrics` after a day in small: every name of the contract is there, and tells what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from clarion.testing import Fault

CONTRACT = {
    "circuit_breaker_open_total", "circuit_breaker_success_total", "circuit_breaker_failure_total",
    "circuit_breaker_state", "clarion_notifications_accepted_total", "clarion_notifications_total",
    "clarion_provider_calls_total", "clarion_provider_call_seconds_count",
    "clarion_delivery_seconds_count", "clarion_queue_jobs",
    "clarion_queue_oldest_timestamp_seconds", "clarion_lane_held", "clarion_bulkhead_in_flight",
    "clarion_bulkhead_slots", "clarion_retries_total", "clarion_fallbacks_total",
    "clarion_possible_duplicates_total", "clarion_dead_letters_total",
    "clarion_actor_restarts_total", "clarion_actor_mailbox_messages",
    "clarion_event_loop_lag_seconds", "clarion_commit_seconds_count",
    "clarion_commit_batch_size_count", "clarion_pool_connections", "clarion_build_info",
}  # fmt: skip
"""Families with labels that nothing has happened for are there by their name alone."""


def in_an_hour():
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def samples(clarion):
    text = await clarion.client.metrics()
    families = list(text_string_to_metric_families(text))
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }
    named = {name for name, _ in found}
    for family in families:
        suffix = {"counter": "_total", "histogram": "_count"}.get(family.type, "")
        named.add(family.name + suffix)
    return named, lambda name, /, **labels: found.get((name, tuple(sorted(labels.items()))), 0.0)


async def test_each_metric_of_the_contract_is_there_and_moves(house):
    """One retry, one fallback, one dead letter, one that may be doubled, and what they cost."""
    first, second, texts = await house.sendgrid(), await house.sendgrid(), await house.twilio()
    house.configure(
        {
            "first": first.settings(timeout=0.5, bulkhead={"max_concurrent": 4}),
            "second": second.settings(bulkhead={"max_concurrent": 4}),
            "texts": texts.settings(bulkhead={"max_concurrent": 2}),
        },
        {"email": ["first", "second"], "sms": ["texts"]},
        defaults={"unknown_grace": 0.1},
    )
    clarion = await house.start()
    client = clarion.client

    async def send(provider, fault, **notification):
        if fault is not None:
            provider.behave(fault, times=1)
        return await client.wait_final((await client.post(**notification))["id"])

    await send(first, None, **house.email(0, priority="high"))
    await send(first, Fault.error(500), **house.email(1))
    await send(first, Fault.error(400), **house.email(2))
    await send(first, Fault.accept_then_hang(), **house.email(3))
    await send(texts, Fault.error(500), **house.sms(4))
    await client.request("POST", "/v1/providers/texts/disable")
    waiting = await client.post(**house.sms(5))
    later = await client.post(**house.sms(6, send_at=in_an_hour()))

    async def is_seen():
        # How lanes stand is remembered for a moment, and a call that was intended as the provider
        # was disabled is on its way back to the lane.
        _, value = await samples(clarion)
        return (
            value("clarion_queue_jobs", channel="sms", state="scheduled") == 1
            and value("clarion_queue_jobs", channel="sms", state="ready") == 1
        )

    await house.until(is_seen)
    named, value = await samples(clarion)
    assert named >= CONTRACT
    assert value("clarion_notifications_accepted_total", channel="email", priority="high") == 1
    assert value("clarion_notifications_accepted_total", channel="email", priority="normal") == 3
    assert value("clarion_notifications_total", channel="email", status="sent") == 3
    assert value("clarion_notifications_total", channel="email", status="failed") == 1
    assert value("clarion_dead_letters_total", channel="email", reason="permanent") == 1
    assert value("clarion_provider_calls_total", provider="first", outcome="transient") == 1
    assert value("clarion_provider_calls_total", provider="first", outcome="unknown") == 1
    assert value("clarion_provider_calls_total", provider="second", outcome="accepted") == 2
    assert value("clarion_provider_call_seconds_count", provider="first") == 4
    assert value("clarion_fallbacks_total", channel="email", provider="second") == 2
    assert value("clarion_possible_duplicates_total", channel="email") == 1
    assert value("clarion_retries_total", provider="texts") == 1
    assert value("clarion_delivery_seconds_count", channel="email") == 3
    assert value("circuit_breaker_failure_total", name="first") == 2
    assert value("circuit_breaker_success_total", name="second") == 2
    assert value("circuit_breaker_state", name="second") == 0
    assert value("clarion_queue_jobs", channel="sms", state="ready") == 1
    assert value("clarion_queue_jobs", channel="sms", state="scheduled") == 1
    assert value("clarion_queue_jobs", channel="email", state="ready") == 0
    assert value("clarion_lane_held", channel="sms") == 1
    assert value("clarion_lane_held", channel="email") == 0
    assert value("clarion_queue_oldest_timestamp_seconds", channel="sms") > 1e9
    assert value("clarion_bulkhead_slots", provider="second") == 4
    assert value("clarion_bulkhead_in_flight", provider="second") == 0
    assert value("clarion_commit_batch_size_count") >= 5
    assert {waiting["status"], later["status"]} == {"queued", "scheduled"}


async def test_slots_and_places_in_a_lane_are_seen_while_a_provider_hangs(house):
    """In flight is what the provider sees, and the rest is ready."""
    provider = await house.sendgrid()
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": 4})}, {"email": ["only"]}
    )
    provider.behave(Fault.hang())
    clarion = await house.start()
    await house.send_all(clarion.client, [house.email(n) for n in range(10)])
    await provider.wait_for(lambda: provider.in_flight == 4)

    async def is_seen():  # How lanes stand is remembered for a moment.
        _, value = await samples(clarion)
        return (
            value("clarion_bulkhead_in_flight", provider="only") == 4
            and value("clarion_queue_jobs", channel="email", state="in_flight") == 4
            and value("clarion_queue_jobs", channel="email", state="ready") == 6
        )

    assert await house.until(is_seen)
