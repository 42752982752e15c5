"""What a sitting found, as tables: one for each scenario, the same columns on screen and paper."""

from __future__ import annotations

from collections.abc import Callable

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


def columns(scenario: Scenario) -> tuple[Column, ...]:
    """Return what is told of a run in this scenario."""
    return _DEATH if scenario.kills else _SPEED


def rows(sitting: Sitting, scenario: Scenario) -> list[tuple[str, ...]]:
    """Return name and cells of everybody who has a run in this scenario."""
    found = [(name, sitting.middle(name, scenario.name)) for name in sitting.contestants()]
    return [(name, *(cell(run) for _, cell in columns(scenario))) for name, run in found if run]


def measured(sitting: Sitting) -> list[Scenario]:
    """Return the scenarios of a sitting, in their order."""
    names = {run.scenario for run in sitting.runs}
    return [each for each in SCENARIOS if each.name in names]


def tables(sitting: Sitting) -> list[Table]:
    """Return the tables for a terminal."""
    return [_table(sitting, scenario) for scenario in measured(sitting)]


def _table(sitting: Sitting, scenario: Scenario) -> Table:
    table = Table(title=scenario.title)
    table.add_column("")
    for head, _ in columns(scenario):
        table.add_column(head, justify="right")
    for row in rows(sitting, scenario):
        table.add_row(*row, style="bold" if row[0] == "clarion" else None)
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
