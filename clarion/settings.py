"""The settings: `settings.toml`, the environment over it, and every fault of both at once.

::

    settings.toml  <  CLARION_SERVER__PORT=9000  <  --port 9000
        │ "env:NAME" and "file:PATH" are looked up
        v
    tables (pydantic, unknown keys refused)  ->  cross-checks  ->  Settings, or SettingsError

Durations are seconds. Relative paths count from the directory of the file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)

from clarion.domain.notification import Channel
from clarion.errors import Fault, SettingsError
from clarion.policies.breaker import BreakerSettings
from clarion.policies.retry import RetrySettings
from clarion.providers.registry import UnknownKind, adapter_class
from clarion.settings_source import Faults, document_of, faults_of, near

DEFAULT_FILE = Path("settings.toml")

_UNITS = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}
_OUTBOX = {"kind": "outbox"}
_DEFAULT_CHANNELS: dict[str, Any] = {"email": {}, "sms": {}}


def _size(value: object) -> object:
    """Turn "1 MB" into bytes."""
    if not isinstance(value, str):
        return value
    number, unit = value.strip().rstrip("kmgbKMGB "), value.strip().lower()
    unit = unit.removeprefix(number.lower()).strip() or "b"
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError('write a size such as "1 MB" or a number of bytes') from None


Size = Annotated[PositiveInt, BeforeValidator(_size)]


class Table(BaseModel):
    """Base of every table: unknown keys are faults, nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServerSettings(Table):
    """`[server]`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = ""
    drain: PositiveFloat = 25.0
    max_body: Size = 1_000_000
    api_key: SecretStr = SecretStr("")


class StorageSettings(Table):
    """`[storage]`."""

    url: str = "sqlite:///clarion.db"
    pool_min: PositiveInt = 2
    pool_max: PositiveInt = 10


class RedisSettings(Table):
    """`[redis]`."""

    url: str = ""
    pool_min: PositiveInt = 1
    pool_max: PositiveInt = 20


class QueueSettings(Table):
    """`[queue]`."""

    max_in_memory: int = Field(default=2000, ge=8)
    max_pending: PositiveInt = 10_000_000
    lease: PositiveFloat = 30.0


class DefaultsSettings(Table):
    """`[defaults]`."""

    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    unknown_grace: NonNegativeFloat = 30.0
    expires_after: PositiveFloat = 259_200.0
    retention_days: PositiveFloat = 30.0


class RetryTable(Table):
    """`[channels.NAME.retry]`."""

    max_attempts: PositiveInt = 5
    initial_delay: NonNegativeFloat = 1.0
    multiplier: float = Field(default=2.0, ge=1.0)
    max_delay: NonNegativeFloat = 3600.0
    jitter: bool = True
    retry_after_max: NonNegativeFloat = 3600.0


class ChannelTable(Table):
    """`[channels.NAME]`."""

    providers: list[str] = Field(default=["outbox"], min_length=1)
    strategy: Literal["ordered", "weighted"] = "ordered"
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    spill_after: PositiveFloat = 1.0
    retry_table: RetryTable = Field(default=RetryTable(), alias="retry")

    @property
    def retry(self) -> RetrySettings:
        """How often and how far apart its attempts are."""
        return RetrySettings(**self.retry_table.model_dump())


class BulkheadTable(Table):
    """`[providers.NAME.bulkhead]`."""

    max_concurrent: PositiveInt = 32


class BreakerTable(Table):
    """`[providers.NAME.breaker]`."""

    failure_threshold: PositiveInt = 5
    success_threshold: PositiveInt = 2
    timeout: PositiveFloat = 60.0
    half_open_timeout: PositiveFloat = 30.0
    timeout_multiplier: float = Field(default=2.0, ge=1.0)
    timeout_max: PositiveFloat = 600.0
    jitter: float = Field(default=0.1, ge=0.0, le=1.0)
    window: Literal["consecutive", "count", "time"] = "consecutive"
    size: PositiveInt = 100
    minimum_calls: PositiveInt = 10
    failure_rate: float = Field(default=0.5, gt=0.0, le=1.0)
    slow_call: NonNegativeFloat = 0.0
    slow_rate: float = Field(default=1.0, gt=0.0, le=1.0)


class RateLimitTable(Table):
    """`[providers.NAME.rate_limit]`."""

    per_second: NonNegativeFloat = 0.0
    burst: PositiveInt = 1


class ProviderTable(Table):
    """The keys of `[providers.NAME]` that all kinds share."""

    kind: str
    timeout: PositiveFloat = 10.0
    enabled: bool = True
    health_every: NonNegativeFloat = 30.0
    misconfigured_probe: PositiveFloat = 300.0
    bulkhead: BulkheadTable = BulkheadTable()
    breaker_table: BreakerTable = Field(default=BreakerTable(), alias="breaker")
    rate_limit: RateLimitTable = RateLimitTable()


class ProviderSettings(ProviderTable):
    """`[providers.NAME]`, with the keys of its kind checked by the kind."""

    config: Any

    @property
    def max_concurrent(self) -> int:
        """The bulkhead: calls in flight at most."""
        return self.bulkhead.max_concurrent

    @property
    def breaker(self) -> BreakerSettings:
        """When its circuit opens and how it recovers."""
        return BreakerSettings(**self.breaker_table.model_dump())


class Settings(Table):
    """Everything that is configured."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    defaults: DefaultsSettings = DefaultsSettings()
    channels: dict[str, ChannelTable]
    providers: dict[str, ProviderSettings]
    base_dir: Path


ChannelSettings = ChannelTable
_SHARED = {field.alias or name for name, field in ProviderTable.model_fields.items()}
_SECTIONS = ("server", "storage", "redis", "queue", "defaults")


def load(
    path: Path | str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read, check and return the settings. Raises: SettingsError, listing every fault.

    `path` None means `settings.toml` in the working directory where there is one, else defaults.
    `env` defaults to the process's environment; `overrides` are nested tables that win over both.
    """
    file = DEFAULT_FILE if path is None else Path(path)
    faults = Faults()
    document = document_of(file, is_required=path is not None, env=env, faults=faults)
    for section, table in (overrides or {}).items():
        document[section] = {**document.get(section, {}), **table}
    settings = _build(document, file.resolve().parent, faults)
    if settings is not None:
        _cross_check(settings, faults)
    if faults.found or settings is None:
        raise SettingsError(faults.found)
    return settings


def _build(document: dict[str, Any], base_dir: Path, faults: Faults) -> Settings | None:
    for name in document.keys() - {*_SECTIONS, "channels", "providers"}:
        hint = near(name, [*_SECTIONS, "channels", "providers"])
        faults.add(name, f"there is no such section{hint}")
    tables: dict[str, Any] = {
        name: faults_of(
            Settings.model_fields[name].annotation, document.get(name, {}), name, faults
        )
        for name in _SECTIONS
    }
    channels = _section(document, "channels", faults) or _DEFAULT_CHANNELS
    tables["channels"] = {
        name: faults_of(ChannelTable, table, f"channels.{name}", faults)
        for name, table in channels.items()
    }
    providers = {"outbox": _OUTBOX, **_section(document, "providers", faults)}
    tables["providers"] = {
        name: _provider(name, table, faults) for name, table in providers.items()
    }
    if faults.found:
        return None
    return Settings.model_construct(**tables, base_dir=base_dir)


def _section(document: dict[str, Any], name: str, faults: Faults) -> dict[str, Any]:
    section = document.get(name, {})
    if isinstance(section, dict) and all(isinstance(each, dict) for each in section.values()):
        return section
    faults.add(name, f"must hold tables, such as [{name}.NAME]")
    return {}


def _provider(name: str, table: dict[str, Any], faults: Faults) -> ProviderSettings | None:
    path = f"providers.{name}"
    shared = {key: value for key, value in table.items() if key in _SHARED}
    own = {key: value for key, value in table.items() if key not in _SHARED}
    common = faults_of(ProviderTable, shared, path, faults)
    if common is None:
        return None
    try:
        config_class = adapter_class(common.kind).Config
    except UnknownKind as error:
        faults.add(f"{path}.kind", str(error))
        return None
    config = faults_of(config_class, own, path, faults, also_known=_SHARED)
    if config is None:
        return None
    tables = {field: getattr(common, field) for field in ProviderTable.model_fields}
    return ProviderSettings.model_construct(**tables, config=config)


def _cross_check(settings: Settings, faults: Faults) -> None:
    _check_server(settings, faults)
    for name, channel in settings.channels.items():
        if name not in set(Channel):
            faults.add(f"channels.{name}", f"there is no such channel{near(name, list(Channel))}")
        _check_route(name, channel, settings, faults)
    for name, provider in settings.providers.items():
        if provider.breaker_table.half_open_timeout < provider.timeout:
            faults.add(
                f"providers.{name}.breaker.half_open_timeout",
                f"must be at least the provider's timeout ({provider.timeout:g} s), or a slow"
                " probe is taken for a lost one",
            )


def _check_server(settings: Settings, faults: Faults) -> None:
    server = settings.server
    if not server.api_key.get_secret_value() and not _is_loopback(server.host):
        faults.add(
            "server.host",
            f"{server.host} can be reached from other machines: set server.api_key first,"
            ' such as "env:CLARION_KEY"',
        )
    longest = max(provider.timeout for provider in settings.providers.values())
    if server.drain < longest:
        faults.add(
            "server.drain",
            f"must cover the longest provider timeout ({longest:g} s), or a stop cuts calls off",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_route(name: str, channel: ChannelTable, settings: Settings, faults: Faults) -> None:
    path = f"channels.{name}.providers"
    for provider in channel.providers:
        known = settings.providers.get(provider)
        if known is None:
            hint = near(provider, list(settings.providers))
            faults.add(path, f"there is no [providers.{provider}]{hint}")
        elif name not in adapter_class(known.kind).channels:
            faults.add(path, f"{provider} is of kind {known.kind}, which cannot send {name}")
    if len(set(channel.providers)) < len(channel.providers):
        faults.add(path, "names a provider twice")
    for provider in channel.weights.keys() - set(channel.providers):
        faults.add(f"channels.{name}.weights.{provider}", "is not in the route's providers")
    if channel.strategy == "weighted" and channel.weights and not sum(channel.weights.values()):
        faults.add(f"channels.{name}.weights", "must sum to more than 0")


__all__ = [
    "ChannelSettings", "Fault", "ProviderSettings", "Settings", "load",
]  # fmt: skip
