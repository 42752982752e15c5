"""Opening SQLite: the writing connection, reading ones, migrations, and what errors mean.

One connection writes and checkpoints, all others only read: SQLite before 3.51.3 can corrupt a
file in WAL mode when two connections write or checkpoint (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from alembic import command, util
from alembic.config import Config
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from clarion.errors import ClarionError, StorageUnavailable

BUSY_TIMEOUT_MS = 5_000
JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024
CACHED_STATEMENTS = 256

_FAILURES = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk does not read or write (I/O error)",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_BUSY: "the database is locked by another program",
    sqlite3.SQLITE_LOCKED: "the database is locked by another program",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_NOMEM: "SQLite is out of memory",
    sqlite3.SQLITE_PERM: "the database file may not be used (permissions)",
    sqlite3.SQLITE_PROTOCOL: "the database's locks cannot be taken",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
}
_PRIMARY_CODE = 0xFF


def storage_failure(error: BaseException) -> str | None:
    """Return the plain reason if `error` is trouble of the disk, None if it is anything else."""
    if isinstance(error, MemoryError):
        return _FAILURES[sqlite3.SQLITE_NOMEM]
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _FAILURES.get(code & _PRIMARY_CODE)


def connect_writer(path: Path) -> sqlite3.Connection:
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


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that can only read, and never checkpoints."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def migrate(path: Path) -> None:
    """Bring the schema up to date, all steps in one transaction.

    Raises ClarionError when a newer Clarion wrote the database, StorageUnavailable on disk
    trouble.
    """
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin_at_once)
    config = Config()
    config.set_main_option("script_location", "clarion.storage:migrations")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except util.CommandError as error:
        raise ClarionError(
            f"the database {path} was written by a newer version of Clarion ({error});"
            " upgrade Clarion, or use a copy of the older database"
        ) from error
    except DBAPIError as error:
        reason = storage_failure(error.orig or error) or str(error.orig)
        raise StorageUnavailable(f"cannot migrate the database {path}: {reason}") from error
    finally:
        engine.dispose()


def _leave_transactions_to_us(raw: sqlite3.Connection, _record: object) -> None:
    # The driver would commit before some statements of a migration.
    raw.isolation_level = None
    raw.execute("PRAGMA synchronous = FULL")


def _begin_at_once(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
