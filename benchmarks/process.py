"""The programs of a benchmark as child processes, and what they cost the machine.

Costs are read from /proc, so the benchmarks run on Linux only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
START_S = 20.0
STOP_S = 10.0
POLL_S = 0.02

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Positions in /proc/PID/stat behind the command, whose name may hold anything.
_STATE, _PARENT, _SESSION, _STARTED, _RSS = 0, 1, 3, 19, 21
_TIMES = slice(11, 15)
"""User and system time, of the process and of its children that have ended."""


@dataclass(frozen=True, slots=True)
class Program:
    """A child that listens on a loopback port."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def families(*pids: int) -> list[int]:
    """Return the processes, their descendants, and who is left of the sessions that they lead."""
    members: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                stat = _stat(int(entry.name))
                for root in {int(stat[_PARENT]), int(stat[_SESSION])}:
                    members.setdefault(root, []).append(int(entry.name))
    found = list(dict.fromkeys(pids))
    for each in found:
        found += [member for member in members.get(each, []) if member not in found]
    return found


@dataclass(frozen=True, slots=True)
class Life:
    """A process, told apart from a later one with the same id."""

    pid: int
    started: str
    """Ticks from the start of the machine."""


def lives(*pids: int) -> list[Life]:
    """Return the processes and all their descendants, to be ended later."""
    found: list[Life] = []
    for pid in families(*pids):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(Life(pid, _stat(pid)[_STARTED]))
    return found


def is_same(life: Life) -> bool:
    """Return whether the process still lives, and its id was not given to another."""
    try:
        stat = _stat(life.pid)
        return stat[_STARTED] == life.started and stat[_STATE] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pss_bytes(*pids: int) -> int:
    """Return the memory of the processes and their descendants, what they share counted once."""
    total = 0
    for each in families(*pids):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            total += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    return total


def cpu_s(*pids: int) -> float:
    """Return the CPU seconds that the processes and their descendants have used."""
    ticks = 0
    for each in families(*pids):
        with suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(map(int, _stat(each)[_TIMES]))
    return ticks / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Return the memory that the process and its descendants hold."""
    return sum(int(_stat(each)[_RSS]) for each in families(pid)) * _PAGE_BYTES


@asynccontextmanager
async def program(module: str, *arguments: object) -> AsyncIterator[Program]:
    """Run `python -m module` until the end of the block; it has to announce its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Program(process.pid, await _announced(process, module))
    finally:
        await _end(process)


async def _announced(process: asyncio.subprocess.Process, module: str) -> int:
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        line = await process.stdout.readline()
    if not line.startswith(b"listening "):
        raise RuntimeError(f"{module} did not start: {line!r}")
    return int(line.split()[1])


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def load(port: int, *, seconds: float, **options: object) -> dict[str, Any]:
    """Run the load generator to its end and return what it found (`load.Load`).

    Options are those of its command line: `connections`, `count`, `first`, `per_second`, `ledger`.
    """
    arguments: list[object] = ["--port", port, "--seconds", seconds]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", value]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", *map(str, arguments),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        await _end(process)
    if process.returncode != 0:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    found: dict[str, Any] = json.loads(output)
    return found


async def received(session: aiohttp.ClientSession, sink: Program) -> int:
    """Ask the sink how many it took."""
    async with session.get(f"{sink.url}/count") as response:
        told = await response.json()
    return int(told["received"])


async def wait_received(
    session: aiohttp.ClientSession, sink: Program, count: int, timeout_s: float
) -> int:
    """Wait until the sink took `count`; return what it took, fewer when the time is over."""
    taken = 0
    try:
        async with asyncio.timeout(timeout_s):
            while (taken := await received(session, sink)) < count:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    return taken
