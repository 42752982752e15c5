"""`make bench`, or `python -m benchmarks`: what Clarion costs, beside a pipeline without features.

Figures of one sitting belong together; see README.md in this directory for how to read them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import isolation, machine, scale, throughput
from benchmarks.isolation import Isolation
from benchmarks.micro import command as micro
from benchmarks.peers import command as peers
from benchmarks.resilience import sitting as resilience
from benchmarks.throughput import Comparison

PARTS = ("throughput", "scale", "isolation", "resilience")
COMMANDS = {"peers": peers.main, "micro": micro.main}
"""Parts with arguments of their own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print it, and return 0 unless something was lost."""
    asked = sys.argv[1:] if arguments is None else list(arguments)
    if asked and asked[0] in COMMANDS:
        return COMMANDS[asked[0]](asked[1:])
    wanted = _parser().parse_args(asked)
    console = Console()
    before = machine.CpuTimes.now()
    report: dict[str, Any] = {"machine": machine.describe()}
    missing = asyncio.run(_measure(wanted, console, report))
    report["machine"]["stolen_share"] = before.stolen_share(machine.CpuTimes.now())
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(report, indent=2) + "\n")
    console.print(_machine_line(report["machine"]))
    if missing:
        console.print(
            f"[bold red]{missing} accepted notifications were lost, or doubled in silence[/]"
        )
    return 1 if missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a load")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each pair")
    parser.add_argument("--slots", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the provider")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=scale.Size().rows, help="depths of a database"
    )
    parser.add_argument("--json", type=Path, help="write everything to this file, too")
    return parser


async def _measure(wanted: argparse.Namespace, console: Console, report: dict[str, Any]) -> int:
    parts = wanted.parts or PARTS
    missing = 0
    if "throughput" in parts:
        for slots in wanted.slots:
            found, runs = await throughput.compare(
                slots, seconds=wanted.seconds, rounds=wanted.rounds, latency_ms=wanted.latency_ms
            )
            missing += sum(run.missing for run in runs)
            report.setdefault("throughput", []).append([asdict(found), *map(asdict, runs)])
            console.print(_throughput_table(found))
    if "isolation" in parts:
        beside = await isolation.measure(wanted.rounds)
        report["isolation"] = asdict(beside)
        console.print(_isolation_table(beside))
    if "scale" in parts:
        size = scale.Size(rows=sorted(wanted.rows), rounds=wanted.rounds)
        depth = await scale.measure(size, lambda what: console.print(f"[dim]{what} …[/]"))
        report["scale"] = asdict(depth)
        console.print(*scale.tables(depth), sep="\n")
    if "resilience" in parts:
        trouble = await resilience.measure(
            resilience.Size(), lambda what: console.print(f"[dim]{what} …[/]")
        )
        missing += trouble.broken
        report["resilience"] = asdict(trouble)
        console.print(*resilience.tables(trouble), sep="\n")
    return missing


def _throughput_table(found: Comparison) -> Table:
    table = Table("", "Clarion", "bare", "ratio", title=f"{found.slots} slots")
    ours, theirs = found.clarion, found.bare
    table.add_row(
        "delivered/s", f"{ours.delivered_per_s:,.0f}", f"{theirs.delivered_per_s:,.0f}",
        f"{found.ratio:.2f}",
    )  # fmt: skip
    table.add_row(
        "CPU s per 1,000", f"{ours.cpu_s_per_1000:.2f}", f"{theirs.cpu_s_per_1000:.2f}",
        f"{found.cpu_ratio:.2f}",
    )  # fmt: skip
    for name, mine, other in (
        ("accept p50 ms", ours.accept_p50_ms, theirs.accept_p50_ms),
        ("accept p99 ms", ours.accept_p99_ms, theirs.accept_p99_ms),
    ):
        table.add_row(name, f"{mine:.1f}", f"{other:.1f}", f"{mine / other:.2f}")
    table.add_row("not delivered", str(ours.missing), str(theirs.missing), "")
    return table


def _isolation_table(found: Isolation) -> Table:
    table = Table("", "", title="text messages beside an e-mail provider")
    table.add_row("that is well, delivered/s", f"{found.well_per_s:,.0f}")
    table.add_row("that hangs, delivered/s", f"{found.hanging_per_s:,.0f}")
    table.add_row("ratio", f"{found.ratio:.2f}")
    return table


def _machine_line(found: dict[str, Any]) -> str:
    return (
        f"{found['cpu']}, {found['cores']} cores, Python {found['python']},"
        f" SQLite {found['sqlite']}, load {found['load_before']:.1f} at the start,"
        f" {found['stolen_share']:.0%} of the time stolen by other machines"
    )


if __name__ == "__main__":
    sys.exit(main())
