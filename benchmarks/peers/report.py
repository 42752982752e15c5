"""The report of a sitting: JSON with every run, Markdown tables, and charts."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.peers import table
from benchmarks.peers.chart import Bar, bars
from benchmarks.peers.run import Run
from benchmarks.peers.sitting import Sitting

_CHARTS = (
    ("delivered-at-once", "full", "delivered_per_s", "{:,.0f}",
     "Delivered per second, a provider that answers at once"),
    ("delivered-50-ms", "slow", "delivered_per_s", "{:,.0f}",
     "Delivered per second, a provider that takes 50 ms"),
    ("cpu", "full", "cpu_s_per_1000", "{:.2f}",
     "CPU seconds per 1,000 delivered, all processes (less is better)"),
    ("delay", "steady", "delivery_p99_ms", "{:,.0f}",
     "Accepted to delivered, p99 in ms, at 100 per second (less is better)"),
)  # fmt: skip
_OURS, _CEILING = "clarion", "bare"


def write(sitting: Sitting, folder: Path) -> Path:
    """Write all of it into the folder and return the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(sitting.as_json(), indent=1) + "\n")
    drawn = [name for name, *what in _CHARTS if _draw(sitting, folder / f"{name}.svg", *what)]
    path = folder / "peers.md"
    path.write_text(markdown(sitting, drawn))
    return path


def markdown(sitting: Sitting, charts: list[str]) -> str:
    """Return the tables as Markdown, below the charts, above what was measured on what."""
    parts = ["# Clarion beside its peers", _machine(sitting)]
    parts.append("\n".join(f"- {each}" for each in sitting.conditions))
    parts.append(_table(*table.summary(sitting)))
    parts += [f"![{title}]({name}.svg)" for name, *_, title in _CHARTS if name in charts]
    for scenario in table.measured(sitting):
        parts.append(f"## {scenario.title[0].upper()}{scenario.title[1:]}")
        heads = ["", *(head for head, _ in table.columns(scenario))]
        parts.append(_table(heads, [list(row) for row in table.rows(sitting, scenario)]))
    parts.append("## Who took part")
    parts.append(_table(["", "versions", "set up"], _who(sitting), align="---"))
    if sitting.missing:
        parts.append("## What is missing")
        parts.append("\n".join(f"- {who}: {_line(why)}" for who, why in sitting.missing.items()))
    return "\n\n".join(parts) + "\n"


def _machine(sitting: Sitting) -> str:
    found = sitting.machine
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gb']:.0f} GB, Linux"
        f" {found['kernel']}, Python {found['python']}, SQLite {found['sqlite']}."
    )


def _who(sitting: Sitting) -> list[list[str]]:
    return [
        [name, ", ".join(f"{k} {v}" for k, v in sitting.versions.get(name, {}).items()),
         sitting.setups.get(name, "defaults")]
        for name in sitting.contestants()
    ]  # fmt: skip


def _table(heads: list[str], rows: list[list[str]], align: str = "---:") -> str:
    lines = [heads, ["---", *(align for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(why: str) -> str:
    return why.strip().splitlines()[0]


def _draw(sitting: Sitting, path: Path, scenario: str, figure: str, form: str, title: str) -> bool:
    runs = [run for name in sitting.contestants() if (run := sitting.middle(name, scenario))]
    found = [bar for run in runs if (bar := _bar(run, figure, form)) is not None]
    if found:
        path.write_text(bars(title, found))
    return bool(found)


def _bar(run: Run, figure: str, form: str) -> Bar | None:
    value = getattr(run, figure)
    if value is None:
        return None
    role = {_OURS: "ours", _CEILING: "ceiling"}.get(run.contestant, "peer")
    return Bar(run.contestant, value, form.format(value), role)
