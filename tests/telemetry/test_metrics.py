"""Metrics: the contract's names, bound children, no cross-talk between engines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clarion.telemetry import metrics as module
from clarion.telemetry.metrics import Metrics

_number = count()


def fresh(prefix: str) -> str:
    """A name that no other test has used: circuits and users' metrics are process-wide."""
    return f"{prefix}_{next(_number)}"


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Scrape as Prometheus does."""
    text = metrics.render()[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


EVENTS: list[tuple[str, dict[str, str], Callable[[Metrics], None]]] = [
    (
        "clarion_notifications_accepted_total",
        {"channel": "email", "priority": "high"},
        lambda m: m.accepted("email", "high").inc(),
    ),
    (
        "clarion_notifications_total",
        {"channel": "email", "status": "sent"},
        lambda m: m.ended("email", "sent").inc(),
    ),
    (
        "clarion_provider_calls_total",
        {"provider": "a", "outcome": "accepted"},
        lambda m: m.provider_call("a", "accepted").inc(),
    ),
    (
        "clarion_provider_call_seconds_count",
        {"provider": "a"},
        lambda m: m.call_seconds("a").observe(0.2),
    ),
    (
        "clarion_delivery_seconds_count",
        {"channel": "sms"},
        lambda m: m.delivery_seconds("sms").observe(0.2),
    ),
    ("clarion_retries_total", {"provider": "a"}, lambda m: m.retries("a").inc()),
    (
        "clarion_fallbacks_total",
        {"channel": "email", "provider": "b"},
        lambda m: m.fallbacks("email", "b").inc(),
    ),
    (
        "clarion_possible_duplicates_total",
        {"channel": "email"},
        lambda m: m.possible_duplicates("email").inc(),
    ),
    (
        "clarion_dead_letters_total",
        {"channel": "email", "reason": "exhausted"},
        lambda m: m.dead_letters("email", "exhausted").inc(),
    ),
    (
        "clarion_actor_restarts_total",
        {"actor": "journal"},
        lambda m: m.actor_restarts("journal").inc(),
    ),
    ("clarion_commit_seconds_count", {}, lambda m: m.commit_seconds().observe(0.001)),
    ("clarion_commit_batch_size_count", {}, lambda m: m.commit_batch_size().observe(3)),
    (
        "clarion_queue_jobs",
        {"channel": "email", "state": "ready"},
        lambda m: m.queue_jobs("email", "ready").set(1),
    ),
    (
        "clarion_queue_oldest_timestamp_seconds",
        {"channel": "email"},
        lambda m: m.queue_oldest("email").set(1),
    ),
    ("clarion_lane_held", {"channel": "email"}, lambda m: m.lane_held("email").set(True)),
    (
        "clarion_bulkhead_in_flight",
        {"provider": "a"},
        lambda m: m.bulkhead_in_flight("a").set(1),
    ),
    ("clarion_bulkhead_slots", {"provider": "a"}, lambda m: m.bulkhead_slots("a").set(1)),
    (
        "clarion_actor_mailbox_messages",
        {"actor": "journal"},
        lambda m: m.mailbox("journal").set(1),
    ),
    ("clarion_event_loop_lag_seconds", {}, lambda m: m.loop_lag().set(1)),
    ("clarion_storage_writable", {}, lambda m: m.storage_writable().set(1)),
    ("clarion_storage_dead_rows", {"table": "jobs"}, lambda m: m.dead_rows("jobs").set(1)),
    ("clarion_storage_oldest_transaction_seconds", {}, lambda m: m.oldest_transaction().set(1)),
    (
        "clarion_shared_state_usable",
        {"store": "redis"},
        lambda m: m.shared_state_usable("redis").set(1),
    ),
    (
        "clarion_pool_connections",
        {"pool": "redis", "state": "idle"},
        lambda m: m.pool_connections("redis", "idle").set(1),
    ),
    ("clarion_build_info", {"version": "1.2.3"}, lambda _m: None),
]


@pytest.mark.parametrize(("name", "labels", "act"), EVENTS, ids=[each[0] for each in EVENTS])
def test_every_metric_of_the_contract_has_its_name_and_labels(
    name: str, labels: dict[str, str], act: Callable[[Metrics], None]
) -> None:
    """Dashboards and alerts are written against these names."""
    metrics = Metrics("1.2.3")

    act(metrics)

    assert value(metrics, name, **labels) == 1


def test_two_engines_in_one_process_never_mix() -> None:
    """Several services may live in one process: each counts what it did itself."""
    one, other = Metrics(), Metrics()

    one.accepted("email", "low").inc(5)

    label = {"channel": "email", "priority": "low"}
    assert value(one, "clarion_notifications_accepted_total", **label) == 5
    assert value(other, "clarion_notifications_accepted_total", **label) is None


def test_an_accessor_returns_the_same_bound_child_each_time() -> None:
    """A child is bound once: binding costs five times what counting costs."""
    metrics = Metrics()

    assert metrics.accepted("email", "low") is metrics.accepted("email", "low")
    assert metrics.call_seconds("a") is metrics.call_seconds("a")
    assert metrics.accepted("email", "low") is not metrics.accepted("sms", "low")


def test_no_created_samples_are_rendered() -> None:
    """They double the size of a scrape, and no alert uses them."""
    metrics = Metrics()
    metrics.accepted("email", "low").inc()
    metrics.call_seconds("a").observe(1)

    text = metrics.render()[0].decode()

    assert "_created" not in text


def test_circuits_belong_to_the_process() -> None:
    """`clarion.resilience` counts without an engine; every /metrics shows it."""
    name = fresh("stripe")

    module.circuit_state(name, 2)
    module.circuit_rejected(name)
    module.circuit_succeeded(name)
    module.circuit_succeeded(name)
    module.circuit_failed(name)

    for metrics in (Metrics(), Metrics()):
        assert value(metrics, "circuit_breaker_state", name=name) == 2
        assert value(metrics, "circuit_breaker_open_total", name=name) == 1
        assert value(metrics, "circuit_breaker_success_total", name=name) == 2
        assert value(metrics, "circuit_breaker_failure_total", name=name) == 1


def test_the_counters_of_a_circuit_start_at_zero() -> None:
    """A series that begins at 1 hides its first increment from rate()."""
    name = fresh("quiet")

    module.circuit_state(name, 0)

    for counter in ("open", "success", "failure"):
        assert value(Metrics(), f"circuit_breaker_{counter}_total", name=name) == 0


def test_users_add_their_own_counters_and_gauges() -> None:
    """`clarion.metrics.increment_counter` and `set_gauge` feed /metrics."""
    counter, gauge = fresh("orders"), fresh("depth")

    module.increment_counter(counter, {"shop": "a"})
    module.increment_counter(f"{counter}_total", {"shop": "a"}, 2)
    module.set_gauge(gauge, 7.5)
    module.set_gauge(gauge, 6.5)

    assert value(Metrics(), f"{counter}_total", shop="a") == 3
    assert value(Metrics(), gauge) == 6.5


def test_the_first_use_fixes_the_labels() -> None:
    """Prometheus cannot sum a metric whose label sets differ, so the second form is refused."""
    name = fresh("orders")
    module.increment_counter(name, {"shop": "a"})

    with pytest.raises(ValueError, match=rf"{name}.*\['shop'\].*not \['city'\]"):
        module.increment_counter(name, {"city": "b"})
    with pytest.raises(ValueError, match=r"\['shop'\].*not \[\]"):
        module.increment_counter(name)


def test_a_counter_cannot_be_set_as_a_gauge() -> None:
    """The answer says which kind it is."""
    name = fresh("orders")
    module.increment_counter(name)

    with pytest.raises(ValueError, match="is a counter, not a gauge"):
        module.set_gauge(name, 1)


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("two words", {}, "no metric name"),
        ("9lives", {}, "no metric name"),
        ("", {}, "no metric name"),
        ("clarion_mine", {}, "Clarion's own"),
        ("circuit_breaker_state", {}, "Clarion's own"),
        ("fine", {"not-fine": "x"}, "no label name"),
        ("fine", {"__reserved": "x"}, "no label name"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_a_reason(
    name: str, labels: dict[str, str], words: str
) -> None:
    """A bad name must fail where it is written, not in the scrape of everybody."""
    with pytest.raises(ValueError, match=words):
        module.set_gauge(name, 1, labels)

    assert Metrics().render()[0]


def test_a_counter_never_goes_down() -> None:
    """Prometheus would take it for a restart."""
    with pytest.raises(ValueError, match="non-negative"):
        module.increment_counter(fresh("orders"), value=-1)


def test_gauges_are_filled_when_somebody_scrapes() -> None:
    """A state is read at the scrape, not pushed at each change."""
    metrics = Metrics()
    depth = 0

    def fill() -> None:
        metrics.queue_jobs("email", "ready").set(depth)

    metrics.on_scrape(fill)
    depth = 12

    assert value(metrics, "clarion_queue_jobs", channel="email", state="ready") == 12


def test_a_failing_callback_costs_its_own_gauges_only() -> None:
    """A scrape has to work best when something else does not."""
    metrics = Metrics()
    metrics.on_scrape(lambda: 1 / 0)
    metrics.on_scrape(lambda: metrics.loop_lag().set(0.5))

    assert value(metrics, "clarion_event_loop_lag_seconds") == 0.5


@pytest.mark.parametrize(
    ("accept", "content_type", "last_line"),
    [
        ("", "text/plain; version=0.0.4", None),
        ("*/*", "text/plain; version=0.0.4", None),
        ("text/plain;version=nonsense", "text/plain; version=0.0.4", None),
        (
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0",
            "# EOF",
        ),
        (
            "application/openmetrics-text;version=nonsense",
            "application/openmetrics-text; version=1.0.0",
            "# EOF",
        ),
    ],
)
def test_the_format_follows_the_accept_header(
    accept: str, content_type: str, last_line: str | None
) -> None:
    """Prometheus asks for OpenMetrics, a person with curl for nothing in particular."""
    body, answered = Metrics().render(accept)

    assert answered.startswith(content_type)
    assert (body.decode().splitlines()[-1] == "# EOF") == (last_line is not None)
    assert body.decode().count("# EOF") == (last_line is not None)


def test_counting_from_several_threads_loses_nothing() -> None:
    """The writer's thread counts commits while the loop counts the rest."""
    metrics = Metrics()
    name = fresh("threads")

    def work() -> None:
        for _ in range(500):
            metrics.accepted("email", "low").inc()
            module.increment_counter(name)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    labels = {"channel": "email", "priority": "low"}
    assert value(metrics, "clarion_notifications_accepted_total", **labels) == 2000
    assert value(metrics, f"{name}_total") == 2000
