"""Opening: one owner, the present schema, and plain words when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from clarion.errors import ClarionError, SettingsError, StorageUnavailable, StoreLocked
from clarion.storage.backend import open_store
from clarion.storage.lock import FileLock
from clarion.storage.sqlite import connect_writer
from clarion.storage.sqlite_store import SqliteStore


@pytest.fixture
def backend():
    """This is about SQLite alone."""
    return "sqlite"


OPEN_IT = """
import sys
from clarion.errors import StoreLocked
from clarion.storage.sqlite_store import SqliteStore
store = SqliteStore(sys.argv[1])
try:
    store.open()
except StoreLocked as error:
    print("refused:", error)
"""


def test_a_second_process_is_refused_in_plain_words(desk, path):
    """It says which file, who has it, and what to do."""
    result = subprocess.run(
        [sys.executable, "-c", OPEN_IT, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.stdout.startswith(f"refused: the database {path} is in use by process")
    assert str(os.getpid()) in result.stdout
    assert "storage.url" in result.stdout


def test_a_second_store_in_the_same_process_is_refused_too(desk, path):
    """Two engines on one file would each count on being alone."""
    with pytest.raises(StoreLocked):
        SqliteStore(str(path)).open()


def test_a_link_to_the_file_is_no_way_around_the_lock(desk, path, tmp_path):
    """SQLite follows the link to the same file, so the lock has to be the same as well."""
    link = tmp_path / "elsewhere" / "other.db"
    link.parent.mkdir()
    link.symlink_to(path)

    with pytest.raises(StoreLocked):
        SqliteStore(str(link)).open()


def test_a_place_without_a_write_ahead_log_is_refused():
    """Without one, a commit would be less durable, and readers would stop the writer."""
    with pytest.raises(StorageUnavailable, match="write-ahead log"):
        connect_writer(Path(":memory:"))


def test_a_transaction_left_open_does_not_stop_the_next_one(desk):
    """A rollback may fail on a failing disk; it is made up for once the disk is back."""
    desk.store.begin()
    desk.store.apply(desk.acceptance(desk.job()))

    job = desk.accepted()

    assert [row["id"] for row in desk.rows("SELECT id FROM jobs")] == [job.id]


def test_a_closed_store_can_be_opened_again(desk, open_desk):
    """The lock goes with its owner; what was written stays."""
    job = desk.accepted()
    desk.store.close()

    assert open_desk().job_row(job) is not None


def test_a_lock_that_was_refused_takes_nothing_away(tmp_path):
    """The failed try does not free the lock of the owner."""
    owner, other = FileLock(tmp_path / "x.lock"), FileLock(tmp_path / "x.lock")
    owner.acquire()

    for _ in range(2):
        with pytest.raises(StoreLocked):
            other.acquire()
    owner.release()
    other.acquire()
    other.release()


def test_the_connection_is_as_durable_as_promised(desk):
    """WAL, an fsync at every commit, no mmap, and a wait for other programs."""
    pragmas = {
        name: desk.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "mmap_size", "busy_timeout", "foreign_keys")
    }

    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "mmap_size": 0,
        "busy_timeout": 5000,
        "foreign_keys": 0,
    }


def test_a_file_that_is_no_database_is_refused_in_plain_words(path):
    """And the lock is free again."""
    path.write_bytes(b"this is a letter, not a database" * 100)

    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="not an SQLite database"):
            SqliteStore(str(path)).open()


def test_a_place_that_cannot_be_used_is_refused_in_plain_words(tmp_path):
    """A directory where the file should be, or a file where the directory should be."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageUnavailable, match="cannot use"):
        SqliteStore(str(tmp_path / "file" / "clarion.db")).open()


def test_a_database_of_a_newer_clarion_is_refused(desk, path):
    """Going on would spoil what this version does not understand."""
    desk.execute("UPDATE alembic_version SET version_num = '9999'")
    desk.store.close()

    with pytest.raises(ClarionError, match="newer version"):
        SqliteStore(str(path)).open()


@pytest.mark.parametrize("url", ["sqlite:///a.db", "sqlite:////tmp/a.db"])
def test_a_url_names_a_relative_or_an_absolute_file(url, tmp_path, monkeypatch):
    """Three slashes and a relative path, or four and an absolute one."""
    monkeypatch.chdir(tmp_path)

    store = open_store(url)

    expected = tmp_path / "a.db" if url.count("/") == 3 else "/tmp/a.db"
    assert str(store.path) == str(expected)


@pytest.mark.parametrize("url", ["", "clarion.db", "sqlite://", "sqlite:///", "mysql://x/y"])
def test_other_urls_are_a_fault_of_the_settings(url):
    """The fault says which key, and what to write instead."""
    with pytest.raises(SettingsError, match=r"sqlite:///clarion\.db") as caught:
        open_store(url)

    assert caught.value.faults[0].pointer == "storage.url"


def test_closing_leaves_one_file_with_everything_in_it(desk, path):
    """After a clean stop the journal is inside: the file can be copied as it is."""
    desk.accepted()

    desk.store.close()

    assert not path.with_name("clarion.db-wal").exists()


def test_a_path_with_special_characters_can_be_read(tmp_path):
    """`?`, `#` and `%` have a meaning in the URIs that readers are opened by."""
    from clarion.storage.sqlite import connect_reader

    store = SqliteStore(str(tmp_path / "a?b#c%20.db"))
    store.open()

    with closing(connect_reader(store.path)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    store.close()
