"""What SQLite asks of those who use it, and what others lost by doing otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from clarion.app import running
from clarion.cli.check import examine
from clarion.domain.notification import Status
from clarion.settings import load
from clarion.storage.lock import FileLock
from clarion.storage.reader import Reader
from clarion.storage.sqlite_snapshots import SqliteSnapshots
from clarion.testing import settings_toml


@pytest.fixture
def backend():
    """This is about SQLite alone."""
    return "sqlite"


_OPENED: list[str] | None = None


def _note_opening(event, arguments):
    if event == "open" and _OPENED is not None:
        _OPENED.append(str(arguments[0]))


@pytest.fixture
def opened():
    """The names of all files that Python opens; SQLite opens its own by itself."""
    global _OPENED  # noqa: PLW0603 - a hook cannot be taken away again
    sys.addaudithook(_note_opening)
    _OPENED = []
    yield _OPENED
    _OPENED = None


async def test_nobody_but_sqlite_opens_its_files(tmp_path, opened):
    """To close any descriptor of them would drop the locks that SQLite holds in this process."""
    settings = load(
        settings_toml(
            tmp_path / "settings.toml",
            providers={"out": {"kind": "outbox"}},
            channels={"email": ["out"]},
        ),
        env={},
    )

    async with running(settings) as engine:
        service = engine.service
        receipt = await service.send(channel="email", to="ada@example.com", text="Hello")
        await receipt.settled(timeout=10)
        await service.get(receipt.id)
        await service.stats()
        await examine(settings, with_recount=True)
        has_log = (tmp_path / "clarion.db-wal").exists()

    ours = {Path(name).name for name in opened if "clarion.db" in name}
    assert has_log
    assert ours == {"clarion.db.lock"}


async def test_a_reader_between_two_reads_holds_up_no_checkpoint(desk, path):
    """A read that is left open would let the log grow without end."""
    reader = Reader(SqliteSnapshots(path))
    for _ in range(5):
        job = desk.accepted()
        await reader.get(job.id)
        await reader.stats()

    busy, frames, moved = desk.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert (busy, frames, moved) == (0, 0, 0)
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    reader.close()


async def test_the_log_stays_small_while_everybody_reads(desk, path):
    """It is begun anew again and again, so it does not grow with what was ever written."""
    reader = Reader(SqliteSnapshots(path))
    log = path.with_name(path.name + "-wal")
    sizes = []
    for _ in range(60):
        jobs = [desk.job(metadata={"filler": "x" * 4000}) for _ in range(40)]
        desk.run(desk.acceptance(*jobs))
        await reader.get(jobs[0].id)
        sizes.append(log.stat().st_size)
    reader.close()

    written = 60 * 40 * 4000
    assert written > 9_000_000
    assert max(sizes) < written / 1.5


async def test_a_reader_never_moves_the_log_into_the_file(desk, path):
    """Two that do so at once can damage the file before SQLite 3.51.3; nor does the last one."""
    job = desk.accepted()
    before = path.stat()

    reader = Reader(SqliteSnapshots(path))
    await reader.get(job.id)
    reader.close()

    after = path.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert desk.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1] > 0


def test_a_transaction_takes_the_lock_at_its_beginning(desk):
    """One that first reads and then writes is refused at once, whatever the wait for a lock."""
    statements = []
    desk.connection.set_trace_callback(statements.append)
    desk.accept(desk.job())

    begins = [each for each in statements if each.startswith("BEGIN")]
    assert begins == ["BEGIN IMMEDIATE"]


def test_a_lock_is_free_whoever_has_the_number_of_the_dead_now(tmp_path):
    """The kernel frees it; the number in the file is for people, and is given out again."""
    path = tmp_path / "clarion.db.lock"
    path.write_text(f"{os.getppid()}\n")
    lock = FileLock(path)

    lock.acquire()

    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


async def test_reading_goes_on_while_the_disk_is_full(desk, path):
    """A new reader, too: it needs nothing to be written."""
    job = desk.accepted()
    [(pages,)] = desk.connection.execute("PRAGMA page_count")
    desk.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Exception, match="full"):
        desk.accepted(metadata={"filler": "x" * 50_000})

    reader = Reader(SqliteSnapshots(path))
    assert (await reader.get(job.id)).status is Status.QUEUED
    found, _ = await reader.find(status="queued")
    assert [each.id for each in found] == [job.id]
    reader.close()
