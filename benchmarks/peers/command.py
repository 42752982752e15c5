"""`python -m benchmarks peers`: prepare, measure, show, and write a report."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.peers import report, sitting, table
from benchmarks.peers.scenario import SCENARIOS
from benchmarks.peers.sitting import Sitting
from benchmarks.process import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_WIDTH_OF_A_FILE = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold a sitting, or write the report of one again; 1 if nobody could take part."""
    wanted = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    if wanted.report:
        held, *others = [Sitting.from_json(json.loads(each.read_text())) for each in wanted.report]
        for each in others:
            held.join(each)
    else:
        held = asyncio.run(_hold(wanted, console))
    for drawn in table.tables(held):
        console.print(drawn)
    for who, why in held.missing.items():
        console.print(f"[bold red]{who}:[/] {why}")
    if held.runs:
        console.print(f"[dim]written to {report.write(held, wanted.out)}[/]")
    return 0 if held.runs else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__)
    names = [each.name for each in sitting.everybody()]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME",
                        help=f"of {', '.join(names)}")  # fmt: skip
    scenarios = [each.name for each in SCENARIOS]
    parser.add_argument("--scenarios", nargs="+", choices=scenarios, default=scenarios)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a load")
    parser.add_argument("--rounds", type=int, default=1, help="turns of everybody")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--report", type=Path, nargs="+", metavar="JSON",
                        help="measure nothing: write one report of these sittings")  # fmt: skip
    return parser


async def _hold(wanted: argparse.Namespace, console: Console) -> Sitting:
    return await sitting.hold(
        [each for each in sitting.everybody() if each.name in wanted.only],
        [each for each in SCENARIOS if each.name in wanted.scenarios],
        seconds=wanted.seconds,
        rounds=wanted.rounds,
        say=lambda what: console.print(f"[dim]{what}[/]"),
    )
