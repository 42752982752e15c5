"""Virtual environments of the peers, in the git-ignored `.bench` beside this package.

Each peer has one of its own: their requirements exclude each other (arq wants redis 5, others 8).
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.contestant import NotPrepared
from benchmarks.process import ROOT

FOLDER = ROOT / ".bench"
INSTALL_S = 600.0
_TAIL_LINES = 3


@dataclass(frozen=True, slots=True)
class Environment:
    """One virtual environment; `requirements` are pip's."""

    name: str
    requirements: Sequence[str]

    @property
    def directory(self) -> Path:
        """Where it is."""
        return FOLDER / self.name

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.directory / "bin" / "python")

    def prepare(self) -> dict[str, str]:
        """Make it unless it is there; return what is installed. NotPrepared if pip fails."""
        made_for = self.directory / "made-for.json"
        wanted = [sys.version, *self.requirements]
        if not made_for.exists() or json.loads(made_for.read_text()) != wanted:
            venv.create(self.directory, with_pip=True, clear=True)
            self._pip("install", "--quiet", *self.requirements)
            made_for.write_text(json.dumps(wanted))
        listed = json.loads(self._pip("list", "--format", "json"))
        return {each["name"].lower(): each["version"] for each in listed}

    def find(self, pattern: str) -> Path:
        """Return the one file of its packages that matches; NotPrepared if there is none."""
        for path in self.directory.glob(f"lib/python*/site-packages/{pattern}"):
            return path
        raise NotPrepared(f"{self.name} has no {pattern}: is it made for this machine?")

    def _pip(self, *arguments: str) -> str:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotPrepared(f"pip took longer than {INSTALL_S:.0f} s for {self.name}") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.strip().splitlines()[-_TAIL_LINES:])
            raise NotPrepared(
                f"{', '.join(self.requirements)} could not be installed."
                f" Is there a network, with PyPI or a mirror in it? pip says: {said}"
            )
        return done.stdout
