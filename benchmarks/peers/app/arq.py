"""arq: a job stays in the queue until it is done, with a key that says who has it meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from arq import Retry, create_pool
from arq.connections import RedisSettings

from benchmarks.peers.app import work

REDIS = RedisSettings.from_dsn(work.BROKER_URL)


async def deliver(_context: dict[str, Any], notification: work.Notification) -> None:
    """Deliver one."""
    try:
        await work.deliver(notification)
    except work.ProviderError as error:
        raise Retry(defer=work.RETRY_DELAY_S) from error


class WorkerSettings:
    """What `arq` reads; the mark of a job in progress lives ten seconds longer than its limit."""

    functions: ClassVar = [deliver]
    redis_settings = REDIS
    max_jobs = work.SLOTS
    max_tries = work.MAX_ATTEMPTS
    job_timeout = work.LEASE_S
    # Each look at the queue starts `max_jobs` at most: 64 per second with the usual 0.5 s.
    poll_delay = 0.05
    keep_result = 0
    log_results = False


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    pool = await create_pool(REDIS)

    async def enqueue(notification: work.Notification) -> object:
        return await pool.enqueue_job("deliver", notification)

    yield enqueue
    await pool.aclose()
