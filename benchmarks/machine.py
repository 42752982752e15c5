"""On what was measured: the machine, its load, and the versions; figures mean little without."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("clarion", "aiohttp", "uvloop", "SQLAlchemy", "pykka", "pydantic", "msgspec")
_STOLEN = 7
"""Column of /proc/stat: time that the hypervisor gave to other machines."""


def describe() -> dict[str, Any]:
    """Return what a reader of the figures has to know."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "load_before": load(),
        **_versions(),
    }


def load() -> float:
    """Return how many processes wanted a core, on average over the last minute."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """How the machine has spent its time since it was started, in ticks."""

    stolen: int
    total: int

    @classmethod
    def now(cls) -> CpuTimes:
        """Read /proc/stat."""
        fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return cls(fields[_STOLEN], sum(fields[: _STOLEN + 1]))

    def stolen_share(self, later: CpuTimes) -> float:
        """Return which part of the time until `later` other machines had: figures sink with it."""
        return (later.stolen - self.stolen) / max(later.total - self.total, 1)
