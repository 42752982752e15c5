"""A program of a contestant as a child process: started with a log, ended by its id.

A child is a session of its own, so that a signal from the terminal reaches it through us alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks import process

STOP_S = 10.0
_TAIL_CHARS = 2_000


class Child:
    """One running program; `name` is for people."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=directory, env={**os.environ, **environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    @property
    def tail(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-_TAIL_CHARS:] if self._log.exists() else ""

    async def wait(self, timeout_s: float) -> int:
        """Wait until it has ended and return its exit code; TimeoutError otherwise."""
        until = time.monotonic() + timeout_s
        while (code := self._process.poll()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name} has not ended within {timeout_s} s\n{self.tail}")
            await asyncio.sleep(process.POLL_S)
        return code

    async def kill(self) -> None:
        """Kill -9 it and all its descendants: no handler runs, nothing is flushed."""
        _kill(process.lives(self.pid))
        self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, and kill what is left of it and its descendants after a while."""
        living = process.lives(self.pid)
        if self.is_running:
            self._process.terminate()
        with suppress(TimeoutError):
            await self.wait(STOP_S)
        _kill(living)
        self._process.wait()


def _kill(living: Sequence[process.Life]) -> None:
    for life in living:
        if process.is_same(life):
            with suppress(ProcessLookupError):
                os.kill(life.pid, signal.SIGKILL)
