"""One broken variant: where it differs from the source, what it breaks, and what has to notice."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLES = Path(__file__).parent / "table"
SIMULATION = "simulation"


class DoesNotApply(Exception):
    """The source no longer has the text in exactly one place: bring the table up to date."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One text of one file, and what takes its place."""

    file: str
    old: str
    new: str

    def edited(self, source: str) -> str:
        """Return the broken source. Raises: DoesNotApply."""
        n = source.count(self.old)
        if n != 1:
            raise DoesNotApply(f"{self.file} has this {n} times, not once: {self.old!r}")
        return source.replace(self.old, self.new)

    def apply(self, root: Path) -> None:
        """Break the file below `root`. Raises: DoesNotApply."""
        path = root / self.file
        path.write_text(self.edited(path.read_text(encoding="utf-8")), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A variant, as a row of the table tells it; nearly all take a single edit."""

    name: str
    edits: tuple[Edit, ...]
    breaks: str
    """The promise that it breaks, in one sentence."""
    caught_by: str = SIMULATION
    """Chaos by seed alone; or the test file that notices, where the simulation cannot."""

    @property
    def is_for_simulation(self) -> bool:
        """Whether seeds alone have to catch it."""
        return self.caught_by == SIMULATION


def read_table() -> list[Mutant]:
    """Read every mutant, in the order of the files' names."""
    return [
        _mutant(row)
        for path in sorted(TABLES.glob("*.toml"))
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    ]


def _mutant(row: Mapping[str, Any]) -> Mutant:
    """Read a row; `also` lists edits beside the first, for what no single one can break."""
    first = Edit(row["file"], row["old"], row["new"])
    others = [Edit(**each) for each in row.get("also", ())]
    caught_by = row.get("caught_by", SIMULATION)
    return Mutant(row["name"], (first, *others), row["breaks"], caught_by)
