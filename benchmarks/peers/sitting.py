"""A sitting: every contestant in every scenario, in turns, so that all meet the same weather."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.peers import run
from benchmarks.peers.catalogue import RECIPES
from benchmarks.peers.contestant import Contestant, NotPrepared
from benchmarks.peers.own import Bare, Clarion, ClarionOnPostgresql
from benchmarks.peers.queued import QueuePeer
from benchmarks.peers.run import Run
from benchmarks.peers.scenario import Scenario

Say = Callable[[str], None]


@dataclass(slots=True)
class Sitting:
    """What was measured together."""

    machine: dict[str, Any]
    conditions: list[str]
    """A sentence or two for each sitting in it: there may be more than one, joined."""
    versions: dict[str, dict[str, str]]
    setups: dict[str, str]
    seconds: float
    rounds: int
    missing: dict[str, str] = field(default_factory=dict)
    """Contestants that could not take part, and runs that broke, each with its reason."""
    runs: list[Run] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Sitting:
        """Read it back."""
        return cls(**{**told, "runs": [Run(**each) for each in told["runs"]]})

    def join(self, other: Sitting) -> None:
        """Take the runs of another sitting in; figures are compared within a scenario only."""
        self.conditions += other.conditions
        self.versions |= other.versions
        self.missing |= other.missing
        self.runs += other.runs

    def middle(self, contestant: str, scenario: str) -> Run | None:
        """Return the run with the median rate, the lower one of two; None if there is none."""
        found = [
            each for each in self.runs if (each.contestant, each.scenario) == (contestant, scenario)
        ]
        found.sort(key=lambda each: each.delivered_per_s)
        return found[(len(found) - 1) // 2] if found else None

    def contestants(self) -> list[str]:
        """Return the names: Clarion, the peers from the fastest, and the ceiling last."""
        names = {each.contestant for each in self.runs}
        peers = sorted(names - {Clarion.name, Bare.name}, key=self._rate, reverse=True)
        return [n for n in (Clarion.name, *peers, Bare.name) if n in names]

    def _rate(self, contestant: str) -> float:
        rates = [r.delivered_per_s for r in self.runs if r.contestant == contestant]
        full = self.middle(contestant, "full")
        return median(rates) if full is None else full.delivered_per_s


def everybody() -> list[Contestant]:
    """Return all contestants in their order of turns."""
    return [Bare(), Clarion(), ClarionOnPostgresql(), *map(QueuePeer, RECIPES)]


def prepare(contestants: Sequence[Contestant], sitting: Sitting, say: Say) -> list[Contestant]:
    """Install what is missing; return those that can take part."""
    ready: list[Contestant] = []
    for each in contestants:
        say(f"preparing {each.name}")
        try:
            sitting.versions[each.name] = each.prepare()
        except NotPrepared as reason:
            sitting.missing[each.name] = str(reason)
            say(f"without {each.name}: {reason}")
        else:
            ready.append(each)
    return ready


async def hold(
    contestants: Sequence[Contestant],
    scenarios: Sequence[Scenario],
    *,
    seconds: float,
    rounds: int,
    say: Say,
) -> Sitting:
    """Prepare and measure everybody; a run that breaks is told of, and the others go on."""
    sitting = Sitting(
        machine=machine.describe(),
        conditions=[],
        versions={},
        setups={each.name: each.setup for each in RECIPES},
        seconds=seconds,
        rounds=rounds,
    )
    ready = prepare(contestants, sitting, say)
    sitting.machine |= {"load_before": machine.load()}
    before, started_at = machine.CpuTimes.now(), time.monotonic()
    for number in range(rounds):
        for scenario in scenarios:
            for each in ready:
                if not each.takes_part(scenario):
                    continue
                say(f"round {number + 1}: {each.name}, {scenario.title}")
                try:
                    found = await run.measure(each, scenario, seconds)
                except (RuntimeError, TimeoutError, OSError) as error:
                    sitting.missing[f"{each.name}, {scenario.name}"] = str(error)
                    say(f"{each.name} broke: {error}")
                else:
                    sitting.runs.append(found)
                    say(f"  {found.delivered_per_s:,.0f} delivered/s, load {machine.load():.1f}")
    sitting.machine |= {
        "stolen_share": before.stolen_share(machine.CpuTimes.now()),
        "load_after": machine.load(),
        "took_s": time.monotonic() - started_at,
    }
    sitting.conditions = [_conditions(sitting, [each.name for each in scenarios])]
    return sitting


def _conditions(sitting: Sitting, scenarios: Sequence[str]) -> str:
    found = sitting.machine
    rounds = "one round" if sitting.rounds == 1 else f"medians of {sitting.rounds} rounds"
    return (
        f"{', '.join(scenarios)}: loads of {sitting.seconds:g} s, {rounds}. Load average"
        f" {found['load_before']:.1f} before and {found['load_after']:.1f} after;"
        f" {found['stolen_share']:.0%} of the time was stolen by other machines. The sitting took"
        f" {found['took_s'] / 60:.0f} minutes."
    )
