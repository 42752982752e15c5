"""Reading from PostgreSQL: a pool of sessions that are warm, checked, and never held for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from clarion.errors import StorageUnavailable
from clarion.policies.clock import SystemClock
from clarion.storage.failure import storage_failure, too_slow
from clarion.storage.postgresql import PostgresqlConnection, configure, session, shown
from clarion.storage.reader import PoolState
from clarion.storage.statement import ROLLBACK, SNAPSHOT, verbatim

_CLOCK = SystemClock()

APPLICATION = "clarion reader"
RECONNECT_S = 2.0
"""Failed connections are tried again for so long, then at the next need. The pauses between the
tries double: were they many, a server that is back would be noticed minutes later."""
MAX_IDLE_S = 600.0
MAX_LIFE_S = 3600.0
"""Sessions are renewed, so that what a server keeps for one stays bounded."""

SET_TIMEOUT = verbatim("SELECT set_config('statement_timeout', $1, true)")


class PostgresqlSnapshots:
    """Short transactions that only read; see `reader.Snapshots`.

    `least` sessions are opened at the start and kept, `most` are there at any time.
    """

    is_server = True

    def __init__(
        self,
        url: str,
        *,
        least: int,
        most: int,
        monotonic: Callable[[], float] = _CLOCK.monotonic,
    ) -> None:
        self.threads = 2 * most
        """As many again may wait for a connection, and hear why they do."""
        self._url = url
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._used = 0
        self._pool: ConnectionPool[PostgresqlConnection] = ConnectionPool(
            url,
            connection_class=PostgresqlConnection,
            kwargs=session(url, APPLICATION),
            configure=configure,
            min_size=least,
            max_size=most,
            max_idle=MAX_IDLE_S,
            max_lifetime=MAX_LIFE_S,
            reconnect_timeout=RECONNECT_S,
            name="clarion",
            open=False,
        )

    @contextmanager
    def snapshot(self, timeout_s: float) -> Iterator[PostgresqlConnection]:
        """Give a session in a transaction of its own, for `timeout_s` seconds at most.

        Half of them may pass until there is one: who waits in vain hears why before the time of
        the whole question is over.
        """
        wait_s = timeout_s / 2
        try:
            # Opened where it is first needed: a server that is away is waited for, here as later.
            self._pool.open()
            connection = self._begin(wait_s)
            try:
                with self._in_use():
                    connection.run(SET_TIMEOUT, (f"{timeout_s * 1000:.0f}",))
                    yield connection
            finally:
                self._end(connection)
        except PoolTimeout as error:
            raise StorageUnavailable(self._why_none(wait_s)) from error
        except psycopg.errors.QueryCanceled as error:
            raise StorageUnavailable(too_slow(timeout_s)) from error
        except psycopg.Error as error:
            reason = storage_failure(error) or " ".join(str(error).split())
            raise StorageUnavailable(f"the store cannot be read: {reason}") from error

    def _begin(self, wait_s: float) -> PostgresqlConnection:
        """Take a session and begin; sessions that broke while they were idle are left behind.

        The pool has a check for these, but pauses for seconds after each that fails.
        """
        deadline_at = self._monotonic() + wait_s
        while True:
            connection = self._pool.getconn(max(0.0, deadline_at - self._monotonic()))
            try:
                connection.run(SNAPSHOT)
            except psycopg.Error:
                is_broken = connection.closed
                self._pool.putconn(connection)
                if not is_broken:
                    raise
            else:
                return connection

    def _end(self, connection: PostgresqlConnection) -> None:
        with suppress(psycopg.Error):  # A session that is broken has no transaction any more.
            connection.run(ROLLBACK)
        self._pool.putconn(connection)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        # The pool itself counts those that it tries to open among those that it has.
        with self._lock:
            self._used += 1
        try:
            yield
        finally:
            with self._lock:
                self._used -= 1

    def _why_none(self, waited_s: float) -> str:
        if self._used >= self._pool.max_size:
            return (
                f"all {self._used} connections to {shown(self._url)} were in use for"
                f" {waited_s:g} s; raise storage.pool_max, or ask less at a time"
            )
        return f"{shown(self._url)} gave no connection within {waited_s:g} s"

    def state(self) -> PoolState:
        """Say how the pool stands."""
        found = self._pool.get_stats()
        return PoolState(
            used=self._used,
            idle=found.get("pool_available", 0),
            waiting=found.get("requests_waiting", 0),
            waited_s=found.get("requests_wait_ms", 0) / 1000,
        )

    def close(self) -> None:
        """Close the sessions."""
        self._pool.close()
