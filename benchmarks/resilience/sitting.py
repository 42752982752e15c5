"""All of it in one sitting: the troubles on real sockets, then in virtual time beside a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rich.table import Table

from benchmarks.resilience import engine, notify, stage
from benchmarks.resilience.stage import Pace
from benchmarks.resilience.story import Figures, figures
from benchmarks.resilience.trace import Trace, Trouble
from benchmarks.resilience.trial import Trial, trial_of


@dataclass(frozen=True, slots=True)
class Size:
    """How much is played."""

    pace: Pace = field(default_factory=Pace)
    rates: tuple[float, ...] = (0.5, 3.0)
    """Messages a second in virtual time: a quiet hour and a busy one."""
    trace: Trace = field(default_factory=lambda: Trace(Trouble.DEAD, 0.0))
    """Its instants; the trouble and the rate are of each run."""


@dataclass(frozen=True, slots=True)
class Beside:
    """One trace, gone through by Clarion's engine and by the model of GOV.UK Notify's rules."""

    trouble: Trouble
    per_second: float
    clarion: Figures
    notify: Figures


@dataclass(frozen=True, slots=True)
class Resilience:
    """Everything that was found."""

    trials: list[Trial]
    beside: list[Beside]

    @property
    def broken(self) -> int:
        """Accepted and never delivered, or doubled in silence, over all: has to be 0."""
        return sum(each.lost + each.unmarked for each in self.trials) + sum(
            each.clarion.undelivered for each in self.beside
        )


async def measure(size: Size, say: Callable[[str], None]) -> Resilience:
    """Play every trouble; `say` hears what goes on."""
    trials: list[Trial] = []
    for trouble in Trouble:
        say(f"one of two providers: {trouble}")
        trials.append(trial_of(trouble, await stage.play(trouble, size.pace)))
    beside: list[Beside] = []
    for per_second in size.rates:
        for trouble in Trouble:
            say(f"{trouble}, {per_second:g}/s, in virtual time")
            trace = replace(size.trace, trouble=trouble, per_second=per_second)
            # The virtual loop needs a thread without a running one.
            beside.append(await asyncio.to_thread(_both, trace))
    return Resilience(trials, beside)


def _both(trace: Trace) -> Beside:
    return Beside(
        trace.trouble, trace.per_second,
        figures(engine.run(trace), trace), figures(notify.run(trace), trace),
    )  # fmt: skip


# --- tables --------------------------------------------------------------------------------------


def tables(found: Resilience) -> list[Table]:
    """Draw it."""
    return [_trial_table(found.trials), _beside_table(found.beside)]


def _trial_table(trials: list[Trial]) -> Table:
    table = Table(
        title="The preferred of two providers is sick: ms, real processes and sockets",
        caption=(
            f"circuit open {stage.OPEN_S:g} s, call limit {stage.CALL_LIMIT_S:g} s,"
            f" grace {stage.GRACE_S:g} s, {stage.SLOTS} slots"
        ),
    )
    table.add_column("")
    for trial in trials:
        table.add_column(trial.trouble, justify="right")
    rows: tuple[tuple[str, Callable[[Trial], str]], ...] = (
        ("onset to first failed call", lambda each: _ms(each.first_failure_s)),
        ("onset to first by fallback", lambda each: _ms(each.fallback_s)),
        ("failed call to fallback", _failover),
        ("throughput kept", lambda each: f"{each.kept:.0%}"),
        ("longest silence", lambda each: f"{each.silence_ms:.0f}"),
        ("p50, well -> sick",
         lambda each: f"{each.well_p50_ms:.1f} -> {each.sick_p50_ms:.1f}"),
        ("p99, well -> sick",
         lambda each: f"{each.well_p99_ms:.0f} -> {each.sick_p99_ms:.0f}"),
        ("recovery to full traffic", lambda each: _ms(each.full_s)),
        ("failed calls", lambda each: str(each.failed_calls)),
        ("lost / twice / unmarked",
         lambda each: f"{each.lost} / {each.doubled} / {each.unmarked}"),
    )  # fmt: skip
    for name, cell in rows:
        table.add_row(name, *map(cell, trials))
    return table


def _beside_table(beside: list[Beside]) -> Table:
    table = Table(
        title="Clarion beside a model of GOV.UK Notify's published rules, on the same traces",
        caption="ten minutes of trouble in virtual time; each provider has half of the traffic",
    )
    table.add_column("")
    table.add_column("")
    for name in ("failed calls", "left, s", "back, s", "p50 s", "p99 s", "late"):
        table.add_column(name, justify="right")
    for each in beside:
        for who, found in (("Clarion", each.clarion), ("model", each.notify)):
            table.add_row(
                f"{each.trouble}, {each.per_second:g}/s" if who == "Clarion" else "", who,
                str(found.failed_calls), _s(found.left_after_s), _back(found),
                f"{found.delay_p50_s:.2f}", f"{found.delay_p99_s:.1f}", f"{found.late_share:.1%}",
                end_section=who == "model",
            )  # fmt: skip
    return table


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1000.0:,.0f}"


def _failover(trial: Trial) -> str:
    ms = trial.failover_ms
    if ms is None:
        return "none"
    return f"{ms:.1f}" if ms >= 0 else f"{-ms:,.0f} before it"


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:,.0f}"


def _back(found: Figures) -> str:
    return "stayed" if found.left_after_s is None else _s(found.back_after_s)
