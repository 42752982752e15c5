"""Half of a soak: seeds of the simulation on every core, for minutes.

`make soak MINUTES=10` runs it; the other half is `tests/chaos/test_soak.py`, with real processes.
"""

from __future__ import annotations

import os
import random

import pytest

from clarion.testing.soak import soak

MINUTES = float(os.environ.get("CLARION_SOAK_MINUTES", "1")) / 2
SEED = int(os.environ.get("CLARION_SOAK_SEED", str(random.SystemRandom().randrange(2**32))))
LAST_WORLDS_S = 600.0
"""The worlds that are begun in time end after it, and a story may have to be cut down."""


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + LAST_WORLDS_S)
def test_no_seed_of_minutes_breaks_a_promise(tmp_path, monkeypatch):
    """A seed that does is cut down to the least story, which is told."""
    if "CLARION_STORIES" not in os.environ:
        monkeypatch.setenv("CLARION_STORIES", str(tmp_path))

    total = soak(MINUTES, SEED, print)

    assert not total.reports, "\n" + "\n\n".join(total.reports)
    assert total.worlds
