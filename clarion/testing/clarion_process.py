"""Clarion as a process of its own: what a test of kill -9 needs.

The process is a real one, started by `python -m clarion serve` in a directory of the test. It
outlives nothing: leaving the context kills it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import aiohttp

import clarion.errors
from clarion.testing.client import POLL_S, ClarionClient

_PACKAGE_ROOT = Path(clarion.errors.__file__).resolve().parent.parent
_LOG_TAIL_CHARS = 4000


class ClarionProcess:
    """One `clarion serve`, to be started, killed and started again on the same files and port.

    `settings` is relative to `directory`; `env` is added to this process's environment. Output
    of all its lives goes to `clarion.log` in the directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: str | Path = "settings.toml",
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        api_key: str = "",
    ) -> None:
        self.directory = directory
        self.port = free_port() if port is None else port
        self.client = ClarionClient(self.url, api_key=api_key)
        self.log_path = directory / "clarion.log"
        self._settings = settings
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> Sequence[str]:
        """What is run."""
        return (
            sys.executable, "-m", "clarion", "serve",
            "--settings", str(self._settings), "--port", str(self.port),
        )  # fmt: skip

    @property
    def pid(self) -> int | None:
        """The process id; None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code of the latest life (negative: the signal); None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that it wrote so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self, timeout_s: float = 20.0) -> None:
        """Start it and wait until it is ready; RuntimeError with its log when it is not."""
        self.spawn()
        await self.wait_ready(timeout_s)

    def spawn(self) -> None:
        """Start it without waiting."""
        if self.is_running:
            raise RuntimeError(f"it runs already, as process {self.pid}")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                self.command, cwd=self.directory, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    async def wait_ready(self, timeout_s: float = 20.0) -> None:
        """Wait for a 200 of GET /readyz; RuntimeError with the end of the log otherwise."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._is_ready():
                    if not self.is_running:
                        raise self._failure(f"exited with {self.returncode}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise self._failure(f"was not ready within {timeout_s} s") from None

    def signal(self, number: int) -> None:
        """Send it a signal, as SIGSTOP and SIGCONT."""
        if self._process is not None:
            self._process.send_signal(number)

    async def wait_death(self, timeout_s: float = 20.0) -> int:
        """Wait until it has ended by itself and return its exit code; else TimeoutError."""
        if self._process is None:
            raise RuntimeError("it was never started")
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"it lived on for {timeout_s} s\n{self._tail()}") from None
        finally:
            await self.client.close()

    async def kill(self) -> None:
        """Kill -9: no handler runs, nothing is flushed."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        await self.client.close()

    async def terminate(self, timeout_s: float = 30.0) -> int:
        """Ask it to shut down, wait, and return its exit code; killed and TimeoutError if late."""
        if self._process is None:
            raise RuntimeError("it was never started")
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            await self.kill()
            raise TimeoutError(f"no shutdown within {timeout_s} s\n{self._tail()}") from None
        finally:
            await self.client.close()

    async def aclose(self) -> None:
        """Kill it if it lives, and close the client."""
        await self.kill()

    async def _is_ready(self) -> bool:
        try:
            return (await self.client.request("GET", "/readyz")).status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    @property
    def environment(self) -> dict[str, str]:
        """What it runs with; good for a command of the same code, too."""
        path = os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, **self._env}

    def _failure(self, what: str) -> RuntimeError:
        return RuntimeError(f"clarion {what}\n{self._tail()}")

    def _tail(self) -> str:
        return self.log[-_LOG_TAIL_CHARS:]


class DyingProcess(ClarionProcess):
    """A process that dies at a point of `clarion.testing.dying_server`, once it is told to.

    As long as none is set it is the plain `clarion serve`.
    """

    point: str | None = None
    """Where the next life ends."""
    passage = 1
    """At which passage of the point, counted from 1."""
    is_lit = True
    """Whether passages count from the start on; else from SIGUSR1 on."""

    @property
    def command(self) -> Sequence[str]:
        """What is run."""
        if self.point is None:
            return super().command
        return (
            sys.executable, "-m", "clarion.testing.dying_server",
            "--settings", str(self._settings), "--port", str(self.port),
            "--point", self.point, "--passage", str(self.passage),
            *(() if self.is_lit else ("--unlit",)),
        )  # fmt: skip


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
