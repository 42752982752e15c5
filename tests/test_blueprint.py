"""What the settings mean to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clarion import blueprint
from clarion.actors.memory import Memory
from clarion.domain.notification import Delivery
from clarion.policies.clock import SystemClock
from clarion.settings import Settings, load
from clarion.testing import ManualClock
from clarion.testing.settings_file import toml_of

MAIL = {"kind": "sendgrid", "api_key": "SG.x", "from_address": "news@example.com"}


def settings_of(directory: Path, **document: Any) -> Settings:
    """Load a document from a file of its own."""
    file = directory / "settings.toml"
    file.write_text(toml_of(document))
    return load(file, env={})


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Two providers for e-mail, one of them for text messages, and one without a route."""
    return settings_of(
        tmp_path,
        queue={"max_in_memory": 100, "max_pending": 1000},
        defaults={"delivery": "at_most_once", "unknown_grace": 7.0, "expires_after": 60.0},
        providers={
            "mail": {
                **MAIL,
                "timeout": 4.0,
                "health_every": 9.0,
                "misconfigured_probe": 11.0,
                "bulkhead": {"max_concurrent": 3},
                "breaker": {"failure_threshold": 2},
                "rate_limit": {"per_second": 1.0, "burst": 2},
            },
            "spare": MAIL,
        },
        channels={
            "email": {
                "providers": ["mail", "outbox"],
                "strategy": "weighted",
                "weights": {"mail": 70, "outbox": 30},
                "spill_after": 2.0,
                "retry": {"max_attempts": 9, "retry_after_max": 50.0},
            },
            "sms": {"providers": ["outbox"], "retry": {"retry_after_max": 70.0}},
        },
    )


def test_a_relative_database_lies_beside_the_settings_file(tmp_path):
    """Wherever the command was given."""
    assert blueprint.store_path(settings_of(tmp_path)) == tmp_path / "clarion.db"
    assert blueprint.store_url(settings_of(tmp_path)) == f"sqlite:///{tmp_path}/clarion.db"


def test_an_absolute_database_lies_where_it_says(tmp_path):
    """Four slashes."""
    settings = settings_of(tmp_path, storage={"url": "sqlite:////var/lib/clarion.db"})

    assert blueprint.store_path(settings) == Path("/var/lib/clarion.db")
    assert blueprint.store_url(settings) == "sqlite:////var/lib/clarion.db"


def test_routes_say_where_a_channel_goes(settings):
    """In the order of the settings, weights included."""
    email, sms = blueprint.routes(settings)

    assert (email.channel, email.providers) == ("email", ("mail", "outbox"))
    assert (email.is_weighted, email.weights) == (True, {"mail": 70, "outbox": 30})
    assert email.spill_after_s == 2.0
    assert (sms.channel, sms.providers, sms.is_weighted) == ("sms", ("outbox",), False)


def test_the_supervisor_hears_of_every_provider_on_a_route(settings):
    """And of no other: an account that nothing uses is not watched."""
    plans = {
        plan.name: plan
        for plan in blueprint.provider_plans(settings, blueprint.routes(settings), ManualClock())
    }

    assert set(plans) == {"mail", "outbox"}
    assert (plans["mail"].kind, plans["mail"].max_concurrent) == ("sendgrid", 3)
    assert plans["mail"].misconfigured_probe_s == 11.0
    assert set(plans["outbox"].channels) == {"email", "sms"}


def test_each_life_of_the_supervisor_gets_fresh_gates(settings):
    """A gate is memory, and memory is lost in a crash."""
    routes = blueprint.routes(settings)
    plan = blueprint.provider_plans(settings, routes, ManualClock())[0]

    assert plan.make_gate() is not plan.make_gate()


@pytest.mark.parametrize(
    ("channels", "limit", "most"),
    [
        (["email"], {}, 3),
        (["email", "sms"], {}, 0),  # One lane would take the slots from the other.
        (["email"], {"per_second": 5.0}, 0),  # What had gathered would go out faster.
    ],
)
def test_calls_stand_by_where_that_takes_nothing_from_anybody(tmp_path, channels, limit, most):
    """As many as there are slots, or none."""
    mail = {"kind": "outbox", "bulkhead": {"max_concurrent": 3}, "rate_limit": limit}
    routes = {channel: {"providers": ["mail"]} for channel in channels}
    settings = settings_of(tmp_path, providers={"mail": mail}, channels=routes)
    (plan,) = blueprint.provider_plans(settings, blueprint.routes(settings), ManualClock())

    assert plan.make_gate().standby.most == most


def test_a_lane_works_by_its_channel_and_the_defaults(settings):
    """Retries of the channel, time limits of its providers, bounds of the queue."""
    route = blueprint.routes(settings)[0]

    lane = blueprint.lane_settings(route, settings, lambda: 0.5)

    assert lane.plan is route
    assert lane.rules.retry.max_attempts == 9
    assert lane.rules.unknown_grace_s == 7.0
    assert lane.call_timeout_s == {"mail": 4.0, "outbox": 10.0}
    assert (lane.max_in_memory, lane.max_pending) == (100, 1000)
    assert (lane.delivery, lane.expires_after_s) == (Delivery.AT_MOST_ONCE, 60.0)


def test_a_breaker_believes_the_longest_retry_after_of_its_channels(settings):
    """It stands before the provider, whatever channel the call is of."""
    assert blueprint.breaker_context("mail", settings).retry_after_max_s == 50.0
    assert blueprint.breaker_context("outbox", settings).retry_after_max_s == 70.0
    assert blueprint.breaker_context("mail", settings).settings.failure_threshold == 2


def test_a_provider_has_its_own_times(settings):
    """The whole call, and how often its health is asked."""
    times = blueprint.provider_times("mail", settings)

    assert (times.timeout_s, times.health_every_s) == (4.0, 9.0)


def test_an_adapter_is_made_anew_at_each_start(settings):
    """A crash costs the session, not the account."""
    make = blueprint.adapter_maker("mail", settings, SystemClock())

    first, second = make(), make()

    assert first is not second
    assert type(first).__name__ == "SendGrid"


def test_what_operators_decided_wins_over_the_settings(tmp_path):
    """A restart forgets nobody's word."""
    settings = settings_of(
        tmp_path,
        providers={
            "off": {**MAIL, "enabled": False},
            "mended": {**MAIL, "enabled": False},
            "stopped": MAIL,
        },
    )
    memory = Memory()
    controls: blueprint.Controls = {
        ("provider", "mended"): ("enabled", "ada", 1.0),
        ("provider", "stopped"): ("disabled", "ada", 1.0),
        ("breaker", "off"): ("open", "ada", 1.0),
        ("breaker", "mended"): ("close", "ada", 1.0),
        ("breaker", "stopped"): ("reset", "ada", 1.0),
        ("queue", "email"): ("paused", "ada", 1.0),
    }

    blueprint.remember_controls(memory, settings, controls, SystemClock())

    assert memory.disabled == {"off", "stopped"}
    assert {name: report.state for name, report in memory.reports.items()} == {
        "off": "forced_open", "mended": "disabled",
    }  # fmt: skip


@pytest.mark.parametrize("back_s", [0.0, 3600.0])
def test_a_kept_pause_is_no_longer_than_it_was_asked_for(settings, back_s):
    """Also where the wall clock was set back while the process was down."""
    memory, clock = Memory(), ManualClock()
    name = next(iter(settings.providers))
    written_at = clock.now() + back_s
    pause = {("pause", name): (repr(written_at + 900.0), "provider", written_at)}

    blueprint.remember_controls(memory, settings, pause, clock)

    assert memory.kept_pauses[name] == pytest.approx(clock.monotonic() + 900.0)
