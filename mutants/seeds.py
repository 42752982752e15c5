"""Chaos, seed by seed, until a promise is broken: what runs inside the copy.

`python -m mutants.seeds N` prints one line of JSON: the seed that noticed and what it noticed, or
null twice. It ends with `HUNG` where a seed takes more CPU than any sound one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from clarion.testing.chaos import chaos, ends_at_s
from clarion.testing.invariant import examine

CPU_S = 20.0
"""A sound seed takes a third of a second. CPU, not wall time: a busy machine accuses nobody."""
HUNG = 3
SLIP = re.compile(r"\b(NameError|UnboundLocalError|AttributeError|ImportError|TypeError)\b")
"""A variant that dies of one of these is badly written; it shows nothing."""


def first_violation(seed: int) -> str | None:
    """Live through one seed; return the first broken promise."""
    with tempfile.TemporaryDirectory() as directory:
        world = chaos(seed, Path(directory))
        try:
            world.run(ends_at_s())
            violations = examine(world)
        except Exception as error:  # What the engine lets through is a find like any other.
            return f"raised {error!r}"
    # A slip of the pen is told first: whatever else it broke shows nothing.
    slips = [each for each in violations if SLIP.search(each)]
    return next(iter(slips or violations), None)


def hunt(seeds: int) -> tuple[int | None, str | None]:
    """Try seeds in order; return the first that finds something, and what."""
    for seed in range(seeds):
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        found = first_violation(seed)
        if found is not None:
            return seed, found
    return None, None


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    # Nothing gentler ends a loop that spins in virtual time.
    os._exit(HUNG)


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, _give_up)
    print(json.dumps(hunt(int(sys.argv[1]))))
