"""The situations that every contestant is put into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the provider behaves, and what is asked of a contestant."""

    name: str
    title: str
    latency_ms: float = 0.0
    fail_every: int = 0
    """Each Nth call at the provider is answered with a 503; 0: none."""
    per_second: float = 0.0
    """Notifications per second; 0: as many as are accepted."""
    fsync: str = "always"
    """When a Redis broker syncs its log: `always` (as Clarion before its 202) or `everysec`."""
    counted: float = 1.0
    """Which share of the deliveries, the first ones, makes the rate: the last ones of a provider
    that fails are the waits of their retries."""
    kills: bool = False
    """Whether what delivers is killed -9 in the middle, and started again."""


SCENARIOS = (
    Scenario("full", "as fast as it goes, a provider that answers at once"),
    Scenario(
        "relaxed",
        "the same, with Redis brokers that sync once a second and may lose that second",
        fsync="everysec",
    ),
    Scenario("slow", "as fast as it goes, a provider that takes 50 ms", latency_ms=50.0),
    Scenario("failing", "as fast as it goes, every tenth call fails", fail_every=10, counted=0.8),
    Scenario("steady", "100 notifications per second", per_second=100.0),
    Scenario(
        "killed",
        "200 per second, a provider that takes 50 ms, kill -9 in the middle",
        latency_ms=50.0,
        per_second=200.0,
        kills=True,
    ),
)
