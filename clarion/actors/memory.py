"""What the Supervisor has to know again after a crash, and nobody else could tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from clarion.actors.supervisor_messages import CircuitReport
from clarion.domain.outcome import Health


@dataclass(slots=True)
class Memory:
    """What outlives the Supervisor's instances: the operators' word, and the last reports."""

    disabled: set[str] = field(default_factory=set)
    reports: dict[str, CircuitReport] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    lingering: dict[str, frozenset[tuple[str, int]]] = field(default_factory=dict)
    """Provider -> calls that are over but for their threads, which keep their slots."""
    started: set[str] = field(default_factory=set)
    """Providers that have started once."""
    down: set[str] = field(default_factory=set)
    """Names of providers' and breakers' actors that crashed and have not started again."""
    windows: dict[str, int | None] = field(default_factory=dict)
    """Provider -> its places while it ramps up."""
    kept_pauses: dict[str, float] = field(default_factory=dict)
    """Provider -> until when (monotonic) the disk knows that it wants to be left alone."""
    epoch: int = 0
    demand: int = 0
