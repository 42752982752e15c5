"""Clarion and the bare pipeline as contestants."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from importlib.metadata import version

from benchmarks import process
from benchmarks.child import Child
from benchmarks.peers.contestant import SLOTS, Site
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
        settings = write_settings(site.directory, site.sink_url, SLOTS)
        self._server = ClarionProcess(site.directory, settings=settings)
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
