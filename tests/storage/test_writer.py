"""Group commit, one culprit at a time, and a disk that fails and comes back."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from structlog.testing import capture_logs

from clarion.actors.future import Reply
from clarion.domain.notification import JobState, Status
from clarion.errors import StorageUnavailable
from clarion.storage.command import Load, Promote, Refill, Settle, Sweep
from clarion.storage.writer import Done, Writer


@pytest.fixture
def backend():
    """This is about SQLite alone."""
    return "sqlite"


WAIT_S = 10.0


class Outbox:
    """Hears what the writer tells, in order."""

    def __init__(self):
        self.batches: list[list[Done]] = []
        self.states: list[tuple[bool, str]] = []
        self.changed = threading.Condition()

    @property
    def done(self) -> list[Done]:
        return [done for batch in self.batches for done in batch]

    def hear_done(self, batch: list[Done]) -> None:
        with self.changed:
            self.batches.append(batch)
            self.changed.notify_all()

    def hear_state(self, is_writable: bool, reason: str) -> None:
        self.states.append((is_writable, reason))

    def wait_for(self, n: int) -> list[Done]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.done) >= n, WAIT_S)
        return self.done


class Clock:
    def __init__(self):
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class FullDisk:
    """Lets the database grow no further, which SQLite reports as it does a full disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def fill(self) -> None:
        [(pages,)] = self._connection.execute("PRAGMA page_count")
        self._connection.execute(f"PRAGMA max_page_count = {pages}")

    def free(self) -> None:
        self._connection.execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
def outbox():
    return Outbox()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer(desk, outbox, clock):
    return make_writer(desk, outbox, clock)


@pytest.fixture
def disk(desk):
    return FullDisk(desk.connection)


def make_writer(desk, outbox, clock=None, **settings):
    if clock is not None:
        settings["monotonic"] = clock
    return Writer(
        desk.store,
        on_done=outbox.hear_done,
        post=lambda news: news(),
        on_state=outbox.hear_state,
        **settings,
    )


def big(desk):
    """An acceptance that needs pages of its own."""
    return desk.acceptance(desk.job(metadata={"filler": "x" * 50_000}))


# --- group commit ----------------------------------------------------------------------------


def test_what_gathered_is_written_in_one_commit(desk, writer, outbox):
    """The previous fsync is the window: all that is there goes into one transaction."""
    statements = []
    desk.connection.set_trace_callback(statements.append)
    for _ in range(5):
        writer.submit(desk.acceptance(desk.job()))

    assert writer.pending == 5
    assert writer.run_once()

    assert statements.count("COMMIT") == 1
    assert [len(batch) for batch in outbox.batches] == [5]
    assert writer.pending == 0


def test_a_batch_is_bounded(desk, outbox):
    """What is over `max_batch` waits for the next commit, in order."""
    sizes = []
    writer = make_writer(desk, outbox, max_batch=2, batch_size=sizes.append)
    commands = [desk.acceptance(desk.job()) for _ in range(5)]
    for command in commands:
        writer.submit(command)

    while writer.run_once():
        pass

    assert sizes == [2.0, 2.0, 1.0]
    assert [done.command for done in outbox.done] == commands


def test_commands_run_in_the_order_of_their_submission(desk, writer, outbox):
    """A settlement behind its intent behind its acceptance, all in one batch."""
    job = desk.job()
    for command in (desk.acceptance(job), desk.intent(job), desk.settlement(job)):
        writer.submit(command)

    writer.run_once()

    accepted, intended, settled = outbox.done
    assert [call.job for call in intended.result] == [job]
    assert settled.result is True
    assert accepted.error is None


def test_the_time_of_a_commit_is_measured(desk, outbox, clock):
    """One measurement per commit, in seconds."""
    seconds = []
    writer = make_writer(desk, outbox, clock, commit_seconds=seconds.append)
    writer.submit(desk.acceptance(desk.job()))

    writer.run_once()

    assert seconds == [0.0]


def test_a_command_that_comes_twice_is_written_once(desk, writer, outbox):
    """A message redelivered after a crash of the Journal changes nothing, before or after."""
    command = desk.acceptance(desk.job())
    writer.submit(command)
    writer.submit(command)
    writer.run_once()
    writer.submit(command)

    assert not writer.run_once()
    assert len(outbox.done) == 1


def test_only_the_culprit_of_a_failed_batch_fails(desk, writer, outbox):
    """The rest of the batch is written, in order, as if the culprit had not been there."""
    first, bad, last = desk.job(), desk.job(metadata={"x": float("nan")}), desk.job()
    for job in (first, bad, last):
        writer.submit(desk.acceptance(job))

    writer.run_once()

    errors = [type(done.error) for done in outbox.done]
    assert errors == [type(None), ValueError, type(None)]
    assert desk.job_row(first) and desk.job_row(last) and not desk.job_row(bad)
    assert desk.counts() == {"accepted": 2, "queued": 2}
    assert outbox.states == []


UNWRITABLE = "a lone surrogate: \ud800"
"""What SQLite refuses to encode: a stand-in for any bug in what is told of a call."""


def test_an_end_whose_story_cannot_be_written_is_written_without_it(desk, writer, outbox):
    """Or it would stay `sending` until the next start, and be sent again then."""
    job = desk.sending()
    writer.submit(desk.settlement(job, record=desk.record(job, detail=UNWRITABLE)))

    with capture_logs() as logs:
        writer.run_once()

    (done,) = outbox.done
    assert (done.result, done.error, done.command.job) == (True, None, job)
    assert desk.counts() == {"accepted": 1, "sent": 1}
    assert [entry["event"] for entry in logs] == ["story_lost"]


def test_a_deferral_without_its_story_keeps_its_place(desk, writer, outbox):
    """The timer behind it would else find no timed row, and nobody would wake the job again."""
    job = desk.sending()
    record = desk.record(job, detail=UNWRITABLE)
    writer.submit(desk.deferral(job, due_at=desk.now, record=record))
    writer.submit(Promote("email", [job], desk.now))

    with capture_logs():
        writer.run_once()
    writer.run_once()

    assert [done.error for done in outbox.done] == [None, None]
    assert desk.job_row(job)["state"] == JobState.READY


def test_an_end_that_cannot_be_written_at_all_is_told(desk, writer, outbox):
    """Its error reaches the Journal, and those around it are written."""
    lost, other = desk.sending(), desk.sending()
    writer.submit(desk.settlement(lost, reason=UNWRITABLE))
    writer.submit(desk.settlement(other))

    with capture_logs():
        writer.run_once()

    assert [type(done.error) for done in outbox.done] == [UnicodeEncodeError, type(None)]
    assert desk.counts() == {"accepted": 2, "sending": 1, "sent": 1}


def test_a_command_nobody_knows_is_a_culprit_too(desk, writer, outbox):
    """A bug is the answer of its own command, not the end of the thread."""

    class Strange(Settle):
        pass

    job = desk.sending()
    writer.submit(Strange("email", job, 1, Status.SENT, None, desk.now))
    writer.submit(desk.settlement(job))

    writer.run_once()

    assert [done.result for done in outbox.done] == [None, True]
    assert isinstance(outbox.done[0].error, KeyError)


# --- the thread ------------------------------------------------------------------------------


def test_the_thread_writes_what_any_thread_submits(desk, outbox):
    """Nothing is lost and nothing is doubled between many submitters."""
    writer = make_writer(desk, outbox)
    writer.start()
    lots = [[desk.acceptance(desk.job()) for _ in range(25)] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda lot=lot: [writer.submit(each) for each in lot])
        for lot in lots
    ]

    for thread in threads:
        thread.start()
    outbox.wait_for(100)
    for thread in threads:
        thread.join(WAIT_S)

    assert writer.close(WAIT_S)
    assert desk.counts() == {"accepted": 100, "queued": 100}


def test_closing_writes_what_is_left(desk, outbox):
    """A flush: what was submitted before is durable after."""
    writer = make_writer(desk, outbox)
    for _ in range(3):
        writer.submit(desk.acceptance(desk.job()))

    writer.start()

    assert writer.close(WAIT_S)
    assert desk.counts()["accepted"] == 3


def test_nothing_is_accepted_after_closing(desk, writer, outbox):
    """Whoever comes late is told, not forgotten."""
    writer.close(WAIT_S)

    writer.submit(desk.acceptance(desk.job()))

    assert isinstance(outbox.done[0].error, StorageUnavailable)
    assert desk.counts() == {}


def test_a_listener_that_is_gone_does_not_end_the_thread(desk):
    """The loop may close first; what is written stays written."""

    def closed(_news):
        raise RuntimeError("Event loop is closed")

    writer = Writer(desk.store, on_done=print, post=closed, on_state=print)
    writer.submit(desk.acceptance(desk.job()))

    assert writer.run_once()
    assert desk.counts()["accepted"] == 1


# --- a disk that fails -----------------------------------------------------------------------


def test_a_full_disk_refuses_what_is_not_owed(desk, writer, outbox, disk):
    """Accepts fail loudly, with a plain reason, and the state is told once."""
    disk.fill()

    for _ in range(2):
        writer.submit(big(desk))
        writer.run_once()

    assert [str(done.error) for done in outbox.done] == [
        "nothing can be stored now: the disk is full"
    ] * 2
    assert all(isinstance(done.error, StorageUnavailable) for done in outbox.done)
    assert outbox.states == [(False, "the disk is full")]
    assert (writer.is_writable, writer.reason) == (False, "the disk is full")
    assert desk.counts() == {}


def test_owed_commands_outlast_a_full_disk_in_their_order(desk, writer, outbox, disk, clock):
    """Settlements are kept, tried again every `retry_s`, and written in order when it can be."""
    jobs = [desk.sending() for _ in range(3)]
    disk.fill()
    writer.submit(big(desk))
    commands = [desk.deferral(jobs[0]), desk.settlement(jobs[1]), desk.settlement(jobs[2])]
    for command in commands:
        writer.submit(command)
        writer.run_once()
    assert writer.pending == 3

    clock.at += 0.9
    disk.free()
    writer.run_once()
    assert len(outbox.done) == 1, "not before retry_s has passed"
    clock.at += 0.1
    writer.run_once()

    assert [done.command for done in outbox.done[1:]] == commands
    assert [done.result for done in outbox.done[2:]] == [True, True]
    assert outbox.states == [(False, "the disk is full"), (True, "")]
    assert desk.counts() == {"accepted": 3, "queued": 1, "sent": 2}
    assert writer.pending == 0


def test_a_disk_that_stays_full_is_told_once(desk, writer, outbox, disk, clock):
    """Tries that fail change nothing and repeat nothing."""
    job = desk.sending()
    disk.fill()
    writer.submit(big(desk))
    writer.submit(desk.settlement(job))
    writer.run_once()

    for _ in range(3):
        clock.at += 1.0
        writer.run_once()

    assert outbox.states == [(False, "the disk is full")]
    assert writer.pending == 1
    assert len(outbox.done) == 1


def test_a_disk_that_recovers_is_noticed_with_nothing_owed(desk, writer, outbox, disk, clock):
    """Else a service that refuses everything would never ask again."""
    disk.fill()
    writer.submit(big(desk))
    writer.run_once()

    disk.free()
    clock.at += 1.0
    writer.run_once()

    assert outbox.states == [(False, "the disk is full"), (True, "")]
    assert desk.rows("SELECT name FROM sqlite_master WHERE name = 'probe'") == []


def test_what_comes_after_the_recovery_is_behind_what_was_kept(desk, writer, outbox, disk, clock):
    """The order of the writes holds across the outage: the intent finds the row deferred."""
    job = desk.sending()
    disk.fill()
    writer.submit(big(desk))
    writer.submit(desk.deferral(job))
    writer.run_once()
    disk.free()
    clock.at += 1.0
    writer.submit(desk.intent(job, 2))

    writer.run_once()

    deferred, intended = outbox.done[1:]
    assert deferred.result is not None
    assert [call.number for call in intended.result] == [2]


def test_reads_go_on_while_the_disk_is_full(desk, writer, outbox, disk):
    """A lane that restarts meanwhile can load."""
    job = desk.accepted()
    disk.fill()
    writer.submit(big(desk))
    writer.submit(Load("email", 10, desk.now, 10))

    writer.run_once()

    assert [ready.id for ready in outbox.done[1].result.ready[2]] == [job.id]


def test_a_read_does_not_overtake_what_is_owed(desk, writer, outbox, disk, clock):
    """It would show as sending what is about to be ready, and nobody would correct it."""
    job = desk.sending()
    disk.fill()
    writer.submit(big(desk))
    writer.submit(desk.deferral(job))
    writer.submit(Refill("email", 2, None, 10))
    writer.run_once()
    assert len(outbox.done) == 1

    disk.free()
    clock.at += 1.0
    writer.run_once()

    assert [each.id for each in outbox.done[-1].result.jobs] == [job.id]


def test_a_read_of_another_lane_does_not_wait_for_what_is_owed(desk, writer, outbox, disk):
    """The writes of one lane change nothing in another, which may start meanwhile."""
    job, other = desk.sending(), desk.accepted(channel="sms")
    disk.fill()
    writer.submit(big(desk))
    writer.submit(desk.deferral(job))
    writer.submit(Load("sms", 10, desk.now, 10))

    writer.run_once()

    assert [ready.id for ready in outbox.done[-1].result.ready[2]] == [other.id]


def test_a_read_waits_for_a_sweep_that_is_owed(desk, writer, outbox, disk, clock):
    """A sweep concerns all lanes: none may take up a call that a dead process left."""
    job = desk.sending()
    disk.fill()
    writer.submit(big(desk))
    writer.submit(Sweep("", desk.now))
    writer.submit(Load("email", 10, desk.now, 10))
    writer.run_once()
    assert len(outbox.done) == 1

    disk.free()
    clock.at += 1.0
    writer.run_once()

    lane = outbox.done[-1].result
    assert (lane.sending, [ready.id for ready in lane.ready[2]]) == ([], [job.id])


def test_a_read_that_nobody_waits_for_any_more_is_dropped(desk, writer, outbox, disk, clock):
    """A lane that cannot load asks anew and anew: a long outage must not pile that up."""
    writer.submit(big(desk))
    disk.fill()
    writer.submit(Sweep("", desk.now))
    loads = [Load("email", 10, desk.now, 10, reply=Reply(1000.0)) for _ in range(3)]
    for load in loads:
        writer.submit(load)
    writer.run_once()
    assert writer.pending == 4

    for load in loads[:2]:
        load.reply.set_exception(StorageUnavailable("gave up"))
    clock.at += 1.0
    writer.run_once()

    assert writer.pending == 2


def test_a_read_goes_on_past_a_spoilt_row_while_the_disk_is_full(desk, writer, outbox, disk):
    """Ending it needs a write; the lane does not."""
    good, bad = desk.accepted(), desk.accepted()
    desk.execute("UPDATE jobs SET tried = '{' WHERE id = ?", bad.id)
    disk.fill()
    writer.submit(big(desk))
    writer.submit(Load("email", 10, desk.now, 10))

    writer.run_once()

    assert [ready.id for ready in outbox.done[-1].result.ready[2]] == [good.id]


def test_a_read_that_fails_while_the_disk_fails_says_why(desk, writer, outbox, disk):
    """A bug in a read is a bug, whatever the disk does: it is answered with its own error."""
    disk.fill()
    writer.submit(big(desk))
    writer.submit(Refill("email", object(), None, 10))

    writer.run_once()

    assert isinstance(outbox.done[-1].error, sqlite3.ProgrammingError)


def test_the_thread_tries_again_by_itself(desk, outbox, disk):
    """Nobody has to submit anything for what is owed to be written."""
    job = desk.sending()
    disk.fill()
    writer = make_writer(desk, outbox, retry_s=0.01)
    writer.submit(big(desk))
    writer.submit(desk.settlement(job))
    writer.start()
    outbox.wait_for(1)

    disk.free()
    done = outbox.wait_for(2)

    assert done[1].result is True
    assert writer.close(WAIT_S)
    assert outbox.states == [(False, "the disk is full"), (True, "")]


def test_closing_on_a_full_disk_says_that_not_all_is_durable(desk, writer, outbox, disk):
    """What is owed is tried once more; then the intent on the disk is what remains."""
    job = desk.sending()
    disk.fill()
    writer.submit(big(desk))
    writer.submit(desk.settlement(job))
    writer.run_once()

    assert writer.close(WAIT_S) is False
    assert isinstance(outbox.done[-1].error, StorageUnavailable)
    assert desk.job_row(job)["sending"] == "alpha"


class Broken:
    """A store whose every write fails with one SQLite error."""

    def __init__(self, error):
        self.error = error

    is_in_doubt = False

    def begin(self):
        raise self.error

    def apply_all(self, batch):
        raise AssertionError("not reached")

    def commit(self):
        raise AssertionError("not reached")

    def rollback(self):
        pass

    def probe(self):
        raise self.error


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full"),
        (sqlite3.SQLITE_IOERR_FSYNC, "I/O error"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "read-only"),
        (sqlite3.SQLITE_BUSY, "locked by another program"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened"),
        (sqlite3.SQLITE_NOMEM, "out of memory"),
        (sqlite3.SQLITE_CORRUPT, "damaged"),
    ],
)
def test_trouble_of_the_disk_is_a_state_and_not_a_bug(desk, outbox, code, reason):
    """Every error that the disk can cause refuses with a plain reason and keeps what is owed."""
    error = sqlite3.OperationalError("some words")
    error.sqlite_errorcode = code
    writer = Writer(
        Broken(error), on_done=outbox.hear_done, post=lambda n: n(), on_state=outbox.hear_state
    )
    job = desk.job()
    writer.submit(desk.acceptance(job))
    writer.submit(desk.settlement(job))

    writer.run_once()

    [(is_writable, told)] = outbox.states
    assert not is_writable and reason in told
    assert isinstance(outbox.done[0].error, StorageUnavailable)
    assert writer.pending == 1
