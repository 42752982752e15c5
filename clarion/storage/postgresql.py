"""Connecting to PostgreSQL: what a session of ours is set to, and how the schema gets there.

psycopg is installed with the extra `postgres`; nothing else in Clarion knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import RawCursor, conninfo
from psycopg.abc import Buffer
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from clarion.errors import StorageUnavailable
from clarion.storage import migration
from clarion.storage.database import Row
from clarion.storage.failure import storage_failure
from clarion.storage.statement import Statement

CONNECT_TIMEOUT_S = 5
# A server that vanishes without a word would be waited for as long as the kernel likes: a quarter
# of an hour after a question, two hours for an answer.
_PATIENCE = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""What libpq is told where the URL says nothing else; the last one in milliseconds."""
STATEMENT_TIMEOUT_MS = 30_000
"""A statement of ours takes milliseconds; one that takes this long meets a lock."""
LOCK_TIMEOUT_MS = 10_000
"""Other nodes keep a lock for milliseconds: this one is somebody's who repairs by hand."""
IDLE_TIMEOUT_MS = 5_000
"""A process that stands still in the middle of a transaction keeps its locks no longer, so that
those who wait for them do so in vain only if it is not that."""
PREPARED = 512
"""Statements that a connection keeps prepared: more than there are."""
LOCK = 0x636C6172
"""The first key of the locks of a schema ("clar"), which is the second one."""

_SETTINGS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
    # The server notices a node that is gone without a word within half a minute.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "jit": "off",
}


class _BoolAsNumber(Int8Dumper):
    """Flags are numbers, as in SQLite."""

    def dump(self, obj: Any) -> Buffer:
        """Write 1 or 0."""
        return b"1" if obj else b"0"


class PostgresqlConnection(psycopg.Connection[Row]):
    """A connection that takes our statements; transactions are begun and ended by hand."""

    def run(self, statement: Statement, values: Sequence[Any] = (), /) -> psycopg.Cursor[Row]:
        """Carry out a statement with its values."""
        return self.execute(statement.postgresql, values)

    def run_many(self, statement: Statement, rows: Iterable[Sequence[Any]], /) -> None:
        """Carry out a statement once for each row of values, in one journey."""
        self.cursor().executemany(statement.postgresql, rows)

    def fetch(self, statement: Statement, values: Sequence[Any] = (), /) -> list[Row]:
        """Return all rows."""
        return self.execute(statement.postgresql, values).fetchall()


def patience(url: str) -> dict[str, Any]:
    """Return how long the network is waited for, as far as the URL does not say it."""
    given = conninfo.conninfo_to_dict(url)
    return {name: value for name, value in _PATIENCE.items() if name not in given}


def session(url: str, application: str) -> dict[str, Any]:
    """Return what psycopg has to be told of a session of ours; `application` names it."""
    return patience(url) | {
        "autocommit": True,
        "cursor_factory": RawCursor,
        "application_name": application,
        "client_encoding": "utf8",
    }


def configure(connection: psycopg.Connection[Any]) -> None:
    """Set a new session to what ours are; a pool calls this, too."""
    connection.adapters.register_dumper(bool, _BoolAsNumber)
    # One width for all numbers, so that a statement is prepared once.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.prepared_max = PREPARED
    for name, value in _SETTINGS.items():
        connection.execute("SELECT set_config($1, $2, false)", (name, value))
    # A server may be set to answer before it has written; what we acknowledge is written.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )


def connect(url: str, application: str) -> PostgresqlConnection:
    """Open a session of ours. Raises psycopg.Error."""
    connection = PostgresqlConnection.connect(url, **session(url, application))
    try:
        configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def shown(url: str) -> str:
    """Return the URL as people may see it: where the database is, without user and password."""
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "PostgreSQL"
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    port = f":{parts['port']}" if "port" in parts else ""
    return f"{parts.get('dbname') or 'PostgreSQL'} at {host}{port}"


def migrate(url: str) -> None:
    """Bring the schema up to date; several processes may start at once. See `migration.migrate`."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(url, **patience(url)),
        poolclass=NullPool,
    )
    try:
        migration.migrate(engine, shown(url), _wait_for_turn)
    finally:
        engine.dispose()


def _wait_for_turn(connection: SqlConnection) -> None:
    """Let one process migrate at a time; the others then find nothing to do."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {STATEMENT_TIMEOUT_MS}")
    connection.exec_driver_sql(
        f"SELECT pg_advisory_xact_lock({LOCK}, hashtext(current_schema() || ' migration'))"
    )


def unavailable(url: str, error: psycopg.Error) -> StorageUnavailable:
    """Return what to tell of a database that cannot be used."""
    reason = storage_failure(error) or " ".join(str(error).split())
    return StorageUnavailable(f"cannot use the database {shown(url)}: {reason}")
