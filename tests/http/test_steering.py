"""Queues, providers and breakers: what is shown, and that steering does what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clarion.errors import Unanswered
from clarion.gauges import Gauges


async def lane(served, channel):
    answer = await served.get("/v1/queues")
    assert answer.status == 200
    return next(each for each in answer.json["items"] if each["channel"] == channel)


async def provider(served, name="outbox"):
    answer = await served.get("/v1/providers")
    assert answer.status == 200
    return next(each for each in answer.json["items"] if each["name"] == name)


async def test_a_paused_lane_accepts_and_sends_nothing_until_it_is_resumed(served):
    """204, and the lane shows it; the other channel is not concerned."""
    paused = await served.post("/v1/queues/email/pause")
    one = await served.send()

    assert (paused.status, paused.text) == (204, "")
    shown = await lane(served, "email")
    assert (shown["paused"], shown["ready"], shown["accepting"]) == (True, 1, True)
    assert not (await lane(served, "sms"))["paused"]

    assert (await served.post("/v1/queues/email/resume")).status == 204

    async def is_sent():
        return (await served.get(f"/v1/notifications/{one['id']}")).json["status"] == "sent"

    await served.until(is_sent)
    assert not (await lane(served, "email"))["paused"]


async def test_a_disabled_provider_takes_nothing_until_it_is_enabled(served):
    """Its state, its lane's `held`, and the notification's own all say it."""
    assert (await served.post("/v1/providers/outbox/disable")).status == 204
    one = await served.send()

    shown = await provider(served)
    assert (shown["enabled"], shown["state"]) == (False, "disabled")
    assert (await lane(served, "email"))["held"]
    story = (await served.get(f"/v1/notifications/{one['id']}")).json
    assert story["held"]
    assert "disabled" in story["held_reason"]

    assert (await served.post("/v1/providers/outbox/enable")).status == 204

    async def is_sent():
        return (await served.get(f"/v1/notifications/{one['id']}")).json["status"] == "sent"

    await served.until(is_sent)
    assert (await provider(served))["enabled"]


@pytest.mark.parametrize(
    ("action", "circuit"), [("open", "forced_open"), ("close", "disabled"), ("reset", "closed")]
)
async def test_a_circuit_can_be_forced_and_reset(served, action, circuit):
    """What it is told shows in the list of providers."""
    assert (await served.post(f"/v1/breakers/outbox/{action}")).status == 204

    async def is_so():
        return (await provider(served))["circuit"] == circuit

    assert await served.until(is_so)


async def test_what_is_shown_has_the_names_that_clients_count_on(served):
    """The command line and the page read these."""
    assert set(await provider(served)) == {
        "name", "kind", "channels", "state", "circuit", "failures", "enabled", "in_flight",
        "slots", "max_concurrent", "reason", "retry_after_s", "health",
    }  # fmt: skip
    assert {
        "channel", "paused", "held", "held_reason", "accepting", "ready", "scheduled", "waiting",
        "in_flight", "oldest_at", "problem", "route",
    } <= set(await lane(served, "email"))  # fmt: skip


async def test_metrics_are_of_the_moment_and_in_the_format_that_was_asked_for(served):
    """The gauges are read when somebody scrapes; OpenMetrics ends with its mark."""
    await served.post("/v1/queues/email/pause")
    await served.send()

    plain = await served.get("/metrics")
    modern = await served.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert plain.status == modern.status == 200
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
    assert 'clarion_queue_jobs{channel="email",state="ready"} 1.0' in plain.text
    assert modern.text.endswith("# EOF\n")


async def test_counters_are_there_at_zero_before_anything_happens(served):
    """`rate()` and `increase()` see nothing of a counter that appears with what it counts."""
    text = (await served.get("/metrics")).text

    for sample in (
        'clarion_dead_letters_total{channel="email",reason="exhausted"}',
        'clarion_notifications_total{channel="email",status="unknown"}',
        'clarion_possible_duplicates_total{channel="email"}',
        'clarion_provider_calls_total{outcome="misconfigured",provider="outbox"}',
        'clarion_retries_total{provider="outbox"}',
        'clarion_actor_restarts_total{actor="queue:email"}',
    ):
        assert f"{sample} 0.0" in text


async def test_metrics_are_shown_while_the_supervisor_is_busy(served, serve_front):
    """A scrape has to work best when something else does not."""

    class Silent:
        async def queues(self):
            raise Unanswered("nobody answers")

        journal_snapshot = queues

    gauges = Gauges(Silent(), served.engine.reader, {}, served.engine.runtime, served.front.metrics)
    silent = await serve_front(replace(served.front, gauges=gauges))

    assert (await silent.get("/metrics")).status == 200
