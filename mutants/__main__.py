"""`make mutants`, or `python -m mutants`: break the source in many ways, and name what survives."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from mutants.laboratory import Laboratory, Result, laboratory
from mutants.mutant import Mutant, read_table

SEEDS = 100
PROCESSES = 2
_COLOUR = {"caught": "green", "survived": "bold red", "misshapen": "bold yellow"}
_HOW_WIDTH = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Try out the mutants that are asked for; return 1 unless each is caught, for its own sake."""
    wanted = _parser().parse_args(arguments)
    console = Console()
    chosen = [each for each in read_table() if not wanted.names or each.name in wanted.names]
    with laboratory() as house:
        sound = house.try_sound(wanted.seeds)
        if sound.fate != "survived":
            console.print(f"[bold red]The unbroken source fails, too[/]: {sound.by}: {sound.how}")
            return 1
        results = _try_all(house, chosen, wanted, console)
    console.print(_table(chosen, results))
    escaped = [each for each in results if each.fate != "caught"]
    console.print(_summary(chosen, results))
    return 1 if escaped or not results else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the table; without: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="to try each with, at most")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    return parser


def _try_all(
    house: Laboratory, chosen: Sequence[Mutant], wanted: argparse.Namespace, console: Console
) -> list[Result]:
    results: list[Result] = []
    with ThreadPoolExecutor(wanted.processes) as pool:
        for result in pool.map(lambda each: house.try_out(each, wanted.seeds), chosen):
            colour = _COLOUR[result.fate]
            console.print(f"[{colour}]{result.fate:9}[/] {result.name}", highlight=False)
            results.append(result)
    return results


def _table(chosen: Sequence[Mutant], results: Sequence[Result]) -> Table:
    table = Table("mutant", "breaks", "caught by", "how", "s")
    table.columns[-1].justify = "right"
    for mutant, result in zip(chosen, results, strict=True):
        how = result.how.partition("\n")[0]
        by = result.by or f"[{_COLOUR[result.fate]}]{result.fate}[/]"
        table.add_row(result.name, mutant.breaks, by, how[:_HOW_WIDTH], f"{result.took_s:.1f}")
    return table


def _summary(chosen: Sequence[Mutant], results: Sequence[Result]) -> str:
    caught = [
        mutant for mutant, result in zip(chosen, results, strict=True) if result.fate == "caught"
    ]
    by_seeds = sum(mutant.is_for_simulation for mutant in caught)
    names = ", ".join(result.name for result in results if result.fate != "caught") or "none"
    return (
        f"{len(caught)} of {len(results)} caught, {by_seeds} of them by the simulation alone; "
        f"survivors: {names}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
