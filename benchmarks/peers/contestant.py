"""What takes part in a comparison, and what a run gives to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.peers.scenario import Scenario

WORKERS = 2
"""One for each core of the machine that the budgets are written for."""
SLOTS = 32
"""Calls at the provider at a time, all workers of a contestant together."""


class NotPrepared(RuntimeError):
    """What a contestant needs is not here, and could not be installed."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where one run takes place."""

    directory: Path
    """Empty, and gone after the run."""
    sink_url: str
    fsync: str
    """When a Redis broker syncs its log: `always` or `everysec`."""


class Contestant(Protocol):
    """Accepts notifications by HTTP POST, keeps them, and delivers them by HTTP POST."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def takes_part(self, scenario: Scenario) -> bool:
        """Say whether it has what the scenario is about."""

    def prepare(self) -> dict[str, str]:
        """Install what it needs and return the versions; NotPrepared if that is impossible."""

    async def start(self, site: Site) -> int:
        """Start all of it and return the port on 127.0.0.1 that accepts notifications."""

    def pids(self) -> list[int]:
        """Return the roots of all its processes, the broker's included."""

    async def kill(self) -> None:
        """Kill -9 every process that delivers."""

    async def revive(self) -> None:
        """Start again what was killed, as a service manager would."""

    async def stop(self) -> None:
        """End all of it, whatever state it is in."""
