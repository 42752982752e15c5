"""The store: holds the one writing transaction of this process, and applies commands to it.

What a command does stands in `acceptance`, `delivery`, `ending`, `receipt`, `redrive`,
`dead_letter`, `lane`, `purge` and `sweep`; when a transaction begins and ends is the business of
`writer`, which also owns the thread. How a database is opened, and how a transaction begins and
ends there, stands in `sqlite_store` and `postgresql_store`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, ClassVar, Protocol

from clarion.storage import (
    acceptance,
    command,
    dead_letter,
    delivery,
    ending,
    lane,
    membership,
    purge,
    receipt,
    redrive,
    redrive_command,
    sweep,
)
from clarion.storage.database import Connection
from clarion.storage.schema import controls
from clarion.storage.statement import replace_row
from clarion.storage.transaction import Transaction

SET_CONTROL = replace_row(controls)


def set_control(tx: Transaction, control: command.SetControl) -> None:
    """Remember an operator's decision; see `SetControl`."""
    values = (control.kind, control.name, control.value, control.who, control.now, tx.node)
    tx.execute(SET_CONTROL, values)
    tx.tell_others("controls")


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
    membership.Beat: membership.beat,
    membership.Leave: membership.leave,
}
_GATHERING = frozenset({command.Accept, command.Intend, command.Settle, command.Defer})
"""Those that know which of the gathered rows they need; for all others they are written first."""


class Listener(Protocol):
    """Hears what other nodes tell."""

    def close(self) -> None:
        """Hear nothing any more."""


class Store(ABC):
    """One database and the connection that writes to it; used by one thread at a time.

    `node` names this process in `counts`; `now` gives seconds since the epoch.
    """

    patience_s: ClassVar[float] = 0.0
    """How long a start waits for a database that is away, or that a process before it still has."""
    is_shared: ClassVar[bool] = False
    """Whether several nodes work on it at once."""

    def __init__(self, *, node: str, now: Callable[[], float]) -> None:
        self._node = node
        self._now = now
        self._transaction: Transaction | None = None

    @abstractmethod
    def open(self) -> None:
        """Take the database for this process, bring its schema up to date, and connect.

        Raises StoreLocked when another process has it, StorageUnavailable when it cannot be
        used, ClarionError when a newer Clarion wrote it.
        """

    def try_out(self) -> None:
        """Open, see that a write is taken, and close; raises as `open` and `probe` do."""
        try:
            self.open()
            self.probe()
        finally:
            self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connection and let another process have the database."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction that may write; one that was left open is undone."""

    @abstractmethod
    def begin_reading(self) -> None:
        """Begin a transaction that works where nothing can be written."""

    @abstractmethod
    def end(self) -> None:
        """Make the transaction durable."""

    @abstractmethod
    def undo(self) -> None:
        """Undo the transaction, if there is one that can be undone."""

    @abstractmethod
    def probe(self) -> None:
        """Raise if nothing can be written."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether the answer to the last commit is lost, so that it may have been made."""
        return False

    def was_made(self) -> bool:
        """Say whether the commit that was in doubt has been made."""
        return False

    def listen(self, heard: Callable[[], object]) -> Listener | None:
        """Have `heard` called, on some thread, when another node tells news; None: there is none.

        It is also called whenever some may have been missed.
        """
        return None

    def use(self, connection: Connection) -> None:
        """Write over this connection from now on."""
        self._transaction = Transaction(connection, self._node, self._now, is_shared=self.is_shared)

    @property
    def transaction(self) -> Transaction:
        """The transaction that runs, or the next one; the store has to be open."""
        assert self._transaction is not None, "the store is not open"
        return self._transaction

    def apply_all(self, batch: Sequence[command.Command]) -> list[Any]:
        """Carry out commands in this order, inside the transaction, and return their results."""
        results: list[Any] = []
        for _, stretch in groupby(batch, key=type):
            alike = list(stretch)
            settles = [each for each in alike if isinstance(each, command.Settle)]
            if len(settles) > 1:
                delivery.settle_ahead(self.transaction, settles)
            results += [self.apply(each) for each in alike]
        return results

    def apply(self, each: command.Command) -> Any:
        """Carry out one command inside the transaction and return its result."""
        if type(each) not in _GATHERING:
            self.transaction.write_rows()
        return _HANDLERS[type(each)](self.transaction, each)

    def read(self, each: command.Command) -> Any:
        """Answer a `Load`, `Refill` or `LoadTimers` without a write, in its own transaction."""
        self.begin_reading()
        self.transaction.is_read_only = True
        try:
            return self.apply(each)
        finally:
            self.transaction.is_read_only = False
            self.rollback()

    def commit(self) -> None:
        """Write what was gathered and make the transaction durable (returns after the fsync)."""
        acceptance.purge_keys(self.transaction)
        self.transaction.flush()
        self.end()

    def rollback(self) -> None:
        """Undo the transaction; does nothing where the database has done so by itself."""
        self.transaction.forget()
        self.undo()
