"""What may be over soon, and what trying again cannot mend."""

from __future__ import annotations

import asyncio
import errno
import socket
import sqlite3
import ssl
import urllib.error
from contextlib import closing
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import redis.exceptions
import requests
import sqlalchemy.exc
from twilio.base.exceptions import TwilioRestException
from yarl import URL

from clarion.errors import CircuitOpen
from clarion.policies.transient import is_transient


def made(name: str, base: type[Exception] = Exception, module: str = "app", **carries: Any) -> Any:
    """Return an exception as a library that is not installed here would raise it."""
    error = type(name, (base,), {"__module__": module})("as raised by the library")
    for key, value in carries.items():
        setattr(error, key, value)
    return error


def http(status: int) -> aiohttp.ClientResponseError:
    info = aiohttp.RequestInfo(URL("http://127.0.0.1"), "GET", None, URL("http://127.0.0.1"))  # type: ignore[arg-type]
    return aiohttp.ClientResponseError(info, (), status=status)


def chained(outer: Exception, cause: BaseException) -> Exception:
    outer.__cause__ = cause
    return outer


def of_requests(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


TRANSIENT = [
    ConnectionResetError(errno.ECONNRESET, "reset"),
    ConnectionRefusedError(),
    BrokenPipeError(),
    TimeoutError(),
    OSError(errno.EHOSTUNREACH, "no route"),
    socket.gaierror(socket.EAI_AGAIN, "try again"),
    ssl.SSLEOFError(),
    asyncio.IncompleteReadError(b"", 4),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError(),
    http(429),
    http(503),
    urllib.error.HTTPError("http://127.0.0.1", 502, "", Message(), None),
    urllib.error.URLError(TimeoutError()),
    requests.ConnectionError(),
    requests.ReadTimeout(),
    of_requests(500),
    TwilioRestException(503, "/Messages.json"),
    TwilioRestException(429, "/Messages.json", code=20429),
    redis.exceptions.ConnectionError(),
    redis.exceptions.BusyLoadingError(),
    made("ReadTimeout", type("TimeoutException", (Exception,), {"__module__": "httpx"}), "httpx"),
    made("HTTPStatusError", module="httpx", response=SimpleNamespace(status_code=408)),
    made("SerializationFailure", module="psycopg.errors", sqlstate="40001"),
    made("DeadlockDetectedError", module="asyncpg.exceptions", sqlstate="40P01"),
    made("LockNotAvailable", module="psycopg2.errors", pgcode="55P03"),
    made("AdminShutdown", module="psycopg.errors", sqlstate="57P01"),
    made("ConnectionDoesNotExistError", module="asyncpg.exceptions", sqlstate="08003"),
    made("OperationalError", module="psycopg", sqlstate=None),
    type("OperationalError", (Exception,), {"__module__": "pymysql.err"})(1213, "Deadlock found"),
    sqlalchemy.exc.TimeoutError(),
    sqlalchemy.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")),
    sqlalchemy.exc.DBAPIError("SELECT 1", {}, Exception("gone"), connection_invalidated=True),
    chained(RuntimeError("charging failed"), ConnectionResetError()),
    ExceptionGroup("both", [TimeoutError(), http(500)]),
]

LASTING = [
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    CircuitOpen("stripe", 3.0),
    TypeError("a bug"),
    ValueError("a bug"),
    KeyError("a bug"),
    RuntimeError("who knows"),
    FileNotFoundError(errno.ENOENT, "no such file"),
    PermissionError(errno.EACCES, "denied"),
    ssl.SSLCertVerificationError("self-signed"),
    http(400),
    http(404),
    http(401),
    TwilioRestException(400, "/Messages.json", code=21211),
    of_requests(422),
    requests.exceptions.SSLError(),
    requests.exceptions.InvalidURL(),
    redis.exceptions.AuthenticationError(),
    made("UniqueViolation", module="psycopg.errors", sqlstate="23505"),
    made("OperationalError", module="psycopg", sqlstate="28P01"),
    type("ProgrammingError", (Exception,), {"__module__": "pymysql.err"})(1064, "syntax"),
    sqlite3.OperationalError("no such table: charges"),
    sqlite3.IntegrityError("UNIQUE constraint failed"),
    sqlalchemy.exc.IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE")),
    chained(TypeError("a bug while handling it"), ConnectionResetError()),
    ExceptionGroup("one of them is a bug", [TimeoutError(), TypeError()]),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_it_may_be_over_soon(error: BaseException) -> None:
    """Resets, time-outs, 408, 429, 5xx, lost database connections, locks and deadlocks."""
    assert is_transient(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_trying_again_does_not_mend_it(error: BaseException) -> None:
    """Cancellation, bugs, refusals of the request itself, an open circuit."""
    assert not is_transient(error)


@pytest.mark.parametrize("status", range(400, 600))
def test_http_statuses_decide(status: int) -> None:
    """408, 429 and all of 5xx."""
    assert is_transient(http(status)) == (status in (408, 429) or status >= 500)


def test_a_database_that_is_really_locked_is_transient(tmp_path: Path) -> None:
    """Two writers on one SQLite file."""
    file = tmp_path / "charges.db"
    with closing(sqlite3.connect(file)) as one, closing(sqlite3.connect(file, timeout=0)) as two:
        one.execute("CREATE TABLE charges (id)")
        one.execute("BEGIN IMMEDIATE")

        with pytest.raises(sqlite3.OperationalError) as caught:
            two.execute("BEGIN IMMEDIATE")

    assert is_transient(caught.value)


def test_what_only_happened_to_be_handled_does_not_count() -> None:
    """`__context__` is an accident: the new error stands for itself."""
    error = RuntimeError("no fallback is configured")
    error.__context__ = ConnectionResetError()

    assert not is_transient(error)


def test_a_chain_that_bites_its_tail_ends() -> None:
    """Two exceptions that name each other as their cause."""
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one

    assert not is_transient(one)
