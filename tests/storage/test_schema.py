"""The migrations lead to the schema that the statements are built from."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlalchemy import create_engine

from clarion.storage.schema import metadata
from clarion.storage.sqlite import migrate


def test_the_migrations_lead_to_the_metadata(path, tmp_path):
    """Table by table and index by index, to the letter."""
    created = tmp_path / "created.db"
    engine = create_engine(f"sqlite:///{created}")
    metadata.create_all(engine)
    engine.dispose()

    migrate(path)

    assert _schema(path) == _schema(created)


def test_migrating_twice_changes_nothing(path):
    """Every open migrates; almost always there is nothing to do."""
    migrate(path)
    before = _schema(path)

    migrate(path)

    assert _schema(path) == before


def test_every_table_is_strict(path):
    """A wrong type is refused when it is written, not found when it is read."""
    migrate(path)

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, strict FROM pragma_table_list").fetchall()

    strict = {name for name, is_strict in rows if is_strict}
    assert strict == set(metadata.tables)


def _schema(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
    return {name: " ".join(sql.split()) for name, sql in rows if sql and "alembic" not in name}
