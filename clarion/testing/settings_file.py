"""Writes settings files for tests: plain data in, `settings.toml` out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Table = Mapping[str, Any]


def settings_toml(
    path: Path,
    *,
    providers: Mapping[str, Table],
    channels: Mapping[str, Table | list[str]],
    retry: Table | None = None,
    breaker: Table | None = None,
    **sections: Table,
) -> Path:
    """Write a settings file to `path` and return it.

    `channels` maps a channel to its table, or just to the list of its providers. `retry` and
    `breaker` are defaults for every channel and provider, under what their own tables say. Other
    sections (`server`, `storage`, `queue`, `defaults`, …) are written as they are.
    """
    document = {
        **sections,
        "providers": {name: _under(table, "breaker", breaker) for name, table in providers.items()},
        "channels": {
            name: _under(_channel(table), "retry", retry) for name, table in channels.items()
        },
    }
    path.write_text(toml_of(document), encoding="utf-8")
    return path


def toml_of(document: Table) -> str:
    """Write nested tables of strings, numbers, booleans and lists as TOML."""
    return "\n".join(_lines(document, ())) + "\n"


def _channel(table: Table | list[str]) -> Table:
    return {"providers": table} if isinstance(table, list) else table


def _under(table: Table, name: str, defaults: Table | None) -> Table:
    if defaults is None:
        return table
    return {**table, name: {**defaults, **table.get(name, {})}}


def _lines(table: Table, path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"[{'.'.join(_key(part) for part in path)}]"] if path and plain else []
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
