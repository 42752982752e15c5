"""The SQLite store: opens the file, holds the one writing transaction, applies commands to it.

What a command does stands in `acceptance`, `delivery`, `ending`, `receipt`, `redrive`,
`dead_letter`, `lane`, `purge` and `sweep`; when a transaction begins and ends is the business of
`writer`, which also owns the thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from clarion.errors import Fault, SettingsError, StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage import (
    acceptance,
    command,
    dead_letter,
    delivery,
    ending,
    lane,
    purge,
    receipt,
    redrive,
    redrive_command,
    sweep,
)
from clarion.storage.connection import connect_writer, migrate, storage_failure
from clarion.storage.lock import FileLock
from clarion.storage.schema import controls
from clarion.storage.statement import replace_row
from clarion.storage.transaction import Transaction

SET_CONTROL = replace_row(controls)

_PREFIX = "sqlite:///"
_CLOCK = SystemClock()


def set_control(tx: Transaction, control: command.SetControl) -> None:
    """Remember an operator's decision; see `SetControl`."""
    tx.execute(SET_CONTROL, (control.kind, control.name, control.value, control.who, control.now))


_HANDLERS: dict[type[command.Command], Callable[[Transaction, Any], Any]] = {
    command.Accept: acceptance.accept,
    command.Intend: delivery.intend,
    command.Settle: delivery.settle,
    command.Defer: delivery.defer,
    command.Promote: lane.promote,
    command.BringForward: lane.bring_forward,
    command.Cancel: ending.cancel,
    command.Receive: receipt.receive,
    command.Expire: ending.expire,
    command.Discard: ending.discard,
    command.Sweep: sweep.sweep,
    command.Load: lane.load,
    command.Refill: lane.refill,
    command.LoadTimers: lane.load_timers,
    command.SetControl: set_control,
    command.Purge: purge.purge,
    redrive_command.BeginRedrive: redrive.begin,
    redrive_command.LoadRedrives: redrive.load_running,
    redrive_command.CancelRedrive: redrive.cancel,
    redrive_command.RedriveSome: redrive.redrive_some,
    redrive_command.DiscardDead: dead_letter.discard_dead,
    redrive_command.ResolveAsSent: redrive.resolve_as_sent,
    redrive_command.ResolveAsRetry: redrive.resolve_as_retry,
}
_GATHERING = frozenset({command.Accept, command.Intend, command.Settle, command.Defer})
"""Those that know which of the gathered rows they need; for all others they are written first."""


class SqliteStore:
    """One database file and its writing connection; used by one thread at a time.

    `node` names this process in `counts`; `now` gives seconds since the epoch.
    """

    def __init__(
        self, path: str, *, node: str = "local", now: Callable[[], float] = _CLOCK.now
    ) -> None:
        self.path = Path(path).absolute()
        self._node = node
        self._now = now
        # SQLite follows links to the file: however it is named, there is one lock.
        database = self.path.resolve()
        self._lock = FileLock(database.with_name(database.name + ".lock"))
        self._connection: sqlite3.Connection | None = None
        self._transaction: Transaction | None = None

    def open(self) -> None:
        """Lock the file, bring its schema up to date, and connect.

        Raises StoreLocked when another process has it, StorageUnavailable when the disk does not
        let us, ClarionError when a newer Clarion wrote it. A file that is not there is created.
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
        self._transaction = Transaction(self._connection, self._node, self._now)

    def close(self) -> None:
        """Close the connection, which moves the journal into the file, and free the lock."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._transaction = None
        self._lock.release()

    @property
    def connection(self) -> sqlite3.Connection:
        """The writing connection; the store has to be open."""
        assert self._connection is not None, "the store is not open"
        return self._connection

    def begin(self) -> None:
        """Begin a transaction that may write at once, so that no later step meets a lock."""
        if self.connection.in_transaction:
            # Its rollback failed on a disk that failed: until it is gone nothing can begin.
            self.connection.execute("ROLLBACK")
            assert self._transaction is not None, "the store is not open"
            self._transaction.forget()
        self.connection.execute("BEGIN IMMEDIATE")

    def apply_all(self, batch: Sequence[command.Command]) -> list[Any]:
        """Carry out commands in this order, inside the transaction, and return their results."""
        assert self._transaction is not None, "the store is not open"
        results: list[Any] = []
        for _, stretch in groupby(batch, key=type):
            alike = list(stretch)
            settles = [each for each in alike if isinstance(each, command.Settle)]
            if len(settles) > 1:
                delivery.settle_ahead(self._transaction, settles)
            results += [self.apply(each) for each in alike]
        return results

    def apply(self, each: command.Command) -> Any:
        """Carry out one command inside the transaction and return its result."""
        assert self._transaction is not None, "the store is not open"
        if type(each) not in _GATHERING:
            self._transaction.write_rows()
        return _HANDLERS[type(each)](self._transaction, each)

    def read(self, each: command.Command) -> Any:
        """Answer a `Load`, `Refill` or `LoadTimers` without a write, in its own transaction."""
        assert self._transaction is not None, "the store is not open"
        # Not IMMEDIATE, which a read-only file system would refuse.
        self.connection.execute("BEGIN")
        self._transaction.is_read_only = True
        try:
            return self.apply(each)
        finally:
            self._transaction.is_read_only = False
            self.rollback()

    def commit(self) -> None:
        """Write what was gathered and make the transaction durable (returns after the fsync)."""
        assert self._transaction is not None, "the store is not open"
        acceptance.purge_keys(self._transaction)
        self._transaction.flush()
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction; does nothing where SQLite has done so by itself."""
        assert self._transaction is not None, "the store is not open"
        self._transaction.forget()
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


def open_store(
    url: str, *, node: str = "local", now: Callable[[], float] = _CLOCK.now
) -> SqliteStore:
    """Return the (unopened) store of a URL: `sqlite:///relative.db` or `sqlite:////abs.db`.

    Raises SettingsError for any other URL.
    """
    path = url.removeprefix(_PREFIX)
    if path == url or path in ("", ":memory:"):
        # Without the URL, which may hold a password.
        detail = (
            "names no database that Clarion can use; write sqlite:///clarion.db"
            " (relative) or sqlite:////var/lib/clarion.db (absolute)"
        )
        raise SettingsError([Fault(detail, "storage.url")])
    return SqliteStore(path, node=node, now=now)


__all__ = ["SqliteStore", "open_store", "storage_failure"]
