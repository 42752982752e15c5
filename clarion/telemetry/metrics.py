"""Every metric of Clarion, and those that users add.

Two owners. A `Metrics` belongs to one engine and keeps its own numbers, so that two engines in one
process never mix. The circuits (`circuit_*`, fed by `clarion.resilience` too, which knows no
engine) and the metrics of users (`increment_counter`, `set_gauge`) are process-wide, and every
`Metrics` renders them after its own.

Labels are bounded by configuration, never by input. An accessor returns a child that is bound
already: on the hot path that costs a look-up in a dict instead of prometheus_client's `labels()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Final, Generic, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

CALL_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""A provider's answer: 30 to 300 ms when it is well, its time-out (10 s) when it is not."""
DELIVERY_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600, 21600)
"""From a bare delivery to one that waited out a morning's outage."""
COMMIT_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
"""An fsync: 0.5 ms on NVMe, 5 to 25 ms on a network disk."""
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = ("clarion_", "circuit_breaker_")

_M = TypeVar("_M", Counter, Gauge, Histogram)


class _Bound(dict[tuple[str, ...], _M], Generic[_M]):
    """The children of one metric by their label values, each bound at its first use."""

    def __init__(self, metric: _M) -> None:
        super().__init__()
        self._metric: _M = metric

    def __missing__(self, values: tuple[str, ...]) -> _M:
        child: _M = self._metric.labels(*values)
        self[values] = child
        return child


# --- the process: circuits -------------------------------------------------------------------

_process = CollectorRegistry()


def _circuit_counter(name: str, meaning: str) -> _Bound[Counter]:
    return _Bound(Counter(name, meaning, ["name"], registry=_process))


_rejected = _circuit_counter("circuit_breaker_open_total", "Calls rejected by an open circuit.")
_succeeded = _circuit_counter("circuit_breaker_success_total", "Calls that count as successes.")
_failed = _circuit_counter("circuit_breaker_failure_total", "Calls that count as failures.")
_state = _Bound(
    Gauge(
        "circuit_breaker_state",
        "0 closed, 1 half-open, 2 open (forced open and misconfigured included).",
        ["name"],
        registry=_process,
    )
)


def circuit_rejected(name: str) -> None:
    """Count a call that the circuit `name` did not let through."""
    _rejected[(name,)].inc()


def circuit_succeeded(name: str) -> None:
    """Count a call that the circuit `name` took as a success."""
    _succeeded[(name,)].inc()


def circuit_failed(name: str) -> None:
    """Count a call that the circuit `name` took as a failure."""
    _failed[(name,)].inc()


def circuit_state(name: str, n: int) -> None:
    """Show how the circuit `name` stands: 0 closed, 1 half-open, 2 open.

    The counters of the circuit appear with it, at zero, so that their first increment is seen as
    one by `rate()`.
    """
    key = (name,)
    _state[key].set(n)
    _ = _rejected[key], _succeeded[key], _failed[key]


# --- the process: metrics of users -----------------------------------------------------------

_user_lock = Lock()
_user_metrics: dict[str, tuple[Counter | Gauge, tuple[str, ...]]] = {}


def increment_counter(name: str, labels: Mapping[str, str] | None = None, value: float = 1) -> None:
    """Add `value` to a counter of your own, which appears in `/metrics` as `NAME_total`.

    The first use creates it and fixes its labels. Raises ValueError for a name or label that
    Prometheus would refuse, a name that Clarion uses itself, other labels than at the first use,
    a negative `value`, and a name that is a gauge.
    """
    counter = _user_metric(Counter, name.removesuffix("_total"), labels or {})
    counter.inc(value)


def set_gauge(name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
    """Set a gauge of your own; the first use creates it. Raises ValueError as a counter does."""
    _user_metric(Gauge, name, labels or {}).set(value)


_Own = TypeVar("_Own", Counter, Gauge)


def _user_metric(kind: type[_Own], name: str, labels: Mapping[str, str]) -> _Own:
    with _user_lock:
        if name not in _user_metrics:
            _user_metrics[name] = (_create(kind, name, labels), tuple(sorted(labels)))
        metric, names = _user_metrics[name]
    if not isinstance(metric, kind):
        raise ValueError(f"the metric {name!r} is a {_word(type(metric))}, not a {_word(kind)}")
    if tuple(sorted(labels)) != names:
        raise ValueError(
            f"the metric {name!r} has the labels {list(names)} since its first use,"
            f" not {sorted(labels)}"
        )
    return metric.labels(**labels) if names else metric


def _create(kind: type[_Own], name: str, labels: Mapping[str, str]) -> _Own:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no metric name: use letters, digits and underscores")
    if name.startswith(_RESERVED):
        raise ValueError(f"the metric {name!r} is Clarion's own: choose another prefix")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{label!r} is no label name: use letters, digits and underscores")
    try:
        return kind(name, f"Set by the application ({name}).", sorted(labels), registry=_process)
    except ValueError as error:
        raise ValueError(f"the metric {name!r} cannot be created: {error}") from error


def _word(kind: type[Counter | Gauge]) -> str:
    return kind.__name__.lower()


# --- one engine ------------------------------------------------------------------------------


class Metrics:
    """The numbers of one engine. May be used from every thread.

    `version` is what `clarion_build_info` shows; None asks the installed package.
    """

    def __init__(self, version: str | None = None) -> None:
        self._registry = CollectorRegistry()
        self._callbacks: list[Callable[[], None]] = []
        self._accepted = self._counter(
            "notifications_accepted", "Notifications made durable.", "channel", "priority"
        )
        self._ended = self._counter(
            "notifications", "Final states reached by notifications.", "channel", "status"
        )
        self._calls = self._counter(
            "provider_calls", "Calls to a provider, by what they came to.", "provider", "outcome"
        )
        self._retries = self._counter("retries", "Calls after the first attempt.", "provider")
        self._fallbacks = self._counter(
            "fallbacks", "Calls to a provider that is not its route's first.", "channel", "provider"
        )
        self._duplicates = self._counter(
            "possible_duplicates", "Notifications that may have been sent twice.", "channel"
        )
        self._dead = self._counter("dead_letters", "What failed for good.", "channel", "reason")
        self._purged = self._counter("notifications_purged", "Removed by retention.", "channel")
        self._receipts = self._counter("receipts", "What providers told.", "provider", "result")
        self._restarts = self._counter("actor_restarts", "Crashes, and fresh instances.", "actor")
        self._measure_times()
        self._show_states()
        self._gauge("build_info", "The running version; always 1.", "version")[
            (version or _installed_version(),)
        ].set(1)

    def _measure_times(self) -> None:
        self._call_seconds = self._histogram(
            "provider_call_seconds", "How long calls took.", CALL_BUCKETS_S, "provider"
        )
        self._delivery_seconds = self._histogram(
            "delivery_seconds",
            "From the acceptance here to the acceptance by a provider.",
            DELIVERY_BUCKETS_S,
            "channel",
        )
        self._commit_seconds = self._histogram(
            "commit_seconds", "How long commits of the store took.", COMMIT_BUCKETS_S
        )[()]
        self._batch_size = self._histogram(
            "commit_batch_size", "Commands that shared one commit.", BATCH_BUCKETS
        )[()]

    def _show_states(self) -> None:
        self._jobs = self._gauge(
            "queue_jobs", "Live notifications: ready, scheduled, in_flight.", "channel", "state"
        )
        self._oldest = self._gauge(
            "queue_oldest_timestamp_seconds", "When the head of the lane came; 0: empty.", "channel"
        )
        self._held = self._gauge(
            "lane_held", "1 while work waits and no provider's circuit is closed.", "channel"
        )
        self._in_flight = self._gauge("bulkhead_in_flight", "Slots in use.", "provider")
        self._slots = self._gauge("bulkhead_slots", "Slots that may be used now.", "provider")
        self._mailbox = self._gauge("actor_mailbox_messages", "Messages waiting.", "actor")
        self._lag = self._gauge("event_loop_lag_seconds", "How late the event loop is.")[()]
        self._writable = self._gauge("storage_writable", "1 while the store takes writes.")[()]
        self._shared = self._gauge("shared_state_usable", "1 while nodes can share it.", "store")
        self._dead_rows = self._gauge("storage_dead_rows", "Rows to be cleaned up.", "table")
        self._transaction = self._gauge("storage_oldest_transaction_seconds", "Its age.")[()]
        self._pool = self._gauge("pool_connections", "Connections of a pool.", "pool", "state")
        self._pool_waited = self._gauge("pool_waited_seconds", "Spent waiting for one.", "pool")

    # --- events ----------------------------------------------------------------------------

    def accepted(self, channel: str, priority: str) -> Counter:
        """Count notifications made durable."""
        return self._accepted[channel, priority]

    def ended(self, channel: str, status: str) -> Counter:
        """Count final states reached."""
        return self._ended[channel, status]

    def provider_call(self, provider: str, outcome: str) -> Counter:
        """Count calls by what they came to."""
        return self._calls[provider, outcome]

    def call_seconds(self, provider: str) -> Histogram:
        """Observe how long a call took, in seconds."""
        return self._call_seconds[(provider,)]

    def delivery_seconds(self, channel: str) -> Histogram:
        """Observe the time from acceptance here to acceptance there, in seconds."""
        return self._delivery_seconds[(channel,)]

    def retries(self, provider: str) -> Counter:
        """Count calls after the first attempt."""
        return self._retries[(provider,)]

    def fallbacks(self, channel: str, provider: str) -> Counter:
        """Count calls to a provider that was not the first choice."""
        return self._fallbacks[channel, provider]

    def possible_duplicates(self, channel: str) -> Counter:
        """Count notifications that may have been sent twice."""
        return self._duplicates[(channel,)]

    def dead_letters(self, channel: str, reason: str) -> Counter:
        """Count notifications that failed for good."""
        return self._dead[channel, reason]

    def purged(self, channel: str) -> Counter:
        """Count records that were removed after `defaults.retention_days`."""
        return self._purged[channel,]

    def receipts(self, provider: str, result: str) -> Counter:
        """Count receipts by what became of them."""
        return self._receipts[provider, result]

    def actor_restarts(self, actor: str) -> Counter:
        """Count crashes of an actor."""
        return self._restarts[(actor,)]

    def commit_seconds(self) -> Histogram:
        """Observe how long a commit took, in seconds."""
        return self._commit_seconds

    def commit_batch_size(self) -> Histogram:
        """Observe how many commands shared a commit."""
        return self._batch_size

    # --- states, set when somebody scrapes -------------------------------------------------

    def queue_jobs(self, channel: str, state: str) -> Gauge:
        """Set how many jobs of a lane are "ready", "scheduled" or "in_flight"."""
        return self._jobs[channel, state]

    def queue_oldest(self, channel: str) -> Gauge:
        """Set when the head of a lane came (epoch seconds), 0 while it is empty."""
        return self._oldest[(channel,)]

    def lane_held(self, channel: str) -> Gauge:
        """Set whether a lane is held."""
        return self._held[(channel,)]

    def bulkhead_in_flight(self, provider: str) -> Gauge:
        """Set how many slots of a provider are taken."""
        return self._in_flight[(provider,)]

    def bulkhead_slots(self, provider: str) -> Gauge:
        """Set how many slots a provider has now, its ramp considered."""
        return self._slots[(provider,)]

    def mailbox(self, actor: str) -> Gauge:
        """Set how many messages wait for an actor."""
        return self._mailbox[(actor,)]

    def loop_lag(self) -> Gauge:
        """Set how late the event loop runs, in seconds."""
        return self._lag

    def storage_writable(self) -> Gauge:
        """Set whether the store takes writes, and so whether anything can be accepted."""
        return self._writable

    def shared_state_usable(self, store: str) -> Gauge:
        """Set whether what nodes share can be used; there only where something is shared."""
        return self._shared[(store,)]

    def dead_rows(self, table: str) -> Gauge:
        """Set how many rows of a table the database server has not cleaned up yet."""
        return self._dead_rows[(table,)]

    def oldest_transaction(self) -> Gauge:
        """Set for how many seconds the oldest transaction of the database server has run."""
        return self._transaction

    def pool_connections(self, pool: str, state: str) -> Gauge:
        """Set how many connections of a pool are in a state ("in_use", "idle")."""
        return self._pool[pool, state]

    def pool_waited(self, pool: str) -> Gauge:
        """Set for how many seconds callers waited for connections, all together."""
        return self._pool_waited[(pool,)]

    # --- scrapes ---------------------------------------------------------------------------

    def on_scrape(self, callback: Callable[[], None]) -> None:
        """Have `callback` set gauges before each rendering; its failure costs those gauges only."""
        self._callbacks.append(callback)

    def render(self, accept_header: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics where asked for, else text."""
        for callback in self._callbacks:
            self._call(callback)
        both = _Chain(self._registry, _process)
        if "application/openmetrics-text" in accept_header.lower():
            return generate_openmetrics(both), OPENMETRICS_TYPE  # type: ignore[no-untyped-call]
        return generate_latest(both), TEXT_TYPE

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            # A scrape has to work best when something else does not.
            log.exception("scrape_callback_failed", callback=repr(callback))

    def _counter(self, name: str, meaning: str, *labels: str) -> _Bound[Counter]:
        return _Bound(Counter(f"clarion_{name}", meaning, labels, registry=self._registry))

    def _gauge(self, name: str, meaning: str, *labels: str) -> _Bound[Gauge]:
        gauge = Gauge(f"clarion_{name}", meaning, labels, registry=self._registry)
        return _bound(gauge, labels)

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str
    ) -> _Bound[Histogram]:
        histogram = Histogram(
            f"clarion_{name}", meaning, labels, buckets=buckets, registry=self._registry
        )
        return _bound(histogram, labels)


def _bound(metric: _M, labels: tuple[str, ...]) -> _Bound[_M]:
    bound = _Bound(metric)
    if not labels:
        bound[()] = metric
    return bound


class _Chain(Collector):
    """Several registries shown as one, without the `_created` samples that nobody asks for."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        self._registries = registries

    def collect(self) -> Iterator[Metric]:
        for registry in self._registries:
            yield from (_without_created(metric) for metric in registry.collect())


def _without_created(metric: Metric) -> Metric:
    created = f"{metric.name}_created"
    metric.samples = [sample for sample in metric.samples if sample.name != created]
    return metric


def _installed_version() -> str:
    try:
        return version("clarion")
    except PackageNotFoundError:
        return "unknown"
