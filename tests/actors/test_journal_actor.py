"""The Journal between the Queues and the writer: what it tells, and what it keeps to itself."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from clarion.actors.journal import Journal
from clarion.actors.journal_messages import Committed, Ended
from clarion.actors.messages import Snapshot
from clarion.actors.runtime import Runtime
from clarion.domain.notification import JobState, Status
from clarion.errors import StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage.command import EndedRow, Expire
from clarion.storage.writer import Done, Writer
from clarion.telemetry.metrics import Metrics
from clarion.testing import Crash

BOUND_S = 5.0


@pytest.fixture
async def runtime():
    made = Runtime(clock=SystemClock(), rng=lambda: 0.5)
    yield made
    await made.close(BOUND_S)


class Paper:
    """A store that takes everything."""

    def begin(self):
        """Begin nothing."""

    def apply_all(self, batch):
        return [each.now for each in batch]

    def commit(self):
        """Keep nothing."""

    def rollback(self):
        """Undo nothing."""


async def test_whoever_waits_for_an_end_is_told_of_it(runtime):
    """After the commit, and of nothing else."""
    heard = []
    journal = runtime.spawn(
        "journal",
        lambda: Journal(
            Writer(Paper(), on_done=print, post=lambda news: news(), on_state=print),
            queues=dict,
            on_ended=heard.append,
            clock=SystemClock(),
            metrics=Metrics(),
        ),
    )
    ended = EndedRow("01", Status.EXPIRED, JobState.READY)

    journal.tell(Committed([Done(Expire("email", 1.0, 0.0), [])]))
    journal.tell(Committed([Done(Expire("email", 2.0, 0.0), [ended])]))
    await runtime.stop("journal", BOUND_S)

    assert heard == [[Ended("01", Status.EXPIRED)]]


async def test_what_a_journal_was_told_is_written_though_it_crashes(runtime):
    """Commands wait in the writer, which outlives it, and not in the actor."""
    done = []
    writer = Writer(Paper(), on_done=done.extend, post=lambda news: news(), on_state=print)
    journal = runtime.spawn(
        "journal",
        lambda: Journal(
            writer,
            queues=dict,
            on_ended=lambda _ended: None,
            clock=SystemClock(),
            metrics=Metrics(),
        ),
        on_crash=lambda report: runtime.restart(report.name),
    )
    journal.tell(Expire("email", 1.0, 0.0))
    journal.tell(Crash("by the test"))

    journal.tell(Expire("email", 2.0, 0.0))
    found = await journal.ask(Snapshot(), BOUND_S)
    writer.run_once()

    assert found.pending == 2
    assert [each.result for each in done] == [1.0, 2.0]


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
