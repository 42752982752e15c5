"""The work that every peer's application does, and the figures that all of them are given.

A careful user's choices, the same for all as far as a peer has them: five attempts, a second
before the second one, and ten seconds until the work of a dead worker is taken up by another.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import urllib3

from benchmarks import mail

Notification = dict[str, Any]
Enqueue = Callable[[Notification], Awaitable[object]]

BROKER_URL = os.environ.get("BENCH_BROKER", "")
SLOTS = int(os.environ.get("BENCH_SLOTS", "16"))
"""Calls at a time, in each worker process."""
MAX_ATTEMPTS = 5
RETRY_DELAY_S = 1
LEASE_S = 10
TIMEOUT_S = 10.0
_URL = os.environ.get("BENCH_SINK", "") + mail.PATH
_PRODUCER_THREADS = 8


class ProviderError(Exception):
    """The provider did not take it; worth another attempt."""


async def deliver(notification: Notification) -> None:
    """Send it over this process's keep-alive connections; ProviderError if it is not taken."""
    session = _session()
    async with session.post(_URL, json=mail.from_notification(notification)) as response:
        await response.read()
        if response.status >= 300:
            raise ProviderError(response.status)


def deliver_blocking(notification: Notification) -> None:
    """Send it from a thread; ProviderError if it is not taken."""
    response = _pool().request(
        "POST", _URL, json=mail.from_notification(notification), retries=False, timeout=TIMEOUT_S
    )
    if response.status >= 300:
        raise ProviderError(response.status)


def in_threads(enqueue: Callable[[Notification], object]) -> Enqueue:
    """Return an awaitable form of a blocking producer, as web frameworks run those."""
    threads = ThreadPoolExecutor(_PRODUCER_THREADS)

    async def run(notification: Notification) -> object:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, enqueue, notification)

    return run


@functools.cache
def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=SLOTS),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
    )


@functools.cache
def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(maxsize=SLOTS)
