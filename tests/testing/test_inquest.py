"""The look at what a dead process left."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from clarion.storage.sqlite import migrate
from clarion.testing.inquest import Corpse, examine


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "clarion.db"
    migrate(path)
    return path


def write(database, *statements):
    """Write as one who dies: the log is not brought into the file."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    return closing(connection)


def test_where_nobody_lived_nothing_is_found(tmp_path):
    assert examine(tmp_path / "clarion.db") == Corpse()


def test_what_lies_in_the_log_alone_is_found(database):
    """And twice the same: to look changes nothing."""
    insert = "INSERT INTO counts VALUES ('local', 'email', 'accepted', 7)"
    with write(database, insert):
        first, second = examine(database), examine(database)

    assert first == second
    assert len(first.broken) == 1
    assert "accepted" in first.broken[0]
    assert "7" in first.broken[0]


def test_damage_is_told(database):
    """A page that belongs to nothing, as a torn write may leave it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("CREATE INDEX i ON t (a)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'i'")
        connection.commit()

    assert any("never used" in words for words in examine(database).broken)
