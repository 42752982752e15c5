"""What the HTTP surface gets of the engine behind it: nothing more than it uses."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from clarion.gauges import Gauges
from clarion.hook.hook import Hook
from clarion.policies.clock import Clock
from clarion.providers.callback import ReceiptReader
from clarion.service import Service
from clarion.telemetry.metrics import Metrics

MAX_BATCH_BYTES = 32_000_000
"""A batch's body at most; a single notification's is `server.max_body`."""


def _random_id() -> str:
    return secrets.token_hex(13)


@dataclass(frozen=True, slots=True)
class Front:
    """One engine as HTTP sees it; the app keeps it under `FRONT`."""

    service: Service
    metrics: Metrics
    gauges: Gauges
    clock: Clock
    api_key: str = ""
    """The bearer key for everything but the health endpoints; "" asks for none (loopback only)."""
    max_body_bytes: int = 1_000_000
    body_s: float = 30.0
    """Within this a notification's body has to arrive, and a batch's within four times as long."""
    is_started: Callable[[], bool] = lambda: True
    """Whether every actor has started; `/readyz` is 503 before, and while it drains."""
    is_draining: Callable[[], bool] = lambda: False
    version: str = ""
    hosts: frozenset[str] = frozenset()
    """Host names, besides those of loopback, that a request may name while there is no key."""
    public_origin: str = ""
    """Scheme and host of `server.public_url`, in small letters: what browsers may call us."""
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    """The inbound hooks by name."""
    receipt_readers: Mapping[str, ReceiptReader] = field(default_factory=dict)
    """What reads the callbacks of each provider that sends some, by its name."""
    new_id: Callable[[], str] = _random_id
    """Makes the correlation id of a request that brings none."""


FRONT: Final = web.AppKey("front", Front)
"""Where the app keeps its `Front`."""
