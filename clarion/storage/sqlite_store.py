"""The store in one SQLite file, which one process owns."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clarion.errors import StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage.lock import FileLock
from clarion.storage.sqlite import SqliteConnection, connect_writer, migrate
from clarion.storage.store import Store

_CLOCK = SystemClock()


class SqliteStore(Store):
    """One database file and its writing connection."""

    def __init__(
        self, path: str, *, node: str = "local", now: Callable[[], float] = _CLOCK.now
    ) -> None:
        super().__init__(node=node, now=now)
        self.path = Path(path).absolute()
        # SQLite follows links to the file: however it is named, there is one lock.
        database = self.path.resolve()
        self._lock = FileLock(database.with_name(database.name + ".lock"))
        self._connection: SqliteConnection | None = None

    def open(self) -> None:
        """Lock the file, bring its schema up to date, and connect; see `Store`.

        A file that is not there is created.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise StorageUnavailable(f"cannot use {self.path}: {error.strerror}") from error
        try:
            self._connection = connect_writer(self.path)
            migrate(self.path)
        except BaseException:
            self.close()
            raise
        self.use(self._connection)

    def close(self) -> None:
        """Close the connection, which moves the journal into the file, and free the lock."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._transaction = None
        self._lock.release()

    @property
    def connection(self) -> SqliteConnection:
        """The writing connection; the store has to be open."""
        assert self._connection is not None, "the store is not open"
        return self._connection

    def begin(self) -> None:
        """Begin a transaction that may write at once, so that no later step meets a lock."""
        if self.connection.in_transaction:
            # Its rollback failed on a disk that failed: until it is gone nothing can begin.
            self.connection.execute("ROLLBACK")
            self.transaction.forget()
        self.connection.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        """Begin a transaction that a read-only file system does not refuse."""
        self.connection.execute("BEGIN")

    def end(self) -> None:
        """Commit."""
        self.connection.execute("COMMIT")

    def undo(self) -> None:
        """Roll back, where SQLite has not done so by itself."""
        # A disk that fails may fail here too; `begin` tries again.
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def probe(self) -> None:
        """Try whether the disk takes a write of some size; raises sqlite3.Error if not."""
        self.begin()
        try:
            self.connection.execute("CREATE TABLE probe (filler BLOB) STRICT")
            self.connection.execute("INSERT INTO probe VALUES (zeroblob(65536))")
            self.connection.execute("DROP TABLE probe")
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.rollback()
            raise
