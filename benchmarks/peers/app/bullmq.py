"""BullMQ's Python port on Redis; a lock on each job is renewed as long as its worker lives.

Run as a program it is a worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bullmq import Queue, Worker

from benchmarks import loop
from benchmarks.peers.app import work

QUEUE = "bench"
JOB = {
    "attempts": work.MAX_ATTEMPTS,
    "backoff": {"type": "fixed", "delay": work.RETRY_DELAY_S * 1000},
    "removeOnComplete": True,
}


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    queue = Queue(QUEUE, {"connection": work.BROKER_URL})

    async def enqueue(notification: work.Notification) -> object:
        return await queue.add("deliver", notification, JOB)

    yield enqueue
    await queue.close()


async def serve() -> None:
    """Work until told to stop."""

    async def process(job: Any, _token: str) -> None:
        await work.deliver(job.data)

    worker = Worker(
        QUEUE,
        process,
        {
            "connection": work.BROKER_URL,
            "concurrency": work.SLOTS,
            "lockDuration": work.LEASE_S * 1000,
            "stalledInterval": work.LEASE_S * 1000 // 2,
        },
    )
    await loop.until_told_to_stop()
    await worker.close()


if __name__ == "__main__":
    loop.run(serve())
