"""Opening SQLite: the writing connection, reading ones, migrations.

One connection writes and checkpoints, all others only read: SQLite before 3.51.3 can corrupt a
file in WAL mode when two connections write or checkpoint (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.pool import NullPool

from clarion.errors import StorageUnavailable
from clarion.storage import migration
from clarion.storage.database import Row
from clarion.storage.failure import storage_failure
from clarion.storage.statement import Statement

BUSY_TIMEOUT_MS = 5_000
JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024
CACHED_STATEMENTS = 256


class SqliteConnection(sqlite3.Connection):
    """A connection that takes our statements, too."""

    def run(self, statement: Statement, values: Sequence[Any] = (), /) -> sqlite3.Cursor:
        """Carry out a statement with its values."""
        return self.execute(statement.sqlite, values)

    def run_many(self, statement: Statement, rows: Iterable[Sequence[Any]], /) -> None:
        """Carry out a statement once for each row of values."""
        self.executemany(statement.sqlite, rows)

    def fetch(self, statement: Statement, values: Sequence[Any] = (), /) -> list[Row]:
        """Return all rows, even where a text is no UTF-8 (decoding it fails later)."""
        try:
            return self.execute(statement.sqlite, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        # One spoilt text would otherwise hide every row of the answer.
        self.text_factory = _decode_leniently
        try:
            return self.execute(statement.sqlite, values).fetchall()
        finally:
            self.text_factory = str


def _decode_leniently(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def connect_writer(path: Path) -> SqliteConnection:
    """Open the one connection that writes; transactions are begun and ended by hand.

    Raises StorageUnavailable where the file cannot be opened or is no database.
    """
    with ExitStack() as stack:
        try:
            connection = sqlite3.connect(
                path,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=CACHED_STATEMENTS,
                factory=SqliteConnection,
            )
            stack.callback(connection.close)
            mode = _configure_writer(connection)
        except sqlite3.Error as error:
            reason = storage_failure(error) or str(error)
            raise StorageUnavailable(f"cannot use the database {path}: {reason}") from error
        if mode != "wal":
            raise StorageUnavailable(
                f"cannot use the database {path}: its file system offers no write-ahead log"
                f" (SQLite chose {mode!r}); put it on a local disk"
            )
        stack.pop_all()
    return connection


def _configure_writer(connection: sqlite3.Connection) -> str:
    """Set what durability asks for and return the journal mode that SQLite granted."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    # Has no effect once tables exist, and has to come before WAL.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode: str
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    # FULL fsyncs at each commit; NORMAL would lose acknowledged commits in a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")
    connection.execute("PRAGMA foreign_keys = OFF")
    # A statement of many rows notes how to undo itself, by default in a file of its own.
    connection.execute("PRAGMA temp_store = MEMORY")
    # With mmap an I/O error would be a SIGBUS, the death of the process.
    connection.execute("PRAGMA mmap_size = 0")
    return mode


def connect_reader(path: Path) -> SqliteConnection:
    """Open a connection that can only read, and never checkpoints."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
        factory=SqliteConnection,
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def migrate(path: Path) -> None:
    """Bring the schema up to date, all steps in one transaction; see `migration.migrate`."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin_at_once)
    try:
        migration.migrate(engine, str(path))
    finally:
        engine.dispose()


def _leave_transactions_to_us(raw: sqlite3.Connection, _record: object) -> None:
    # The driver would commit before some statements of a migration.
    raw.isolation_level = None
    raw.execute("PRAGMA synchronous = FULL")


def _begin_at_once(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
