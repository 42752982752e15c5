"""The event loop of processes that tests start: the one that the real server runs on."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it exists, else None: asyncio's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
