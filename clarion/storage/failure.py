"""What the errors of a database mean: trouble of the disk or the server, in plain words."""

from __future__ import annotations

import sqlite3
import sys

from clarion.errors import StorageUnavailable, StoreLocked

_OF_SQLITE = {
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

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OF_POSTGRESQL = {
    "25006": "the database server is read-only (a standby?)",
    "25P03": "the database server closed a transaction that stood still",
    "25P04": "the database server closed a transaction that took too long",
    "28000": "the database server refuses this user",
    "28P01": "the database server refuses the password",
    "3D000": "the database server has no database of this name",
    "3F000": "the schema that search_path names is not there",
    "40001": "the database server undid the transaction (serialization)",
    "40P01": "the database server undid the transaction (deadlock)",
    "42501": "the user may not use the tables or the schema (permissions)",
    "42703": "a table lacks a column (it was changed by hand, or by a newer version?)",
    "42P01": "a table is not there (it was dropped, or search_path is another?)",
    "53100": "the database server's disk is full",
    "53200": "the database server is out of memory",
    "53300": "the database server takes no more connections",
    "55P03": "the database server did not get a lock in time",
    "57014": "the database server did not answer in time",
    "57P01": "the database server closed the connection (it is being stopped?)",
    "57P02": "the database server closed the connection (it crashed)",
    "57P03": "the database server is starting or stopping",
    "57P05": "the database server closed an idle connection",
    "58030": "the database server's disk does not read or write (I/O error)",
    "XX001": "the database is damaged",
    "XX002": "an index of the database is damaged",
}
_OF_COLLISION = frozenset({"40001", "40P01"})
"""Two transactions were in each other's way, and this one was undone."""
_OF_ONE_VALUE = "54"
"""The class of codes that say that what one command brings is too large: the server is well."""


def storage_failure(error: BaseException) -> str | None:
    """Return the plain reason if `error` is trouble of the storage, None if it is anything else."""
    if isinstance(error, MemoryError):
        return "there is no memory left (out of memory)"
    if isinstance(error, StorageUnavailable | StoreLocked):
        return str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _OF_SQLITE.get(code & _PRIMARY_CODE)
    return _of_postgresql(error)


def _of_postgresql(error: BaseException) -> str | None:
    # Without PostgreSQL its driver is not installed, let alone imported.
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate or ""
    if code.startswith(_OF_ONE_VALUE):
        return None
    known = _OF_POSTGRESQL.get(code)
    if known is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        told = " ".join(str(error).split())
        # It has no code for what the server says before there is a session.
        what = "refuses the session" if "FATAL:" in told else "cannot be reached"
        return f"the database server {what} ({told})"
    return known


def is_collision(error: BaseException) -> bool:
    """Say whether the same transaction, begun again, may well succeed at once."""
    return getattr(error, "sqlstate", None) in _OF_COLLISION


def too_slow(timeout_s: float) -> str:
    """Say that an answer took too long."""
    return f"the store did not answer within {timeout_s:g} s; narrow the search or try again"
