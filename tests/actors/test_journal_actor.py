"""The Journal between the Queues and the writer: what it tells, and what it keeps to itself."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from clarion.actors.journal import Journal
from clarion.actors.journal_messages import Committed
from clarion.actors.runtime import Runtime
from clarion.errors import StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage.command import Expire
from clarion.storage.writer import Done, Writer
from clarion.telemetry.metrics import Metrics

BOUND_S = 5.0


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
