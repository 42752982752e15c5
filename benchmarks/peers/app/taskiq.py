"""Taskiq on a Redis stream: acknowledged when executed, claimed by others when idle too long.

Without a scheduler beside it a retry is enqueued at once: the stream knows no delay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskiq import SimpleRetryMiddleware
from taskiq_redis import RedisStreamBroker

from benchmarks.peers.app import work

broker = RedisStreamBroker(
    work.BROKER_URL,
    # "0": a stream that begins before the first worker does is read from its beginning.
    consumer_id="0",
    idle_timeout=work.LEASE_S * 1000,
    unacknowledged_lock_timeout=work.LEASE_S,
).with_middlewares(SimpleRetryMiddleware(default_retry_count=work.MAX_ATTEMPTS))


@broker.task(retry_on_error=True)
async def deliver(notification: work.Notification) -> None:
    """Deliver one."""
    await work.deliver(notification)


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    await broker.startup()
    yield deliver.kiq
    await broker.shutdown()
