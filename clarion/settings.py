"""The settings: `settings.toml`, the environment over it, and every fault of both at once.

::

    settings.toml  <  CLARION_SERVER__PORT=9000  <  --port 9000
        │ "env:NAME" and "file:PATH" are looked up
        v
    tables (pydantic, unknown keys refused)  ->  cross-checks  ->  Settings, or SettingsError

Cross-checks look at every table that is right by itself, so that a fault hides no other. Relative
paths count from the directory of the file. The tables themselves stand in `settings_table`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from clarion.domain.notification import Channel
from clarion.domain.submission import fault_of_text
from clarion.errors import Fault, SettingsError
from clarion.providers.registry import UnknownKind, UnusableKind, adapter_class
from clarion.providers.setting import AdapterConfig
from clarion.settings_source import Faults, document_of, faults_of, near
from clarion.settings_table import (
    ChannelTable,
    DefaultsSettings,
    HookTable,
    ProviderSettings,
    ProviderTable,
    QueueSettings,
    RedisSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    Table,
)
from clarion.storage import redis_url
from clarion.storage.url import url_fault

DEFAULT_FILE = Path("settings.toml")

_OUTBOX = {"kind": "outbox"}
_DEFAULT_CHANNELS: dict[str, Any] = {"email": {}, "sms": {}}
"""What there is while no channel is named: both can be tried without an account. The others are
there when they are named, so that nothing meant for the world ends in a file unasked."""
_SECTIONS: dict[str, type[Table]] = {
    "server": ServerSettings,
    "storage": StorageSettings,
    "redis": RedisSettings,
    "queue": QueueSettings,
    "defaults": DefaultsSettings,
}
_SHARED = {field.alias or name for name, field in ProviderTable.model_fields.items()}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""A provider's name is part of URLs, metrics and actor names, a hook's of its URL."""

ChannelSettings = ChannelTable


@dataclass(frozen=True, slots=True)
class _Draft:
    """What was read: a table that has faults of its own is None."""

    sections: dict[str, Table | None]
    channels: dict[str, ChannelTable | None]
    providers: dict[str, ProviderSettings | None]
    hooks: dict[str, HookTable | None]

    def sound_providers(self) -> dict[str, ProviderSettings]:
        return {name: each for name, each in self.providers.items() if each is not None}


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
    _override(document, overrides or {})
    draft = _draft(document, faults)
    _cross_check(draft, faults)
    if faults.found:
        raise SettingsError(faults.found)
    return Settings.model_construct(
        **cast(Any, draft.sections),
        channels=cast(Any, draft.channels),
        providers=draft.sound_providers(),
        hooks=cast(Any, draft.hooks),
        base_dir=file.resolve().parent,
    )


def _override(table: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(table.get(key, {}), dict):
            _override(table.setdefault(key, {}), value)
        elif not isinstance(value, Mapping):
            table[key] = value


def _draft(document: dict[str, Any], faults: Faults) -> _Draft:
    known = [*_SECTIONS, "channels", "providers", "hooks"]
    for name in sorted(document.keys() - set(known)):
        faults.add(name, f"there is no such section{near(name, known)}")
    channels = _tables(document, "channels", faults) or _DEFAULT_CHANNELS
    providers = {"outbox": _OUTBOX, **_tables(document, "providers", faults)}
    return _Draft(
        {
            name: faults_of(model, document.get(name, {}), name, faults)
            for name, model in _SECTIONS.items()
        },
        {
            name: faults_of(ChannelTable, table, f"channels.{name}", faults)
            for name, table in channels.items()
        },
        {name: _provider(name, table, faults) for name, table in providers.items()},
        {
            name: faults_of(HookTable, table, f"hooks.{name}", faults)
            for name, table in _tables(document, "hooks", faults).items()
        },
    )


def _tables(document: dict[str, Any], section: str, faults: Faults) -> dict[str, Any]:
    tables = document.get(section, {})
    if not isinstance(tables, dict):
        faults.add(section, f"must hold tables, such as [{section}.NAME]")
        return {}
    return tables


def _provider(name: str, table: Any, faults: Faults) -> ProviderSettings | None:
    path = f"providers.{name}"
    _check_name(name, path, faults)
    if not isinstance(table, dict):
        faults.add(path, f"must be a table: [providers.{name}]")
        return None
    table = {"kind": name, **table}
    kind = _config_class(table["kind"], path, faults)
    shared = {key: value for key, value in table.items() if key in _SHARED}
    own = {key: value for key, value in table.items() if key not in _SHARED}
    common = faults_of(ProviderTable, _with_slots_of(kind, shared), path, faults)
    config = kind and faults_of(kind, own, path, faults, also_known=_SHARED)
    if common is None or config is None:
        return None
    tables = {field: getattr(common, field) for field in ProviderTable.model_fields}
    return ProviderSettings.model_construct(**tables, config=config)


def _check_name(name: str, path: str, faults: Faults) -> None:
    if not _NAME.fullmatch(name):
        faults.add(path, "name it with letters, digits, - and _ (at most 64)")


def _config_class(kind: Any, path: str, faults: Faults) -> type[AdapterConfig] | None:
    """Return what checks the keys of a kind; a kind that is no text is told elsewhere."""
    if not isinstance(kind, str):
        return None
    try:
        return adapter_class(kind).Config
    except (UnknownKind, UnusableKind) as error:
        faults.add(f"{path}.kind", str(error))
        return None


def _with_slots_of(kind: type[AdapterConfig] | None, shared: dict[str, Any]) -> dict[str, Any]:
    """Add how many calls a kind takes at once, where it has a default of its own."""
    bulkhead = shared.get("bulkhead", {})
    if kind is None or kind.default_max_concurrent is None or not isinstance(bulkhead, dict):
        return shared
    slots = {"max_concurrent": kind.default_max_concurrent}
    return {**shared, "bulkhead": {**slots, **bulkhead}}


# --- cross-checks ------------------------------------------------------------------------------


def _cross_check(draft: _Draft, faults: Faults) -> None:
    if isinstance(server := draft.sections["server"], ServerSettings):
        _check_server(server, draft, faults)
    if isinstance(storage := draft.sections["storage"], StorageSettings):
        _check_storage(storage, faults)
    if isinstance(redis := draft.sections["redis"], RedisSettings):
        _check_redis(redis, faults)
    for name, channel in draft.channels.items():
        if name not in set(Channel):
            faults.add(f"channels.{name}", f"there is no such channel{near(name, list(Channel))}")
        elif channel is not None:
            _check_route(name, channel, draft, faults)
    for name, provider in draft.sound_providers().items():
        _check_provider(name, provider, faults)
    for name, hook in draft.hooks.items():
        _check_hook(name, hook, draft, faults)


def _check_server(server: ServerSettings, draft: _Draft, faults: Faults) -> None:
    if not server.api_key.get_secret_value() and not _is_loopback(server.host):
        faults.add(
            "server.host",
            f"{server.host!r} can be reached from other machines: set server.api_key first,"
            ' such as "env:CLARION_KEY"',
        )
    longest = max((each.timeout for each in draft.sound_providers().values()), default=0.0)
    if server.drain < longest:
        faults.add(
            "server.drain",
            f"must cover the longest provider timeout ({longest:g} s), or a stop cuts calls off",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


def _check_storage(storage: StorageSettings, faults: Faults) -> None:
    # The URL itself is not repeated: it may hold a password.
    _check_pool("storage", storage, faults)
    fault = url_fault(storage.url)
    if fault is not None:
        faults.add("storage.url", fault)


def _check_redis(redis: RedisSettings, faults: Faults) -> None:
    # The URL itself is not repeated: it may hold a password.
    _check_pool("redis", redis, faults)
    fault = redis_url.url_fault(redis.url) if redis.url else None
    if fault is not None:
        faults.add("redis.url", fault)


def _check_pool(name: str, pool: StorageSettings | RedisSettings, faults: Faults) -> None:
    if pool.pool_min > pool.pool_max:
        faults.add(f"{name}.pool_min", f"must be at most {name}.pool_max ({pool.pool_max})")


def _check_route(name: str, channel: ChannelTable, draft: _Draft, faults: Faults) -> None:
    path = f"channels.{name}.providers"
    for provider in channel.providers:
        known = draft.providers.get(provider)
        if provider not in draft.providers:
            hint = near(provider, list(draft.providers))
            faults.add(path, f"there is no [providers.{provider}]{hint}")
        elif known is not None and name not in adapter_class(known.kind).channels:
            faults.add(path, f"{provider} is of kind {known.kind}, which cannot send {name}")
    if len(set(channel.providers)) < len(channel.providers):
        faults.add(path, "names a provider twice")
    for provider in sorted(channel.weights.keys() - set(channel.providers)):
        faults.add(f"channels.{name}.weights.{provider}", "is not in the route's providers")
    if channel.strategy == "weighted" and not _total_weight(channel):
        faults.add(f"channels.{name}.weights", "must sum to more than 0")


def _total_weight(channel: ChannelTable) -> float:
    return sum(channel.weights.get(provider, 1.0) for provider in channel.providers)


def _check_provider(name: str, provider: ProviderSettings, faults: Faults) -> None:
    if provider.breaker_table.half_open_timeout < provider.timeout:
        faults.add(
            f"providers.{name}.breaker.half_open_timeout",
            f"must be at least the provider's timeout ({provider.timeout:g} s), or a slow"
            " probe is taken for a lost one",
        )


def _check_hook(name: str, hook: HookTable | None, draft: _Draft, faults: Faults) -> None:
    path = f"hooks.{name}"
    _check_name(name, path, faults)
    if hook is None:
        return
    if not {f"{path}.token", f"{path}.secret"} & faults.unresolved:
        _check_credential(path, hook, faults)
    mapping = hook.mapping(name, lambda detail, key: faults.add(f"{path}.{key}", detail))
    channel = getattr(mapping.fields.get("channel"), "literal", None)
    if channel is not None and channel not in draft.channels:
        hint = near(channel, list(draft.channels))
        faults.add(f"{path}.notification.channel", f"there is no [channels.{channel}]{hint}")
        channel = None
    for field, text in mapping.literals.items():
        detail = fault_of_text(field, text, channel or "")
        if detail is not None:
            faults.add(f"{path}.notification.{field}", detail)


def _check_credential(path: str, hook: HookTable, faults: Faults) -> None:
    if not hook.has_one_credential:
        faults.add(path, "set either token or secret: whoever calls it has to show one of them")
        return
    try:
        _ = hook.credential
    except ValueError as error:
        faults.add(f"{path}.{'token' if hook.token.get_secret_value() else 'secret'}", str(error))


__all__ = [
    "ChannelSettings", "Fault", "ProviderSettings", "Settings", "load",
]  # fmt: skip
