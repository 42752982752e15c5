"""What `/livez`, `/readyz` and `/health` say, part by part and in partial trouble."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from clarion.actors.journal_messages import JournalSnapshot
from clarion.actors.messages import LaneSnapshot
from clarion.actors.supervisor_messages import CircuitReport, ProviderSnapshot, SupervisorSnapshot
from clarion.domain.outcome import Health
from clarion.errors import StorageUnavailable, Unanswered
from clarion.gauges import Gauges
from clarion.http import health
from clarion.http.health import State, checks, functions, worst
from clarion.policies.routing import RouteState
from clarion.service import SilentLane

WRITABLE = JournalSnapshot(True, "", 0)
FULL = JournalSnapshot(False, "the disk is full", 3)


def lane(channel="email", **changes):
    route = (RouteState("alpha", "closed"), RouteState("beta", "closed"))
    whole = LaneSnapshot(channel, False, False, None, 0, 0, 0, 0, None, 0, True, route)
    return replace(whole, **changes)


def silent(channel="email", **changes):
    empty = SilentLane(channel, False, False, None, 0, 0, 0, 0, None, 0, False, ())
    return replace(empty, **{"problem": "it keeps failing and is tried again slowly", **changes})


def provider(name="alpha", state="ok", circuit="closed", **changes):
    report = CircuitReport(name, circuit, 0, None, 0, misconfigured_detail="HTTP 401: bad key")
    whole = ProviderSnapshot(
        name, "sendgrid", ("email",), state, report, True, 0, 32, 32, None, "", None
    )
    return replace(whole, **changes)


def state(*, store=WRITABLE, reading="", lanes=None, providers=(), actors=None):
    running = {"journal": "running", "queue:email": "running", **(actors or {})}
    supervisor = SupervisorSnapshot(tuple(providers), running, {"queue:email": 12})
    return State(store, reading, [lane(), lane("sms")] if lanes is None else lanes, supervisor)


def overall(found):
    return worst(check.status for check in checks(found).values())


def test_all_well_is_a_pass():
    """Every part is there by its name, and every function passes."""
    found = state(providers=[provider()])

    assert overall(found) == "pass"
    assert set(checks(found)) == {
        "storage", "queue:email", "queue:sms", "provider:alpha", "breaker:alpha",
        "actor:supervisor", "actor:journal", "actor:queue:email",
    }  # fmt: skip
    assert functions(found) == {
        "accept": "pass", "search": "pass", "receipts": "pass",
        "deliver": {"email": "pass", "sms": "pass"},
    }  # fmt: skip


def test_while_the_disk_is_full_search_goes_on():
    """Partial mode: accept, receipts and deliver fail, search passes."""
    found = state(store=FULL)

    assert overall(found) == "fail"
    assert "the disk is full" in checks(found)["storage"].output
    assert functions(found) == {
        "accept": "fail", "search": "pass", "receipts": "fail",
        "deliver": {"email": "fail", "sms": "fail"},
    }  # fmt: skip


def test_while_the_store_cannot_be_read_accepting_goes_on():
    """The other half of partial mode."""
    found = state(reading="the store cannot be read: input/output error")

    assert overall(found) == "fail"
    assert functions(found)["accept"] == "pass"
    assert functions(found)["search"] == "fail"


def test_a_failed_lane_fails_alone():
    """Its channel is closed, the other one is not."""
    found = state(lanes=[silent(is_failed=True), lane("sms")], actors={"queue:email": "failed"})

    assert overall(found) == "fail"
    assert checks(found)["queue:email"].observed == "failed"
    assert checks(found)["queue:sms"].status == "pass"
    assert checks(found)["actor:queue:email"].status == "fail"
    assert functions(found)["accept"] == "warn"
    assert functions(found)["deliver"] == {"email": "fail", "sms": "pass"}


def test_a_held_lane_is_a_warning_that_delivers_nothing():
    """Accepting goes on and nothing is lost, so the whole does not fail."""
    found = state(lanes=[lane(is_held=True, held_reason="alpha: circuit open")])

    assert overall(found) == "warn"
    assert "alpha: circuit open" in checks(found)["queue:email"].output
    assert functions(found)["accept"] == "pass"
    assert functions(found)["deliver"] == {"email": "fail"}


def test_a_paused_lane_says_who_stopped_it():
    """A warning, so that nobody looks for the trouble elsewhere."""
    found = state(lanes=[lane(is_paused=True)])

    assert overall(found) == "warn"
    assert "operator" in checks(found)["queue:email"].output


def test_a_misconfigured_provider_is_named_with_what_to_fix():
    """The table of the settings, and the provider's own words."""
    found = state(providers=[provider(state="misconfigured")])
    check = checks(found)["provider:alpha"]

    assert overall(found) == "warn"
    assert check.observed == "misconfigured"
    assert "[providers.alpha]" in check.output
    assert "HTTP 401: bad key" in check.output


def test_a_provider_whose_probe_fails_is_a_warning():
    """Its circuit may still be closed: nobody has tried it."""
    sick = Health(is_healthy=False, detail="connection refused")
    found = state(providers=[provider(health=sick)])

    assert checks(found)["provider:alpha"].status == "warn"
    assert "connection refused" in checks(found)["provider:alpha"].output


@pytest.mark.parametrize(
    ("circuit", "status"),
    [("closed", "pass"), ("open", "warn"), ("half_open", "warn"), ("forced_open", "warn"),
     ("disabled", "warn")],
)  # fmt: skip
def test_a_breaker_passes_only_while_it_protects(circuit, status):
    """Held closed by an operator, it does not."""
    found = state(providers=[provider(circuit=circuit)])

    assert checks(found)["breaker:alpha"].status == status
    assert checks(found)["breaker:alpha"].observed == circuit


def test_one_open_provider_of_two_makes_delivery_a_warning():
    """It works, through the other one."""
    route = (RouteState("alpha", "open"), RouteState("beta", "closed"))
    found = state(lanes=[lane(route=route)])

    assert functions(found)["deliver"] == {"email": "warn"}


def test_a_provider_s_actor_over_its_budget_is_a_warning_and_the_journal_s_a_failure():
    """A provider's work goes elsewhere; there is one journal."""
    assert overall(state(actors={"provider:alpha": "failed"})) == "warn"
    assert overall(state(actors={"journal": "failed"})) == "fail"
    assert overall(state(actors={"journal": "restarting"})) == "warn"


def test_a_silent_supervisor_fails_and_hides_nothing_else():
    """The lanes and the store are told all the same."""
    found = replace(state(), supervisor="it did not answer within 2 s")

    assert checks(found)["actor:supervisor"].status == "fail"
    assert checks(found)["queue:email"].status == "pass"
    assert functions(found)["accept"] == "pass"


# --- over HTTP -------------------------------------------------------------------------------


async def test_a_healthy_server_passes(served):
    """200 and application/health+json, with a version and a time on every check."""
    answer = await served.get("/health")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/health+json"
    assert answer.json["status"] == "pass"
    assert answer.json["version"]
    assert {"storage", "queue:email", "provider:outbox", "breaker:outbox", "actor:journal"} <= set(
        answer.json["checks"]
    )
    for entries in answer.json["checks"].values():
        for entry in entries:
            assert {"componentId", "componentType", "status", "time"} <= set(entry)
    assert (await served.get("/readyz")).status == (await served.get("/livez")).status == 200


class Ailing:
    """A service of which parts do not answer."""

    channels = ("email",)

    def __init__(self, real, **replies):
        self._real = real
        self._replies = replies

    def __getattr__(self, name):
        reply = self._replies.get(name)
        if reply is None:
            return getattr(self._real, name)

        async def answer():
            if reply == "silence":
                await asyncio.get_running_loop().create_future()
            if isinstance(reply, Exception):
                raise reply
            return reply

        return answer


async def test_a_full_disk_is_not_ready_and_not_healthy_and_alive(served, serve_front):
    """/readyz 503 with the reason, /health 503 with its functions, /livez 200."""
    ailing = await serve_front(
        replace(served.front, service=Ailing(served.front.service, journal_snapshot=FULL))
    )

    ready, whole = await ailing.get("/readyz"), await ailing.get("/health")
    assert (ready.status, whole.status) == (503, 503)
    assert "the disk is full" in ready.json["output"]
    assert whole.json["functions"]["accept"] == "fail"
    assert whole.json["functions"]["search"] == "pass"
    assert (await ailing.get("/livez")).status == 200


@pytest.mark.parametrize("journal", [FULL, Unanswered("the journal did not answer")])
async def test_a_store_that_takes_no_writes_is_in_the_metrics(served, serve_front, journal):
    """Nothing is accepted then, and no other metric tells."""
    service = Ailing(served.front.service, journal_snapshot=journal)
    gauges = Gauges(service, served.engine.reader, {}, served.engine.runtime, served.front.metrics)
    ailing = await serve_front(replace(served.front, gauges=gauges))

    well = await served.get("/metrics")
    ill = await ailing.get("/metrics")

    assert "clarion_storage_writable 1.0" in well.text
    assert "clarion_storage_writable 0.0" in ill.text


async def test_a_silent_part_does_not_hold_up_the_others(served, serve_front, monkeypatch):
    """Whoever does not answer in time is told as that; the rest is there."""
    monkeypatch.setattr(health, "ASK_S", 0.05)
    service = Ailing(
        served.front.service,
        providers="silence",
        stats=StorageUnavailable("the store cannot be read: disk I/O error"),
        queues=Unanswered("queue:email did not answer"),
    )
    ailing = await serve_front(replace(served.front, service=service))

    answer = await ailing.get("/health")
    assert answer.status == 503
    assert answer.json["checks"]["actor:supervisor"][0]["status"] == "fail"
    assert answer.json["checks"]["queue:email"][0]["observedValue"] == "silent"
    assert "disk I/O error" in answer.json["checks"]["storage"][0]["output"]
    assert answer.json["functions"]["search"] == "fail"


async def test_it_is_not_ready_before_all_actors_have_started(served, serve_front):
    """503 with the reason."""
    starting = await serve_front(replace(served.front, is_started=lambda: False))

    answer = await starting.get("/readyz")
    assert answer.status == 503
    assert "starting" in answer.json["output"]


async def test_an_operator_s_decisions_show(served):
    """A disabled provider holds its lanes: a warning that says so; 200, since it still accepts."""
    await served.post("/v1/providers/outbox/disable")

    answer = await served.get("/health")
    assert answer.status == 200
    assert answer.json["status"] == "pass" or answer.json["status"] == "warn"
    assert answer.json["checks"]["provider:outbox"][0]["observedValue"] == "disabled"
    assert answer.json["functions"]["deliver"]["email"] == "fail"
    assert answer.json["functions"]["accept"] == "pass"
