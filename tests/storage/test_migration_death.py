"""A process that is killed while it migrates leaves the old schema or the new one, never half."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from alembic import command

from clarion.storage.sqlite import migrate
from clarion.storage.sqlite_store import SqliteStore

OLDEST = "0001"
MIGRATE_AND_DIE = """
import signal, sys
from clarion.testing.dying_server import DyingStore, Fuse
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
DyingStore(sys.argv[1], Fuse(sys.argv[2], int(sys.argv[3]))).open()
"""


@pytest.fixture
def oldest(path, monkeypatch):
    """A file of the first version, with something in it."""
    upgrade = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, OLDEST))
        migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO counts VALUES ('local', 'email', 'accepted', 7)")
        connection.commit()
    return path


@pytest.mark.parametrize(
    ("point", "passage"),
    [
        *(("migration.inside", n) for n in (1, 4, 8)),
        ("migration.before", 1),
        ("migration.during", 1),
        ("migration.after", 1),
    ],
)
def test_a_killed_migration_is_made_by_the_next_start(oldest, tmp_path, point, passage):
    """All steps are one transaction; what was in the file is still there."""
    old = _schema(oldest)
    migrated = tmp_path / "new.db"
    migrate(migrated)

    died = subprocess.run(
        [sys.executable, "-c", MIGRATE_AND_DIE, str(oldest), point, str(passage)],
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert died.returncode in (-signal.SIGKILL, -signal.SIGXFSZ), died.stderr
    new = _schema(migrated)
    assert old != new
    assert _schema(oldest) == (new if point == "migration.after" else old)
    store = SqliteStore(str(oldest))
    store.open()
    rows = store.connection.execute("SELECT n FROM counts").fetchall()
    store.close()
    assert rows == [(7,)]
    assert _schema(oldest) == new


def _schema(path):
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))
