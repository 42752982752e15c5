"""Celery on Redis: acknowledged late, put back when a worker is lost, ignored results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from celery import Celery

from benchmarks.peers.app import work

app = Celery("bench", broker=work.BROKER_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # Also what a retry's delay has to stay below, or it is delivered twice.
    broker_transport_options={"visibility_timeout": work.LEASE_S},
)


@app.task(
    name="deliver",
    autoretry_for=(work.ProviderError,),
    max_retries=work.MAX_ATTEMPTS - 1,
    default_retry_delay=work.RETRY_DELAY_S,
)
def deliver(notification: work.Notification) -> None:
    """Deliver one."""
    work.deliver_blocking(notification)


@asynccontextmanager
async def producer() -> AsyncIterator[work.Enqueue]:
    """Give what enqueues."""
    yield work.in_threads(deliver.delay)
