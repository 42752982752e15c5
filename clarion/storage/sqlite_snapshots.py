"""Reading from an SQLite file: a connection for each thread that asks."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clarion.errors import StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage.failure import storage_failure, too_slow
from clarion.storage.sqlite import SqliteConnection, connect_reader

_CLOCK = SystemClock()
_STEPS_BETWEEN_CHECKS = 10_000


class SqliteSnapshots:
    """Short transactions that only read; see `reader.Snapshots`."""

    threads = 3
    is_server = False

    def __init__(
        self, path: str | Path, *, monotonic: Callable[[], float] = _CLOCK.monotonic
    ) -> None:
        self._path = Path(path).absolute()
        self._monotonic = monotonic
        self._local = threading.local()
        self._connections: list[SqliteConnection] = []

    @contextmanager
    def snapshot(self, timeout_s: float) -> Iterator[SqliteConnection]:
        """Give a connection in a transaction of its own, for `timeout_s` seconds at most."""
        deadline_at = self._monotonic() + timeout_s
        try:
            connection = self._connect()
            connection.set_progress_handler(
                lambda: self._monotonic() > deadline_at, _STEPS_BETWEEN_CHECKS
            )
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                # Some errors end the transaction by themselves.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            raise StorageUnavailable(_why(error, timeout_s)) from error

    def _connect(self) -> SqliteConnection:
        connection: SqliteConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect_reader(self._path)
            self._connections.append(connection)
        return connection

    def state(self) -> None:
        """Say that there is no pool."""

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()


def _why(error: sqlite3.DatabaseError, timeout_s: float) -> str:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        return too_slow(timeout_s)
    return f"the store cannot be read: {storage_failure(error) or error}"
