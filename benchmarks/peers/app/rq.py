"""RQ on Redis with its standard worker, which forks for each job.

Run as a program it is a worker that has loaded the code before it forks, as the manual advises.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import Redis
from rq import Queue, Retry, Worker

from benchmarks.peers.app import work

RETRY = Retry(max=work.MAX_ATTEMPTS - 1, interval=work.RETRY_DELAY_S)


def deliver(notification: work.Notification) -> None:
    """Deliver one."""
    work.deliver_blocking(notification)


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    queue = Queue(connection=Redis.from_url(work.BROKER_URL))

    def enqueue(notification: work.Notification) -> object:
        return queue.enqueue(
            deliver, notification, retry=RETRY, job_timeout=work.LEASE_S, result_ttl=0
        )

    yield work.in_threads(enqueue)


def main() -> None:
    """Work until told to stop."""
    # Jobs name their function by its module, which is not yet loaded under that name here.
    importlib.import_module("benchmarks.peers.app.rq")
    worker = Worker(
        ["default"],
        connection=Redis.from_url(work.BROKER_URL),
        # A job counts as abandoned a minute after its monitoring should have been heard of.
        job_monitoring_interval=work.LEASE_S // 2,
        maintenance_interval=work.LEASE_S // 2,
    )
    worker.work(with_scheduler=True, logging_level="WARNING")


if __name__ == "__main__":
    main()
