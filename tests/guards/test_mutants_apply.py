"""The table of mutants fits the source: each text is there once, and what replaces it compiles."""

from __future__ import annotations

from collections import Counter

import pytest

from mutants.mutant import ROOT, SIMULATION, read_table

MUTANTS = read_table()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source(mutant):
    """Whoever changes a line that the table names brings the table up to date."""
    for edit in mutant.edits:
        broken = edit.edited((ROOT / edit.file).read_text(encoding="utf-8"))

        assert edit.old != edit.new
        compile(broken, edit.file, "exec")


def test_the_table_is_sound():
    """Names are unique, each says what it breaks, and each test that should notice is there."""
    names = Counter(mutant.name for mutant in MUTANTS)
    tests = {mutant.caught_by for mutant in MUTANTS} - {SIMULATION}

    assert not [name for name, n in names.items() if n > 1]
    assert all(mutant.breaks.endswith(".") for mutant in MUTANTS)
    assert not [test for test in tests if not (ROOT / test).is_file()]


def test_the_simulation_alone_has_enough_to_catch():
    """A table of what unit tests catch would say nothing about the simulation."""
    assert sum(mutant.is_for_simulation for mutant in MUTANTS) >= 60
