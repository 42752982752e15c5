"""Procrastinate on PostgreSQL, with the periodic task of its manual that retries stalled jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy

from benchmarks.peers.app import work

app = App(
    connector=PsycopgConnector(conninfo=work.BROKER_URL, max_size=8),
    worker_defaults={
        "concurrency": work.SLOTS,
        "update_heartbeat_interval": work.LEASE_S / 4,
        "stalled_worker_timeout": work.LEASE_S,
        "delete_jobs": "successful",
    },
)


@app.task(
    name="deliver",
    retry=RetryStrategy(
        max_attempts=work.MAX_ATTEMPTS - 1,
        wait=work.RETRY_DELAY_S,
        retry_exceptions=[work.ProviderError],
    ),
)
async def deliver(notification: work.Notification) -> None:
    """Deliver one."""
    await work.deliver(notification)


@app.periodic(cron="* * * * * */5")
@app.task(name="retry_stalled", queueing_lock="retry_stalled", pass_context=True)
async def retry_stalled(
    _context: JobContext,
    timestamp: int,  # noqa: ARG001 - it comes by this name
) -> None:
    """Give the jobs of dead workers to those that live."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    async with app.open_async():

        async def enqueue(notification: work.Notification) -> object:
            return await deliver.defer_async(notification=notification)

        yield enqueue
