"""`python -m benchmarks micro`: single parts beside the libraries that do the same."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.micro.case import OURS, Found
from benchmarks.peers.contestant import NotPrepared
from benchmarks.peers.environment import Environment
from benchmarks.process import ROOT

PEERS = (
    "aiobreaker", "circuitbreaker", "hyx", "purgatory", "pybreaker", "pykka", "stamina", "tenacity",
)  # fmt: skip
RESULTS = ROOT / "benchmarks" / "results"
LIMIT_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the libraries, time everything in a process that has them, and show it."""
    wanted = _parser().parse_args(arguments)
    console = Console()
    environment = Environment("micro", (*PEERS, "uvloop", "--editable", str(ROOT)))
    console.print("[dim]preparing the libraries[/]")
    try:
        versions = environment.prepare()
    except NotPrepared as reason:
        console.print(f"[bold red]nothing is measured:[/] {reason}")
        return 1
    named = {each: versions[each] for each in ("clarion", *PEERS)}
    told = _measure(environment, wanted.count, wanted.rounds)
    found = [Found(**each) for each in told]
    for each in found:
        console.print(_table(each))
    wanted.out.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine.describe(), "versions": named, "groups": told}
    (wanted.out / "micro.json").write_text(json.dumps(kept, indent=1) + "\n")
    (wanted.out / "micro.md").write_text(markdown(found, named))
    console.print(f"[dim]written to {wanted.out / 'micro.md'}[/]")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks micro", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="times of each part")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each library")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    return parser


def _measure(environment: Environment, count: int, rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        result = Path(name) / "micro.json"
        subprocess.run(
            [environment.python, "-m", "benchmarks.micro.measure", "--json", str(result),
             "--count", str(count), "--rounds", str(rounds)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=LIMIT_S, check=True,
        )  # fmt: skip
        told: list[dict[str, Any]] = json.loads(result.read_text())
    return told


def markdown(found: Sequence[Found], versions: dict[str, str]) -> str:
    """Return the tables as Markdown."""
    parts = ["# Single parts beside other libraries"]
    for each in found:
        rows = [f"| {name} | {us:.2f} | {_times(each, name)} |" for name, us in each.us.items()]
        head = [f"| {each.title} | µs | by ours |", "|---|---:|---:|"]
        parts.append("\n".join([*head, *rows]))
    parts.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return "\n\n".join(parts) + "\n"


def _table(found: Found) -> Table:
    table = Table("", "µs", "by ours", title=found.title)
    for library, us in found.us.items():
        table.add_row(library, f"{us:.2f}", _times(found, library))
    return table


def _times(found: Found, library: str) -> str:
    return "" if library == OURS else f"{found.ratio(library):.2f}"
