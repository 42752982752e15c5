"""Whether an exception tells of trouble that may be over soon: `is_transient`.

The standard library alone is known by type. Foreign libraries (aiohttp, httpx, requests, urllib3,
redis, SQLAlchemy, the drivers of PostgreSQL and MySQL, Twilio) are known by the names of their
classes and by what their exceptions carry, so that none has to be installed.

An exception is judged by the first of these that decides: it is a bug of ours (no); an HTTP status
it carries; an SQLSTATE or another database's number; its class; the exception that it wraps
(`orig`, `reason`, or `__cause__`: what an author chained on purpose with `raise … from`, never
`__context__`, which is there by accident).
"""

from __future__ import annotations

import errno
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from clarion.errors import CircuitOpen

_BUGS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
    NotImplementedError, RecursionError, ReferenceError, SyntaxError, TypeError,
    ValueError,  # a certificate that does not verify is one, too
)  # fmt: skip
_BREAKS = (
    TimeoutError,
    ConnectionError,
    EOFError,  # asyncio.IncompleteReadError
    socket.gaierror,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
_ERRNOS = frozenset({
    errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT,
    errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET,
})  # fmt: skip
_STATUSES = (408, 429)

_SQLSTATES = frozenset({
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock not available: lock_timeout, NOWAIT
    "57P01", "57P02", "57P03",  # the server shuts down, crashed, starts up
    "53300",  # too many connections
})  # fmt: skip
_SQLSTATE_CONNECTION = "08"
_SQLITE_LOCKS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_MYSQL = frozenset({
    1040,  # too many connections
    1205, 1213,  # lock wait time-out, deadlock
    2002, 2003, 2006, 2013, 2055,  # cannot connect, gone away, lost
})  # fmt: skip
_MYSQL_DRIVERS = ("MySQLdb", "aiomysql", "asyncmy", "mysql", "pymysql")

_FOREIGN = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "httpcore": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "httpx": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "psycopg": ("OperationalError",),
    "psycopg2": ("OperationalError",),
    "redis": ("ConnectionError", "TimeoutError"),
    "requests": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "sqlalchemy": ("TimeoutError", "DisconnectionError"),
    "urllib3": ("ProtocolError", "TimeoutError", "NewConnectionError"),
}
"""Top package -> classes whose instances tell of a broken or overdue exchange."""
_FOREIGN_LASTING = {
    "aiohttp": ("ClientConnectorSSLError", "ClientConnectorCertificateError"),
    "redis": ("AuthenticationError", "AuthorizationError"),
    "requests": ("SSLError",),
}
"""Subclasses of the above that waiting does not mend."""


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again may help.

    True for resets, time-outs, HTTP 408, 429 and 5xx, lost database connections, lock time-outs and
    deadlocks. False for cancellation, bugs (TypeError, ValueError, …) and an open circuit. A group
    of exceptions is transient when all of its members are.
    """
    for link in _chain(error):
        if isinstance(link, BaseExceptionGroup):
            return all(is_transient(each) for each in link.exceptions)
        verdict = _verdict(link)
        if verdict is not None:
            return verdict
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: Any = error
    while isinstance(link, BaseException) and id(link) not in seen:
        seen.add(id(link))
        yield link
        wrapped = (getattr(link, "orig", None), getattr(link, "reason", None), link.__cause__)
        link = next((each for each in wrapped if isinstance(each, BaseException)), None)


def _verdict(error: BaseException) -> bool | None:
    if not isinstance(error, Exception) or isinstance(error, (*_BUGS, CircuitOpen)):
        return False
    for judge in _JUDGES:
        verdict = judge(error)
        if verdict is not None:
            return verdict
    return None


def _by_status(error: Exception) -> bool | None:
    status = _status(error)
    if status is None:
        status = _status(getattr(error, "response", None))
    return None if status is None else status in _STATUSES or status >= 500


def _status(thing: object) -> int | None:
    # `code` last: Twilio's exceptions keep the HTTP status in `status`, a number of its own there.
    for name in ("status", "status_code", "code"):
        value = getattr(thing, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def _by_database(error: Exception) -> bool | None:
    if getattr(error, "connection_invalidated", False) is True:  # SQLAlchemy
        return True
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str) and state:
        return state in _SQLSTATES or state.startswith(_SQLSTATE_CONNECTION)
    if isinstance(error, sqlite3.Error):
        return _is_sqlite_lock(error)
    return _by_mysql_number(error)


def _is_sqlite_lock(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF in _SQLITE_LOCKS  # the upper bits only say more
    return isinstance(error, sqlite3.OperationalError) and "is locked" in str(error)


def _by_mysql_number(error: Exception) -> bool | None:
    if not any(_package(each) in _MYSQL_DRIVERS for each in type(error).__mro__):
        return None
    number = getattr(error, "errno", None) or next(iter(error.args), None)
    return number in _MYSQL if isinstance(number, int) else None


def _by_class(error: Exception) -> bool | None:
    if _is_one_of(error, _FOREIGN_LASTING):
        return False
    if isinstance(error, _BREAKS) or _is_one_of(error, _FOREIGN):
        return True
    return True if isinstance(error, OSError) and error.errno in _ERRNOS else None


def _is_one_of(error: Exception, classes: dict[str, tuple[str, ...]]) -> bool:
    return any(each.__name__ in classes.get(_package(each), ()) for each in type(error).__mro__)


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


_JUDGES: tuple[Callable[[Exception], bool | None], ...] = (_by_status, _by_database, _by_class)
