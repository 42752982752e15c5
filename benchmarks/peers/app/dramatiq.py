"""Dramatiq on Redis with an async actor; messages are acknowledged once the actor is through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.asyncio import AsyncIO

from benchmarks.peers.app import work

broker = RedisBroker(
    url=work.BROKER_URL,
    heartbeat_timeout=work.LEASE_S * 1000,
    # Of a million commands: with the usual 1,000, idle workers look for dead ones once in minutes.
    maintenance_chance=10_000,
)
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=work.MAX_ATTEMPTS - 1, min_backoff=work.RETRY_DELAY_S * 1000)
async def deliver(notification: work.Notification) -> None:
    """Deliver one."""
    await work.deliver(notification)


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    yield work.in_threads(deliver.send)
