"""A power cut: whatever part of the last writes reached the disk, what was fsynced is there.

A real engine runs under load, and its store notes how long the write-ahead log was after each
fsync, with what that commit held. Then the log is cut, torn and overwritten in every way in which
a disk can leave it, and opened again: exactly the commits before the cut are there.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass, field

import pytest

from clarion.app import Surroundings, running
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import Conflict
from clarion.settings import load
from clarion.storage.backend import open_store
from clarion.storage.command import Accept, AcceptedRow, Load, Sweep
from clarion.storage.recount import recount
from clarion.storage.sqlite import SqliteConnection
from clarion.storage.sqlite_store import SqliteStore
from clarion.testing import ScriptedProvider, settings_toml

HEADER = 32
FRAME = 24 + 4096
SECTOR = 512
SEED = 20_26
WAVES = 30
FAR_S = 4e9
"""Later than anything that was due."""
ANSWERS = [
    Answer(Outcome.ACCEPTED, "accepted", ""),
    Answer(Outcome.ACCEPTED, "accepted", ""),
    Answer(Outcome.TRANSIENT, "http_503", "", surely_not_accepted=True),
    Answer(Outcome.PERMANENT, "http_400", "", surely_not_accepted=True),
    Answer(Outcome.UNKNOWN, "timeout", ""),
]


@dataclass(frozen=True)
class Commit:
    """One fsynced transaction: where the log ended after it, and what it accepted."""

    end: int
    accepted: tuple[str, ...]


class NotingStore(SqliteStore):
    """Notes every commit. The log is never moved into the file, so that nothing else is there."""

    def open(self):
        super().open()
        self.connection.execute("PRAGMA wal_autocheckpoint = 0")
        self.commits = []
        self._accepted = []

    def begin(self):
        self._accepted = []
        super().begin()

    def apply(self, each):
        result = super().apply(each)
        if isinstance(each, Accept):
            self._accepted += [row.job.id for row in result if isinstance(row, AcceptedRow)]
        return result

    def commit(self):
        super().commit()
        # Only asked for its size: to open and close it would drop SQLite's locks.
        log = self.path.with_name(self.path.name + "-wal")
        self.commits.append(Commit(log.stat().st_size, tuple(self._accepted)))


@dataclass
class Record:
    """The files of a database under load, and every commit in them."""

    file: bytes
    log: bytes
    commits: list[Commit]
    acknowledged: set[str] = field(default_factory=set)

    def kept(self, n):
        """Return what the commits that end within the first `n` bytes of the log accepted."""
        return {id for each in self.commits if each.end <= n for id in each.accepted}

    @property
    def ends(self):
        return [each.end for each in self.commits]


class Disk:
    """Where a database stands up again from whatever bytes there are."""

    def __init__(self, directory):
        self.path = directory / "clarion.db"

    def lay(self, file, log, index=None):
        for name in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + name).unlink(missing_ok=True)
        self.path.write_bytes(file)
        self.path.with_name("clarion.db-wal").write_bytes(log)
        if index is not None:
            self.path.with_name("clarion.db-shm").write_bytes(index)

    def look(self):
        """Open it as any SQLite does, and return the ids that are there."""
        # Reading only, since to close it would move the log into the file: that takes long.
        uri = f"file:{self.path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, factory=SqliteConnection)) as connection:
            return _examine(connection)

    def start(self):
        """Start on it as a process does: migrate, sweep, load the lane; return the ids."""
        store = SqliteStore(str(self.path), now=lambda: FAR_S)
        store.open()
        try:
            ids = _examine(store.connection)
            store.begin()
            store.apply(Sweep("", FAR_S))
            lane = store.apply(Load("email", 1000, 2 * FAR_S, 1000))
            store.commit()
            assert lane.sending == []
            assert _examine(store.connection) == ids
        finally:
            store.close()
        return ids


def _examine(connection):
    [(verdict,)] = connection.execute("PRAGMA integrity_check")
    assert verdict == "ok"
    found = connection.execute("SELECT name FROM sqlite_master WHERE name = 'jobs'").fetchone()
    if found is None:
        return set()
    assert recount(connection) == []
    keys = connection.execute(
        "SELECT count(*) FROM idempotency WHERE notification_id NOT IN"
        " (SELECT id FROM notifications)"
    )
    assert keys.fetchone() == (0,)
    return {id for (id,) in connection.execute("SELECT id FROM notifications")}


def copied(path):
    """Return the bytes of a file that this process has open in SQLite, and must not open itself."""
    return subprocess.run(["cat", str(path)], capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A few hundred commits of every kind, copied while calls are in flight."""
    return asyncio.run(_under_load(tmp_path_factory.mktemp("load")))


async def _under_load(directory):
    rng = random.Random(SEED)
    settings = settings_toml(
        directory / "settings.toml",
        providers={"one": {"kind": "outbox", "breaker": {"failure_threshold": 1000}}},
        channels={"email": ["one"]},
        retry={"initial_delay": 0.01, "max_delay": 0.05, "max_attempts": 3},
        defaults={"unknown_grace": 0.01},
    )
    stores = []

    def open_noting(url, *, now, **_of_a_server):
        stores.append(NotingStore(str(open_store(url, now=now).path), now=now))
        return stores[0]

    provider = ScriptedProvider(lambda _: rng.choice(ANSWERS))
    around = Surroundings(
        open_store=open_noting, adapters={"one": lambda: provider}, is_loop_watched=False
    )
    async with running(load(settings, env={}), around) as engine:
        acknowledged = set()
        for wave in range(WAVES):
            if wave == WAVES - 5:
                provider.hold()
            sends = [_send(engine.service, rng, f"{wave}.{n}") for n in range(4)]
            acknowledged.update(*await asyncio.gather(*sends))
        await provider.wait_for(lambda: provider.in_flight > 5)
        (store,) = stores
        path = store.path
        commits = list(store.commits)
        found = Record(
            copied(path), copied(path.with_name("clarion.db-wal")), commits, acknowledged
        )
        provider.release()
    return found


async def _send(service, rng, number):
    fields = {
        "channel": "email", "to": "ada@example.com", "text": "x" * rng.choice([5] * 5 + [9000]),
        "delivery": rng.choice(["at_least_once", "at_most_once"]),
    }  # fmt: skip
    if rng.random() < 0.2:
        made = await service.submit_many([fields, fields, fields])
        return [each.id for each in made]
    one = await service.submit(fields, idempotency_key=number)
    if rng.random() < 0.1:
        with suppress(Conflict):  # It may be sent already.
            await service.cancel(one.id)
    return [one.id]


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


def test_the_log_was_recorded_under_load(record):
    """Else the tests below would show nothing: every kind of commit, all of it acknowledged."""
    assert len(record.commits) > WAVES
    assert len(record.log) > 10 * WAVES * FRAME
    assert len(record.acknowledged) > 3 * WAVES
    assert record.acknowledged == record.kept(len(record.log))
    assert all((end - HEADER) % FRAME == 0 for end in record.ends if end)


def test_a_log_cut_at_any_frame_holds_the_commits_before_it(record, disk):
    """Exactly those: nothing that was fsynced is lost, and no transaction is there by halves."""
    for cut in range(HEADER, len(record.log) + 1, FRAME):
        disk.lay(record.file, record.log[:cut])

        assert disk.look() == record.kept(cut), f"cut at {cut}"


def test_a_log_cut_inside_any_frame_holds_the_commits_before_it(record, disk):
    """In the frame's header, in its page, before its last byte; and in the log's own header."""
    rng = random.Random(SEED)
    for start in range(HEADER, len(record.log) - FRAME, FRAME):
        cut = start + rng.choice([1, 8, 23, 24, 25, 24 + SECTOR, FRAME - 1])
        disk.lay(record.file, record.log[:cut])

        assert disk.look() == record.kept(cut), f"cut at {cut}"
    for cut in (0, 1, HEADER - 1):
        disk.lay(record.file, record.log[:cut])
        assert disk.look() == set()


def test_a_process_starts_on_a_log_cut_anywhere(record, disk):
    """It migrates what is not there yet, sweeps what was in flight, and loads its lane."""
    rng = random.Random(SEED)
    for cut in sorted(rng.sample(range(len(record.log)), 40)):
        disk.lay(record.file, record.log[:cut])

        assert disk.start() == record.kept(cut), f"cut at {cut}"


@pytest.mark.parametrize("filling", ["zeros", "noise", "flips"])
def test_what_was_fsynced_outlives_any_mix_of_what_was_not(record, disk, filling):
    """Sectors of the next commit reach the disk in any order, or hold anything at all."""
    rng = random.Random(f"{SEED} {filling}")
    for before, after in zip(record.ends, record.ends[1:], strict=False):
        log = bytearray(record.log[:after])
        torn = 0
        for at in range(before, after, SECTOR):
            if rng.random() < 0.3 or (not torn and at + SECTOR >= after):
                _spoil(log, at, min(at + SECTOR, after), filling, rng)
                torn += log != record.log[:after]
        disk.lay(record.file, bytes(log))

        found = disk.look()
        assert found >= record.kept(before)
        assert found == (record.kept(before) if torn else record.kept(after))


def _spoil(log, start, end, filling, rng):
    match filling:
        case "zeros":
            log[start:end] = bytes(end - start)
        case "noise":
            log[start:end] = rng.randbytes(end - start)
        case _:
            log[rng.randrange(start, end)] ^= 1 << rng.randrange(8)


@pytest.mark.parametrize("index", ["none", "noise", "of another log"])
def test_the_index_of_the_log_is_never_trusted(record, disk, index):
    """It lives in memory: after a power cut it is not there, or not of this log."""
    other = None
    if index == "noise":
        other = random.Random(SEED).randbytes(32_768)
    elif index == "of another log":
        disk.lay(record.file, record.log[: record.ends[3]])
        with closing(sqlite3.connect(disk.path, factory=SqliteConnection)) as connection:
            connection.execute("SELECT count(*) FROM jobs").fetchone()
            other = copied(disk.path.with_name("clarion.db-shm"))

    disk.lay(record.file, record.log, other)

    assert disk.start() == record.acknowledged


# --- while the log is moved into the file ------------------------------------------------------


@pytest.fixture
def checkpointed(record, disk):
    """The file after all of the log was moved into it, and a log that was then begun anew."""
    disk.lay(record.file, record.log)
    store = NotingStore(str(disk.path), now=lambda: FAR_S)
    store.open()
    try:
        busy, frames, moved = store.connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        assert (busy, frames) == (0, moved)
        file = copied(disk.path)
        assert len(file) > len(record.file)
        store.begin()
        store.apply(Sweep("", FAR_S))
        store.commit()
        log = copied(disk.path.with_name("clarion.db-wal"))
    finally:
        store.close()
    assert log[:HEADER] != record.log[:HEADER]
    return file, log


def test_a_file_into_which_half_of_the_log_was_moved_is_whole_with_the_log(
    record, disk, checkpointed
):
    """Its pages reach the disk in any order, each of them old, new or torn."""
    after, _ = checkpointed
    rng = random.Random(SEED)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        for _ in range(6):
            file = bytearray(record.file.ljust(len(after), b"\0"))
            for at in range(0, len(after), SECTOR):
                if rng.random() < share:
                    file[at : at + SECTOR] = after[at : at + SECTOR]
            disk.lay(bytes(file), record.log)

            assert disk.start() == record.acknowledged


def test_a_log_that_is_begun_anew_over_the_old_one_is_cut_anywhere(record, disk, checkpointed):
    """The old frames behind the new ones belong to the file already, and are not read again."""
    file, new = checkpointed
    rng = random.Random(SEED)
    cuts = [*range(HEADER + 1), *(rng.randrange(HEADER, len(new)) for _ in range(40))]
    for cut in cuts:
        disk.lay(file, new[:cut] + record.log[cut:])

        assert disk.look() == record.acknowledged, f"cut at {cut}"


def test_the_oracle_sees_a_commit_that_was_not_on_the_disk(record, disk):
    """The same comparison fails for a log that is one commit shorter than what was fsynced."""
    (*_, before, last) = [each for each in record.commits if each.accepted]
    disk.lay(record.file, record.log[: last.end - FRAME])

    assert disk.look() == record.kept(before.end) != record.kept(last.end)
