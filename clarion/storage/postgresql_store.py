"""The store in PostgreSQL, which several nodes share.

The session that writes for a node holds an advisory lock of the node's name, so that two processes
never write as one: whoever loses the session loses the lock, and writes again only once both are
back. Each transaction that writes leaves a mark in the node's own row. By it a commit is looked up
whose answer was lost; and where the row is gone, or another process's, nothing can be committed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

import psycopg
import structlog
from sqlalchemy import bindparam, delete, select

from clarion.domain.node import Node
from clarion.errors import ClarionError, StorageUnavailable, StoreLocked, StoreTaken
from clarion.policies.clock import SystemClock
from clarion.storage.membership import NEWS, NODE_LOCK, RENEW, SCHEMA, node_key
from clarion.storage.postgresql import (
    LOCK,
    LOCK_TIMEOUT_MS,
    PostgresqlConnection,
    connect,
    migrate,
    shown,
    unavailable,
)
from clarion.storage.postgresql_listener import PostgresqlListener
from clarion.storage.schema import nodes
from clarion.storage.statement import prepare, replace_row, verbatim
from clarion.storage.store import Store
from clarion.storage.transaction import NOBODY

log = structlog.get_logger(__name__)

_CLOCK = SystemClock()

APPLICATION = "clarion writer"

KEY = node_key("$1::text")
TAKE_LOCK = f"SELECT pg_advisory_lock({NODE_LOCK}, {KEY})"
"""node."""
SHUT_OUT_ALONE = f"SELECT pg_advisory_lock_shared({LOCK}, hashtext({SCHEMA}))"
"""Releases that wrote alone hold this lock as their own."""
FIND_OWNER = f"""\
SELECT coalesce(client_addr::text, 'this host'), backend_start::timestamp(0)::text
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = {NODE_LOCK} AND objid = {KEY}::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND granted
LIMIT 1"""
MAKE_INCARNATION = "SELECT pg_current_xact_id()::text"
ENTER = replace_row(nodes)
FIND_NODE = prepare(
    select(nodes.c.incarnation, nodes.c.last_commit).where(nodes.c.node == bindparam("node")),
    "node",
)
"""node -> incarnation, last_commit."""
MARK = verbatim(
    "UPDATE nodes SET last_commit = $1"
    " WHERE node = $2 AND incarnation = $3 AND pg_current_xact_id_if_assigned() IS NOT NULL"
)
"""mark, node, incarnation; only of a transaction that writes anyway."""
HAS_WRITTEN = verbatim("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
REMOVE = prepare(delete(nodes).where(nodes.c.node == bindparam("node")), "node")
TELL = verbatim(f"SELECT pg_notify({NEWS}, $1)")
"""Who tells it, and news."""
TELL_EVERY_S = 0.05
"""The same news at most so often: a commit that tells some waits for all others that do."""
LOCK_PATIENCE_MS = 2_000
"""For a process that died a moment ago, whose session the server still has."""
SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', $1, false)"

LEAST_VERSION = 13
"""The first one that knows `pg_current_xact_id`."""
ENCODING = "UTF8"
"""The one that stores every text: others refuse what they have no sign for, emoji first."""


class PostgresqlStore(Store):
    """One database (or schema of it) and the session that writes to it for a node.

    `lease_s` is how long the node is believed to be alive after it renewed its lease; `about` is
    what people want to know of it.
    """

    patience_s = 60.0
    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        node: str = "local",
        now: Callable[[], float] = _CLOCK.now,
        monotonic: Callable[[], float] = _CLOCK.monotonic,
        lease_s: float = 30.0,
        about: Node | None = None,
    ) -> None:
        super().__init__(node=node, now=now)
        self._url = url
        self._monotonic = monotonic
        self._lease_s = lease_s
        self._about = json.dumps(asdict(about or Node(node)))
        self._told_at: dict[str, float] = {}
        self._connection: PostgresqlConnection | None = None
        self._incarnation = ""
        """What the database knows this process by, among all that ever had it."""
        self._n = 0
        """Transactions that were committed, each with a mark of its own."""
        self._mark: str | None = None
        """Of a commit that was asked for and not answered."""
        self._was_made = False

    def open(self) -> None:
        """Connect, take the lock and bring the schema up to date; see `Store`."""
        with self._opening():
            self._enter(self._connect_at_first())

    def try_out(self) -> None:
        """Open, write and close; leaves no mark that would shut out who has lost it for a moment.

        See `Store`.
        """
        with self._opening():
            self._connect_at_first()
            self.probe()
        self.close()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            self.close()
            raise unavailable(self._url, error) from error
        except BaseException:
            self.close()
            raise

    def _connect_at_first(self) -> PostgresqlConnection:
        connection = self._connect()
        self._check_server(connection)
        migrate(self._url)
        return connection

    def _check_server(self, connection: PostgresqlConnection) -> None:
        version = connection.info.server_version // 10_000
        if version < LEAST_VERSION:
            raise ClarionError(
                f"the server of {shown(self._url)} is PostgreSQL {version};"
                f" use {LEAST_VERSION} or newer"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != ENCODING:
            raise ClarionError(
                f"the database {shown(self._url)} is encoded in {encoding}, which does not hold"
                f" every text; create it anew with ENCODING '{ENCODING}' TEMPLATE template0"
            )

    def close(self) -> None:
        """End the session, and with it the locks."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._transaction = None

    @property
    def connection(self) -> PostgresqlConnection:
        """The writing session; the store has to be open."""
        assert self._connection is not None, "the store is not open"
        return self._connection

    def _connect(self) -> PostgresqlConnection:
        connection = connect(self._url, APPLICATION)
        try:
            self._lock(connection)
            if self._incarnation:
                self._check_incarnation(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.use(connection)
        return connection

    def _lock(self, connection: PostgresqlConnection) -> None:
        """Take the lock, or wait a little: a process that died a moment ago may still have it."""
        try:
            connection.execute(SET_LOCK_TIMEOUT, (str(LOCK_PATIENCE_MS),))
            connection.execute(SHUT_OUT_ALONE)
            connection.execute(TAKE_LOCK, (self._node,))
            connection.execute(SET_LOCK_TIMEOUT, (str(LOCK_TIMEOUT_MS),))
        except psycopg.errors.LockNotAvailable as error:
            if self._incarnation:
                self._check_incarnation(connection)
                raise StorageUnavailable(
                    "the server still keeps the lock of the session that was lost, or another"
                    " process is about to take over"
                ) from error
            found = connection.execute(FIND_OWNER, (self._node,)).fetchone()
            if found is None:
                raise StoreLocked(
                    f"the database {shown(self._url)} is in use by a process of an older version,"
                    " which shares it with nobody; stop it first"
                ) from error
            raise StoreLocked(
                f"the database {shown(self._url)} is in use by another process of {found[0]} that"
                f" connected at {found[1]} as the node {self._node!r}, too; stop it first, or give"
                " this one another storage.node"
            ) from error

    def _enter(self, connection: PostgresqlConnection) -> None:
        """Write down who has it: who had it before must not go on from what it remembers."""
        found = connection.execute(MAKE_INCARNATION).fetchone()
        assert found is not None
        self._incarnation = found[0]
        connection.execute("BEGIN")
        now = self._now()
        connection.run(ENTER, (self._node, self._incarnation, "", now, 0.0, 0.0, self._about))
        connection.run(RENEW, (self._lease_s, self._node))
        connection.execute("COMMIT")

    def _check_incarnation(self, connection: PostgresqlConnection) -> None:
        found = connection.run(FIND_NODE, (self._node,)).fetchone()
        if found is None or found[0] != self._incarnation:
            raise StoreTaken(
                f"another process has taken over what this one had in {shown(self._url)}, since it"
                " gave no sign of life; restart this one"
            )

    def listen(self, heard: Callable[[], object]) -> PostgresqlListener:
        """Hear what other nodes tell; see `Store`."""
        listener = PostgresqlListener(self._url, self._node, heard)
        listener.start()
        return listener

    # --- transactions ----------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction, over a new session where the old one is lost."""
        self._renew()
        self.connection.execute("BEGIN")

    def begin_reading(self) -> None:
        """Begin a transaction that a server which takes no writes does not refuse.

        It connects to none: `probe` does, once per try, so that no reader waits for a server that
        is away.
        """
        if self.connection.closed:
            raise StorageUnavailable("the connection to the database server is lost")
        self._renew()
        self.connection.execute("BEGIN READ ONLY")

    def _renew(self) -> None:
        if self.connection.closed:
            self.connection.close()
            self._connect()
            log.warning("storage_connected_again", database=shown(self._url))
        if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            # Its rollback failed; until it is gone nothing can begin.
            self.connection.execute("ROLLBACK")
            self.transaction.forget()
        self._clear_doubt()

    def end(self) -> None:
        """Mark the transaction, commit, and remember the mark until the answer is there."""
        connection = self.connection
        self._n += 1
        mark = f"{self._incarnation} {self._n}"
        if connection.run(MARK, (mark, self._node, self._incarnation)).rowcount:
            self._mark = mark
        elif not self.transaction.is_leaving and connection.run(HAS_WRITTEN).fetchone() == (True,):
            self._check_incarnation(connection)
        self._announce()
        connection.execute("COMMIT")
        self._mark = None
        self.transaction.is_leaving = False

    def _announce(self) -> None:
        """Tell the other nodes what is news to them, each thing at most so often."""
        news, now = self.transaction.news, self._monotonic()
        for each in sorted(news):
            if now >= self._told_at.get(each, -math.inf) + TELL_EVERY_S:
                self._told_at[each] = now
                self.connection.run(TELL, (f"{self._node} {each}",))
                news.discard(each)

    def undo(self) -> None:
        """Roll back, where the session is still there."""
        # A session that is lost takes its transaction along; `begin` connects anew.
        with suppress(psycopg.Error):
            if not self.connection.closed:
                self.connection.execute("ROLLBACK")
                self._mark = None

    def _clear_doubt(self) -> None:
        """See what became of the commit whose answer was lost.

        It is over: its session had the lock, which this one has now. Its mark is looked for, not
        its transaction's id: a server that crashed, or a standby, may have given that anew.
        """
        if self._mark is None:
            return
        found = self.connection.run(FIND_NODE, (self._node,)).fetchone()
        self._was_made = found == (self._incarnation, self._mark)
        log.warning("storage_doubt_cleared", commit=self._mark, was_made=self._was_made)
        self._mark = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the answer to the last commit is lost; see `Store`."""
        return self._mark is not None

    def was_made(self) -> bool:
        """Say what became of it, once the next transaction has begun; see `Store`."""
        return self._was_made

    def probe(self) -> None:
        """Try whether the server takes a write of this process.

        Raises psycopg.Error, StorageUnavailable or StoreLocked.
        """
        self.begin()
        try:
            if self._incarnation:
                # A standby that was promoted has what others wrote while this session only read.
                self._check_incarnation(self.connection)
            self.connection.run(ENTER, (NOBODY, "", "", self._now(), 0.0, 0.0, "{}"))
            self.connection.run(REMOVE, (NOBODY,))
            self.connection.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise
