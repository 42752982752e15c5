"""SAQ on Redis: a job stays active until it is done, and a sweep retries what is stuck."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue

from benchmarks.peers.app import work

queue = Queue.from_url(work.BROKER_URL)


async def deliver(_context: dict[str, Any], *, notification: work.Notification) -> None:
    """Deliver one."""
    await work.deliver(notification)


settings = {
    "queue": queue,
    "functions": [deliver],
    "concurrency": work.SLOTS,
    "timers": {"sweep": work.LEASE_S // 2},
}


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    await queue.connect()

    async def enqueue(notification: work.Notification) -> object:
        return await queue.enqueue(
            "deliver",
            notification=notification,
            retries=work.MAX_ATTEMPTS,
            retry_delay=work.RETRY_DELAY_S,
            timeout=work.LEASE_S,
            ttl=-1,
        )

    yield enqueue
    await queue.disconnect()
