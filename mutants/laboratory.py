"""Where variants are tried: private copies of the source, never the working tree."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Literal

from mutants.mutant import ROOT, Mutant
from mutants.seeds import CPU_S, HUNG, SLIP

PARTS = ("clarion", "tests", "mutants", "pyproject.toml", "settings.toml")
LIMIT_S = 900.0
_FAILED = re.compile(r"^FAILED (\S+)", re.MULTILINE)

Fate = Literal["caught", "survived", "misshapen"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one variant."""

    name: str
    fate: Fate
    by: str
    """The seed or the test that noticed; "" for a survivor."""
    how: str
    """What it noticed."""
    took_s: float


class Laboratory:
    """A copy of the source, compiled once, from which each variant gets a copy of its own."""

    def __init__(self, directory: Path) -> None:
        self._stock = directory / "stock"
        self._stock.mkdir()
        for part in PARTS:
            _copy(ROOT / part, self._stock / part)
        # By hash: a variant as long as the original and written in the same second looks the same
        # to what goes by size and time.
        compileall.compile_dir(
            self._stock / "clarion",
            quiet=1,
            invalidation_mode=PycInvalidationMode.CHECKED_HASH,
        )

    def try_out(self, mutant: Mutant, seeds: int) -> Result:
        """Break one copy and look who notices. Raises: DoesNotApply."""
        with self._copy(mutant.name) as root:
            for edit in mutant.edits:
                edit.apply(root)
            if mutant.is_for_simulation:
                return _simulated(mutant.name, root, seeds)
            return _tested(mutant, root)

    def try_sound(self, seeds: int) -> Result:
        """Let the seeds look at an unbroken copy, where they must find nothing."""
        with self._copy("sound") as root:
            return _simulated("sound", root, seeds)

    @contextmanager
    def _copy(self, name: str) -> Iterator[Path]:
        root = self._stock.with_name(name)
        shutil.copytree(self._stock, root)
        try:
            yield root
        finally:
            shutil.rmtree(root)


@contextmanager
def laboratory() -> Iterator[Laboratory]:
    """Set one up for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="clarion-mutants-") as directory:
        yield Laboratory(Path(directory))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _simulated(name: str, root: Path, seeds: int) -> Result:
    began = time.monotonic()
    ran = _python(root, ["-m", "mutants.seeds", str(seeds)])
    took_s = time.monotonic() - began
    if ran.returncode == HUNG:
        return Result(name, "caught", "a seed", f"used up {CPU_S:g} s of CPU", took_s)
    if ran.returncode != 0:
        return Result(name, "misshapen", "", _last_line(ran.stderr), took_s)
    seed, how = json.loads(ran.stdout)
    if seed is None:
        return Result(name, "survived", "", f"{seeds} seeds found nothing", took_s)
    fate: Fate = "misshapen" if SLIP.search(how) else "caught"
    return Result(name, fate, f"seed {seed}", how, took_s)


def _tested(mutant: Mutant, root: Path) -> Result:
    began = time.monotonic()
    options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    ran = _python(root, ["-m", "pytest", *options, mutant.caught_by])
    took_s = time.monotonic() - began
    if ran.returncode == 0:
        return Result(mutant.name, "survived", "", f"{mutant.caught_by} passes", took_s)
    failed = _FAILED.search(ran.stdout)
    if ran.returncode != 1 or failed is None:
        return Result(mutant.name, "misshapen", "", _last_line(ran.stdout), took_s)
    test = failed.group(1).rpartition("::")[2]
    return Result(mutant.name, "caught", mutant.caught_by, test, took_s)


def _python(root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
