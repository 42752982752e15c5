"""Huey on Redis: a worker takes a task out of the list before it runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from huey import RedisHuey

from benchmarks.peers.app import work

huey = RedisHuey("bench", url=work.BROKER_URL, results=False)


@huey.task(retries=work.MAX_ATTEMPTS - 1, retry_delay=work.RETRY_DELAY_S)
def deliver(notification: work.Notification) -> None:
    """Deliver one."""
    work.deliver_blocking(notification)


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    yield work.in_threads(deliver)
