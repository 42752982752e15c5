"""Clarion and the bare pipeline as contestants."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from benchmarks import process
from benchmarks.child import Child
from benchmarks.peers.broker import Postgres
from benchmarks.peers.contestant import SLOTS, NotPrepared, Site
from benchmarks.peers.scenario import Scenario
from benchmarks.subject import write_settings
from clarion.testing.clarion_process import ClarionProcess

START_S = 30.0
STOP_S = 30.0


class Clarion:
    """`clarion serve` with its defaults: one process that accepts, keeps and delivers."""

    name = "clarion"

    def __init__(self) -> None:
        self._server: ClarionProcess | None = None

    def takes_part(self, scenario: Scenario) -> bool:
        """Say yes."""
        return True

    def prepare(self) -> dict[str, str]:
        """Return the versions; it is here already."""
        return {"clarion": version("clarion"), "sqlite": sqlite3.sqlite_version}

    async def start(self, site: Site) -> int:
        """Start it and return its port."""
        return await self.serve(site)

    async def serve(self, site: Site, **environment: str) -> int:
        """Start the server and return its port."""
        settings = write_settings(site.directory, site.sink_url, SLOTS)
        self._server = ClarionProcess(site.directory, settings=settings, env=environment)
        await self._server.start(START_S)
        return self._server.port

    def pids(self) -> list[int]:
        """Return its one process."""
        if self._server is None or self._server.pid is None:
            return []
        return [self._server.pid]

    async def kill(self) -> None:
        """Kill -9 all of it: it has no worker apart."""
        assert self._server is not None
        await self._server.kill()

    async def revive(self) -> None:
        """Start it again on the same files."""
        assert self._server is not None
        self._server.spawn()

    async def stop(self) -> None:
        """Kill it; what it was measured for is done."""
        if self._server is not None:
            await self._server.aclose()


class ClarionOnPostgresql(Clarion):
    """The same on a PostgreSQL server of its own, whose processes count as Clarion's."""

    name = "clarion-pg"

    def __init__(self) -> None:
        super().__init__()
        self._database = Postgres()

    def prepare(self) -> dict[str, str]:
        """Install the server and return the versions; NotPrepared without the driver."""
        try:
            driver = version("psycopg")
        except PackageNotFoundError as error:
            raise NotPrepared("pip install 'clarion[postgres]'") from error
        found = self._database.environment.prepare()
        servers = {each: found[each] for each in self._database.versions}
        return {"clarion": version("clarion"), "psycopg": driver, **servers}

    async def start(self, site: Site) -> int:
        """Start the database and the server, and return the server's port."""
        return await self.serve(site, CLARION_STORAGE__URL=await self._database.start(site))

    def pids(self) -> list[int]:
        """Return the server's process and the database's."""
        return [*super().pids(), *self._database.pids()]

    async def stop(self) -> None:
        """End both."""
        await super().stop()
        await self._database.stop()


class Bare:
    """The ceiling: the pipeline without any feature (`benchmarks.bare`)."""

    name = "bare"

    def __init__(self) -> None:
        self._server: Child | None = None

    def takes_part(self, scenario: Scenario) -> bool:
        """Say no where something fails or dies: it tries once, and keeps nothing that it has."""
        return not (scenario.fail_every or scenario.kills)

    def prepare(self) -> dict[str, str]:
        """Return the versions; it is here already."""
        return {"aiohttp": version("aiohttp")}

    async def start(self, site: Site) -> int:
        """Start it and return the port that it announces."""
        self._server = Child(
            "bare",
            [sys.executable, "-m", "benchmarks.bare", "--sink", site.sink_url,
             "--database", str(site.directory / "bare.db"), "--slots", str(SLOTS)],
            directory=site.directory,
            environment={"PYTHONPATH": str(process.ROOT)},
        )  # fmt: skip
        until = time.monotonic() + START_S
        while not (said := self._server.tail).endswith("\n"):
            if not self._server.is_running or time.monotonic() > until:
                raise RuntimeError(f"the bare pipeline did not start\n{said}")
            await asyncio.sleep(process.POLL_S)
        return int(said.split()[-1])

    def pids(self) -> list[int]:
        """Return its one process."""
        return [] if self._server is None else [self._server.pid]

    async def kill(self) -> None:
        """Kill -9 it; it forgets what it had."""
        assert self._server is not None
        await self._server.kill()

    async def revive(self) -> None:
        """Do nothing: what it had is forgotten."""

    async def stop(self) -> None:
        """End it."""
        if self._server is not None:
            await self._server.stop()
