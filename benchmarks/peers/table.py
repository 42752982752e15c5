"""What a sitting found, as tables: one for each scenario, the same columns on screen and paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from benchmarks.peers.run import Run
from benchmarks.peers.scenario import SCENARIOS, Scenario
from benchmarks.peers.sitting import Sitting

Column = tuple[str, Callable[[Run], str]]

_SPEED: tuple[Column, ...] = (
    ("accepted/s", lambda run: f"{run.accepted_per_s:,.0f}"),
    ("delivered/s", lambda run: f"{run.delivered_per_s:,.0f}"),
    ("accept p50 ms", lambda run: f"{run.accept_p50_ms:.1f}"),
    ("accept p99 ms", lambda run: f"{run.accept_p99_ms:.1f}"),
    ("to delivery p50 ms", lambda run: f"{run.delivery_p50_ms:,.0f}"),
    ("to delivery p99 ms", lambda run: f"{run.delivery_p99_ms:,.0f}"),
    ("CPU s per 1,000", lambda run: _or_dash(run.cpu_s_per_1000, ".2f")),
    ("peak MB", lambda run: f"{run.peak_mb:,.0f}"),
    ("not delivered", lambda run: f"{run.undelivered:,}"),
    ("doubled", lambda run: f"{run.doubled:,}"),
)
_DEATH: tuple[Column, ...] = (
    ("accepted", lambda run: f"{run.accepted:,}"),
    ("not delivered", lambda run: f"{run.undelivered:,}"),
    ("doubled", lambda run: f"{run.doubled:,}"),
    ("all delivered after s", lambda run: _or_dash(run.recovered_s, ".1f")),
)
_SUMMARY: tuple[tuple[str, str, Callable[[Run], str]], ...] = (
    ("delivered/s", "full", lambda run: f"{run.delivered_per_s:,.0f}"),
    ("Redis relaxed", "relaxed", lambda run: f"{run.delivered_per_s:,.0f}"),
    ("at 50 ms", "slow", lambda run: f"{run.delivered_per_s:,.0f}"),
    ("10 % failing", "failing", lambda run: f"{run.delivered_per_s:,.0f}"),
    ("CPU s per 1,000", "full", lambda run: _or_dash(run.cpu_s_per_1000, ".2f")),
    ("peak MB", "full", lambda run: f"{run.peak_mb:,.0f}"),
    ("delay p99 ms at 100/s", "steady", lambda run: f"{run.delivery_p99_ms:,.0f}"),
    ("missing after kill -9", "killed", lambda run: f"{run.undelivered:,}"),
    ("doubled", "killed", lambda run: f"{run.doubled:,}"),
)
"""Heading, scenario, figure."""


def columns(scenario: Scenario) -> tuple[Column, ...]:
    """Return what is told of a run in this scenario."""
    return _DEATH if scenario.kills else _SPEED


def rows(sitting: Sitting, scenario: Scenario) -> list[tuple[str, ...]]:
    """Return name and cells of everybody who has a run in this scenario."""
    found = [(name, sitting.middle(name, scenario.name)) for name in sitting.contestants()]
    return [(name, *(cell(run) for _, cell in columns(scenario))) for name, run in found if run]


def summary(sitting: Sitting) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the one table with everybody's main figures."""
    names = [each.name for each in measured(sitting)]
    chosen = [(head, name, cell) for head, name, cell in _SUMMARY if name in names]
    found = [
        [who, *(_cell(sitting.middle(who, name), cell) for _, name, cell in chosen)]
        for who in sitting.contestants()
    ]
    return ["", *(head for head, *_ in chosen)], found


def _cell(run: Run | None, cell: Callable[[Run], str]) -> str:
    return "-" if run is None else cell(run)


def measured(sitting: Sitting) -> list[Scenario]:
    """Return the scenarios of a sitting, in their order."""
    names = {run.scenario for run in sitting.runs}
    return [each for each in SCENARIOS if each.name in names]


def tables(sitting: Sitting) -> list[Table]:
    """Return the tables for a terminal."""
    drawn = [
        _table(scenario.title, ["", *(head for head, _ in columns(scenario))], found)
        for scenario in measured(sitting)
        if (found := rows(sitting, scenario))
    ]
    return [*drawn, _table("all of it", *summary(sitting))]


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "clarion" else None)
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
