"""The store of a simulation: a real SQLite file on a disk that may fail, where a process may die.

What a power cut does is not simulated, so nothing waits for an fsync.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from clarion.storage import command
from clarion.storage.sqlite import connect_writer, migrate
from clarion.storage.sqlite_store import SqliteStore
from clarion.testing.witness import Witness

BETWEEN_COMMANDS = "between the commands of a batch"
BEFORE_COMMIT = "before a commit"
AFTER_COMMIT = "after a commit"

_ONLY_READS = (command.Load, command.Refill, command.LoadTimers)


@dataclass(slots=True)
class Disk:
    """The disk under the database."""

    error_code: int | None = None
    """An SQLite error code that every write fails with; None while it works."""

    def check(self, *, is_write: bool = True) -> None:
        """Raise what the disk has to say; a full one can be read."""
        if self.error_code is not None and (is_write or self.error_code == sqlite3.SQLITE_IOERR):
            error = sqlite3.OperationalError("the simulated disk fails")
            error.sqlite_errorcode = self.error_code
            raise error


class World(Protocol):
    """What surrounds the store."""

    disk: Disk
    witness: Witness

    def note(self, event: str) -> None:
        """Write a line of the trace."""

    def kill_point(self, where: str) -> None:
        """Die here if that was planned."""


class SimulatedStore(SqliteStore):
    """A real SQLite file without fsyncs, on a disk that may fail, with kill points at commits."""

    def __init__(self, url: str, *, now: Callable[[], float], world: World) -> None:
        super().__init__(url.removeprefix("sqlite:///"), now=now)
        self._world = world
        self._batch: list[str] = []

    def open(self) -> None:
        """Open the file; a new one begins with the schema, which is made once per process."""
        if not self.path.exists():
            self.path.write_bytes(_empty_database())
        super().open()
        self.connection.execute("PRAGMA synchronous = OFF")
        self._world.witness.watch(self.connection)

    def begin(self) -> None:
        """Begin a transaction, unless the disk fails."""
        self._world.disk.check()
        self._batch.clear()
        self._world.witness.begun()
        super().begin()

    def apply(self, each: command.Command) -> Any:
        """Carry out a command; the disk may fail at any of them."""
        self._world.disk.check(is_write=not isinstance(each, _ONLY_READS))
        if self._batch:
            self._world.kill_point(BETWEEN_COMMANDS)
        self._batch.append(type(each).__name__)
        return super().apply(each)

    def commit(self) -> None:
        """Commit, unless the process dies before; it may die after, too."""
        self._world.disk.check()
        self._world.kill_point(BEFORE_COMMIT)
        super().commit()
        self._world.note(f"commit {' '.join(self._batch)}")
        self._world.witness.committed(self.connection)
        self._world.kill_point(AFTER_COMMIT)

    def probe(self) -> None:
        """Try to write, unless the disk fails."""
        self._world.disk.check()
        super().probe()


@cache
def _empty_database() -> bytes:
    """Return a database file of the present schema, as `open` makes it."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "empty.db"
        connection = connect_writer(path)
        migrate(path)
        connection.close()
        return path.read_bytes()
