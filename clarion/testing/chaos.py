"""Chaos by seed: a story is drawn, staged, and has to end well.

`chaos` plans a `Simulation`; from `horizon_s` on all is well, and everything accepted has to end
before `ends_at_s`.
"""

from __future__ import annotations

from pathlib import Path

from clarion.testing.plot import Chaos, draw
from clarion.testing.simulation import Simulation
from clarion.testing.story import DRAIN_S


def chaos(seed: int, directory: Path, how: Chaos | None = None) -> Simulation:
    """Return the planned simulation of a seed; `run` it until `ends_at_s`."""
    return draw(seed, how or Chaos()).stage(directory)


def ends_at_s(how: Chaos | None = None) -> float:
    """Return when a simulation of this wildness is over at the latest, in virtual seconds."""
    return (how or Chaos()).horizon_s + DRAIN_S


__all__ = ["Chaos", "chaos", "ends_at_s"]
