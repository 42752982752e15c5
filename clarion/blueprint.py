"""What the settings mean to the engine: routes, gates, lanes and breakers as plain plans.

Pure translation, nothing is started here: `app` reads these plans and builds the house.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from clarion.actors.blocking import on_the_loop
from clarion.actors.breaker import BreakerContext
from clarion.actors.lane_settings import LaneSettings
from clarion.actors.memory import Memory
from clarion.actors.provider import ProviderTimes
from clarion.actors.provider_view import ProviderPlan
from clarion.actors.supervisor_messages import CircuitReport
from clarion.domain.notification import Delivery
from clarion.policies.clock import Clock
from clarion.policies.gate import Gate
from clarion.policies.grant import GrantedBucket, Limit
from clarion.policies.rate_limit import Bucket, TokenBucket
from clarion.policies.routing import RoutePlan
from clarion.policies.standby import Standby
from clarion.policies.verdict import Rules
from clarion.providers.base import Adapter
from clarion.providers.callback import ReceiptReader
from clarion.providers.registry import adapter_class, receipt_reader
from clarion.settings import ChannelSettings, ProviderSettings, Settings
from clarion.settings_table import RateLimitTable
from clarion.storage.backend import open_snapshots
from clarion.storage.reader import Snapshots
from clarion.storage.shared_state import SharedState
from clarion.storage.url import SQLITE, is_postgresql, sqlite_path

_FORCED = {"open": "forced_open", "close": "disabled"}
"""An operator's word for a breaker -> the state that it restores."""

LONGEST_PAUSE_S = 24 * 3600.0
"""A pause of a provider that seems longer comes from a clock that was wrong."""

Controls = dict[tuple[str, str], tuple[str, str, float]]
"""(kind, name) -> (value, who, at): the operators' decisions, from the store."""


def store_url(settings: Settings) -> str:
    """Return the URL of the store; a relative SQLite path counts from the settings file."""
    path = store_path(settings)
    return settings.storage.url if path is None else SQLITE + str(path)


def node_name(settings: Settings) -> str:
    """Return the name of this process among those that share the store."""
    return settings.storage.node or socket.gethostname()


def store_path(settings: Settings) -> Path | None:
    """Return the path of the database file; None where the database is a server's."""
    path = sqlite_path(settings.storage.url)
    return None if path is None else settings.base_dir / path


def snapshots(settings: Settings, clock: Clock) -> Snapshots:
    """Return what reads beside the store."""
    return open_snapshots(
        store_url(settings),
        least=settings.storage.pool_min,
        most=settings.storage.pool_max,
        monotonic=clock.monotonic,
    )


def routes(settings: Settings) -> list[RoutePlan]:
    """Return every channel's route."""
    return [_route(name, channel) for name, channel in settings.channels.items()]


def _route(name: str, channel: ChannelSettings) -> RoutePlan:
    return RoutePlan(
        channel=name,
        providers=tuple(channel.providers),
        is_weighted=channel.strategy == "weighted",
        weights=channel.weights,
        spill_after_s=channel.spill_after,
    )


def provider_plans(
    settings: Settings, plans: Sequence[RoutePlan], clock: Clock
) -> list[ProviderPlan]:
    """Return what the Supervisor has to know of each provider that some route uses."""
    channels = _index_routes(plans)
    return [
        ProviderPlan(
            name=name,
            kind=settings.providers[name].kind,
            channels=served,
            max_concurrent=settings.providers[name].max_concurrent,
            misconfigured_probe_s=settings.providers[name].misconfigured_probe,
            make_gate=_gate_maker(
                name,
                settings.providers[name],
                clock,
                lanes=len(served),
                is_shared=bool(settings.redis.url),
            ),
        )
        for name, served in channels.items()
    ]


def _gate_maker(
    name: str, provider: ProviderSettings, clock: Clock, *, lanes: int, is_shared: bool
) -> Callable[[], Gate]:
    return lambda: Gate(
        name,
        provider.max_concurrent,
        _bucket(provider.rate_limit, clock, is_shared=is_shared),
        standby=Standby(_most_on_standby(provider, lanes)),
    )


def _bucket(limit: RateLimitTable, clock: Clock, *, is_shared: bool) -> Bucket:
    if is_shared and limit.per_second:
        return GrantedBucket(Limit(limit.per_second, limit.burst), clock.monotonic)
    return TokenBucket(limit.per_second, limit.burst, clock.monotonic)


def shared_limits(settings: Settings, providers: Iterable[str]) -> dict[str, Limit]:
    """Return the limits that the nodes have in common: those that there are."""
    tables = {name: settings.providers[name].rate_limit for name in providers}
    return {
        name: Limit(table.per_second, table.burst)
        for name, table in tables.items()
        if table.per_second
    }


def shared_state(settings: Settings, rng: Callable[[], float], clock: Clock) -> SharedState:
    """Return what the nodes share in Redis; nothing is connected yet."""
    # Imported where it is used: most deployments are one process without Redis.
    from clarion.storage.redis_pool import RedisPool
    from clarion.storage.redis_state import RedisState

    redis = settings.redis
    pool = RedisPool(
        redis.url,
        least=redis.pool_min,
        most=redis.pool_max,
        rng=rng,
        monotonic=clock.monotonic,
    )
    return RedisState(pool, redis.prefix)


def _most_on_standby(provider: ProviderSettings, lanes: int) -> int:
    # What stands by for one lane would take the slots from the others, and a rate that counts
    # calls as they are noted on disk would be exceeded where they then go all at once.
    return provider.max_concurrent if lanes == 1 and not provider.rate_limit.per_second else 0


def lane_settings(plan: RoutePlan, settings: Settings, rng: Callable[[], float]) -> LaneSettings:
    """Return how one lane works."""
    return LaneSettings(
        plan=plan,
        rules=Rules(
            settings.channels[plan.channel].retry,
            unknown_grace_s=settings.defaults.unknown_grace,
            rng=rng,
        ),
        call_timeout_s={name: settings.providers[name].timeout for name in plan.providers},
        max_in_memory=settings.queue.max_in_memory,
        max_pending=settings.queue.max_pending,
        delivery=Delivery(settings.defaults.delivery),
        expires_after_s=settings.defaults.expires_after,
        is_shared=is_postgresql(settings.storage.url),
    )


def breaker_context(name: str, settings: Settings) -> BreakerContext:
    """Return how one provider's breaker works."""
    provider = settings.providers[name]
    capped_s = [
        channel.retry.retry_after_max
        for channel in settings.channels.values()
        if name in channel.providers
    ]
    return BreakerContext(
        provider.breaker,
        misconfigured_probe_s=provider.misconfigured_probe,
        retry_after_max_s=max(capped_s),
    )


def provider_times(name: str, settings: Settings) -> ProviderTimes:
    """Return the durations of one provider."""
    provider = settings.providers[name]
    return ProviderTimes(provider.timeout, provider.health_every)


def adapter_maker(
    name: str, settings: Settings, clock: Clock, executor: Executor | None = None
) -> Callable[[], Adapter]:
    """Return what makes a provider's adapter, anew at each start of its actor."""
    provider = settings.providers[name]
    make = adapter_class(provider.kind)
    return lambda: on_the_loop(
        make(
            name,
            provider.config,
            max_concurrent=provider.max_concurrent,
            clock=clock,
            public_url=settings.server.public_url,
            base_dir=settings.base_dir,
            executor=executor,
        ),
        provider.max_concurrent,
    )


def receipt_readers(settings: Settings) -> dict[str, ReceiptReader]:
    """Return what reads the callbacks of each provider, those that no route uses any more too."""
    found = {
        name: receipt_reader(
            provider.kind, name, provider.config, public_url=settings.server.public_url
        )
        for name, provider in settings.providers.items()
    }
    return {name: reader for name, reader in found.items() if reader is not None}


def remember_controls(memory: Memory, settings: Settings, controls: Controls, clock: Clock) -> None:
    """Take over what was decided in an earlier life; an operator's word wins over the settings."""
    memory.disabled.update(name for name, each in settings.providers.items() if not each.enabled)
    for (kind, name), (value, _who, _at) in controls.items():
        if kind == "provider":
            (memory.disabled.add if value == "disabled" else memory.disabled.discard)(name)
        elif kind == "breaker" and value in _FORCED:
            memory.reports[name] = CircuitReport(name, _FORCED[value], 0, None, 0)
    for (kind, name), (value, _who, at) in controls.items():
        if kind == "pause" and name in settings.providers:
            _, _, steered_at = controls.get(("breaker", name), ("", "", 0.0))
            if steered_at < at:
                _remember_pause(memory, name, value, at, clock)


def _remember_pause(memory: Memory, name: str, value: str, at: float, clock: Clock) -> None:
    left_s = 0.0
    with suppress(ValueError):
        # A clock that is behind the one it was written by was set back: it is as long as ever.
        left_s = min(float(value) - max(clock.now(), at), LONGEST_PAUSE_S)
    if left_s > 0:
        until = clock.monotonic() + left_s
        report = memory.reports.get(name) or CircuitReport(name, "closed", 0, None, 0)
        memory.reports[name] = replace(report, throttled_until=until)
        memory.kept_pauses[name] = until


def _index_routes(routes: Sequence[RoutePlan]) -> Mapping[str, tuple[str, ...]]:
    """Return the channels that each provider serves."""
    channels: dict[str, list[str]] = {}
    for plan in routes:
        for provider in plan.providers:
            channels.setdefault(provider, []).append(plan.channel)
    return {provider: tuple(names) for provider, names in channels.items()}
