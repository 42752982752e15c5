"""Hearing what other nodes tell: a session that waits for notifications, on a thread of its own.

https://www.postgresql.org/docs/current/sql-listen.html. News are hints: what is missed while the
session is lost is found by the regular look at the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import structlog

from clarion.storage.membership import NEWS
from clarion.storage.postgresql import PostgresqlConnection, connect, shown

log = structlog.get_logger(__name__)

APPLICATION = "clarion listener"
LOOK_UP_S = 1.0
"""The thread looks so often whether it is to end."""
RETRY_S = 1.0


class PostgresqlListener:
    """Calls `heard` when another node tells news, and when some may have been missed."""

    def __init__(self, url: str, node: str, heard: Callable[[], object]) -> None:
        self._url = url
        self._prefix = f"{node} "
        self._heard = heard
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clarion-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Hear nothing any more."""
        self._is_closing.set()
        self._thread.join(2 * LOOK_UP_S)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                reason = " ".join(str(error).split())
                log.info("listener_lost", database=shown(self._url), reason=reason)
            except RuntimeError:
                return  # The loop is closed: nobody is left to hear it.
            self._is_closing.wait(RETRY_S)

    def _listen(self) -> None:
        connection = connect(self._url, APPLICATION)
        try:
            self._subscribe(connection)
            self._heard()
            while not self._is_closing.is_set():
                for news in connection.notifies(timeout=LOOK_UP_S, stop_after=1):
                    if not news.payload.startswith(self._prefix):
                        self._heard()
        finally:
            connection.close()

    @staticmethod
    def _subscribe(connection: PostgresqlConnection) -> None:
        row = connection.execute(f"SELECT quote_ident({NEWS})").fetchone()
        assert row is not None
        connection.execute(f"LISTEN {row[0]}")
