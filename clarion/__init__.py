"""Clarion: a resilient multi-channel notification service.

::

    async with clarion.start("settings.toml") as service:
        receipt = await service.send(channel="email", to="ada@example.com", text="…")
        final = await receipt.settled(timeout=10)

Everything named in `__all__` is public and is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clarion import errors
    from clarion.actors.messages import Snapshot
    from clarion.app import start
    from clarion.errors import CircuitOpen
    from clarion.resilience import Breaker, BreakerRegistry, is_transient, retry
    from clarion.telemetry import metrics

__all__ = [
    "Breaker",
    "BreakerRegistry",
    "CircuitOpen",
    "Snapshot",
    "__version__",
    "errors",
    "is_transient",
    "metrics",
    "retry",
    "start",
]

_HOMES = {
    "Breaker": "clarion.resilience",
    "BreakerRegistry": "clarion.resilience",
    "CircuitOpen": "clarion.errors",
    "Snapshot": "clarion.actors.messages",
    "is_transient": "clarion.resilience",
    "retry": "clarion.resilience",
    "start": "clarion.app",
}
_MODULES = {"errors": "clarion.errors", "metrics": "clarion.telemetry.metrics"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name == "__version__":
        return import_module("importlib.metadata").version("clarion")
    raise AttributeError(f"module 'clarion' has no attribute {name!r}")
