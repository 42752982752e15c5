"""The Journal between the Queues and the writer: what it tells, and what it keeps to itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from clarion.actors.journal import Journal
from clarion.actors.journal_messages import Committed
from clarion.actors.runtime import Runtime
from clarion.domain.notification import (
    Content,
    Delivery,
    Job,
    JobState,
    Priority,
    ProviderCall,
    Status,
)
from clarion.domain.outcome import Outcome
from clarion.errors import StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage.command import Defer, Expire, Settle
from clarion.storage.writer import Done, Writer
from clarion.telemetry.metrics import Metrics

BOUND_S = 5.0
JOB = Job(
    id="1", channel="email", content=Content("ada@example.com"), priority=Priority.NORMAL,
    flow="", vt=1.0, state=JobState.SENDING, created_at=0.0, expires_at=1e12,
    delivery=Delivery.AT_LEAST_ONCE,
)  # fmt: skip
CALL = ProviderCall("1", 1, "only", Outcome.ACCEPTED, "http_202", "taken", 0.0, 1.0)


def settle():
    return Settle("email", JOB, 1, Status.SENT, None, 1.0, CALL, "taken", origin=7)


def defer():
    return Defer("email", JOB, 1, None, ("only",), 0, None, 1.0, record=CALL, origin=7)


@pytest.fixture
async def runtime():
    made = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    yield made
    await made.close(BOUND_S)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (StorageUnavailable("the disk is full"), []),
        (ValueError("a bug"), ["write_failed"]),
    ],
    ids=["trouble of the disk", "our own bug"],
)
async def test_only_a_bug_is_logged_for_each_write(runtime, error, logged):
    """Storage trouble is told once, when it begins and when it ends, however late the news."""
    writer = Writer(None, on_done=print, post=lambda news: news(), on_state=print)
    journal = runtime.spawn(
        "journal",
        lambda: Journal(
            writer,
            queues=dict,
            on_ended=lambda _ended: None,
            clock=SystemClock(),
            metrics=Metrics(),
        ),
    )

    with capture_logs() as logs:
        journal.tell(Committed([Done(Expire("email", 0.0, 0.0), error=error)]))
        await runtime.stop("journal", BOUND_S)

    assert [entry["event"] for entry in logs] == logged


@pytest.mark.parametrize("make", [settle, defer], ids=["an end", "another try"])
async def test_an_end_that_cannot_be_written_is_written_without_its_story(runtime, make):
    """Or the notification would stay `sending` until the next start, and be sent again then."""
    writer = Writer(None, on_done=print, post=lambda news: news(), on_state=print)
    submitted = []
    writer.submit = submitted.append
    journal = runtime.spawn(
        "journal",
        lambda: Journal(
            writer,
            queues=dict,
            on_ended=lambda _ended: None,
            clock=SystemClock(),
            metrics=Metrics(),
        ),
    )
    told = make()

    journal.tell(Committed([Done(told, error=ValueError("a bug"))]))
    journal.tell(Committed([Done(replace(told, record=None), error=StorageUnavailable("full"))]))
    await runtime.stop("journal", BOUND_S)

    (plain,) = submitted
    assert type(plain) is type(told)
    assert (plain.job, plain.number, plain.origin) == (told.job, told.number, told.origin)
    assert plain.record is None
    assert getattr(plain, "detail", None) is None
    assert not plain.is_submitted
