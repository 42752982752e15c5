"""A task queue as a contestant: a web front, its workers, and the broker between them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress

from benchmarks import process
from benchmarks.child import Child
from benchmarks.peers.broker import BROKERS, Broker
from benchmarks.peers.catalogue import COMMON, Recipe
from benchmarks.peers.contestant import SLOTS, WORKERS, Site
from benchmarks.peers.environment import Environment
from benchmarks.peers.scenario import Scenario
from clarion.testing.clarion_process import free_port

START_S = 30.0


class QueuePeer:
    """One peer of the catalogue; every start is from nothing."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._environment = Environment(recipe.name, (*recipe.requirements, *COMMON))
        self._broker: Broker = BROKERS[recipe.broker]()
        self._broker_url = ""
        self._site: Site | None = None
        self._front: Child | None = None
        self._workers: list[Child] = []

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.recipe.name

    def takes_part(self, scenario: Scenario) -> bool:
        """Say yes."""
        return True

    def prepare(self) -> dict[str, str]:
        """Install it and its broker; return the versions of what it is named after."""
        found = self._environment.prepare()
        brokers = self._broker.environment.prepare()
        named = [each.partition("[")[0] for each in self.recipe.requirements]
        return {
            **{each: found[each] for each in named if each in found},
            **{each: brokers[each] for each in self._broker.versions},
        }

    async def start(self, site: Site) -> int:
        """Start broker, workers and front; return the front's port."""
        self._site = site
        self._broker = BROKERS[self.recipe.broker]()
        self._broker_url = await self._broker.start(site)
        if self.recipe.before:
            code = await self._child("before", *self.recipe.before).wait(START_S)
            if code != 0:
                raise RuntimeError(f"{self.name}: {self.recipe.before} ended with {code}")
        await self.revive()
        port = free_port()
        self._front = self._child(
            "front", "benchmarks.peers.app.front", self.recipe.module, "--port", str(port)
        )
        await self._listening(self._front, port)
        return port

    def pids(self) -> list[int]:
        """Return front, workers and broker."""
        children = [*self._workers, *filter(None, [self._front])]
        return [each.pid for each in children if each.is_running] + self._broker.pids()

    async def kill(self) -> None:
        """Kill -9 the workers with all that they have started."""
        await asyncio.gather(*(worker.kill() for worker in self._workers))

    async def revive(self) -> None:
        """Start the workers."""
        self._workers = [
            self._child(f"worker-{number}", *self._filled(number))
            for number in range(self.recipe.workers)
        ]

    async def stop(self) -> None:
        """Kill front and workers, which have nothing to save, then end the broker."""
        children = [*self._workers, *filter(None, [self._front])]
        await asyncio.gather(*(child.kill() for child in children))
        await self._broker.stop()
        self._workers, self._front = [], None

    def _filled(self, number: int) -> list[str]:
        return [
            each.replace("{number}", str(number)).replace("{broker}", self._broker_url)
            for each in self.recipe.worker
        ]

    def _child(self, what: str, *arguments: str) -> Child:
        assert self._site is not None
        return Child(
            f"{self.name}-{what}",
            [self._environment.python, "-m", *arguments],
            directory=self._site.directory,
            environment={
                "PYTHONPATH": os.pathsep.join(
                    filter(None, (str(process.ROOT), os.environ.get("PYTHONPATH")))
                ),
                "BENCH_BROKER": self._broker_url,
                "BENCH_SINK": self._site.sink_url,
                "BENCH_SLOTS": str(SLOTS // WORKERS),
            },
        )

    async def _listening(self, child: Child, port: int) -> None:
        until = time.monotonic() + START_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
            if not child.is_running or time.monotonic() > until:
                raise RuntimeError(f"{child.name} did not start\n{child.tail}")
            await asyncio.sleep(process.POLL_S)
