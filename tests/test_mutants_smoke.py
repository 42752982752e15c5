"""The hunt for mutants: it catches what is broken, spares what is not, and names survivors."""

from __future__ import annotations

import pytest

from mutants.laboratory import laboratory
from mutants.mutant import ROOT, DoesNotApply, Edit, Mutant, read_table

SEEDS = 6
SAMPLE = ("record-not-updated", "calls-not-loaded", "end-not-counted")
"""Each of these is noticed by nearly every seed."""
BY_A_TEST = "one-failure-too-many"
VERDICT = "clarion/policies/verdict.py"


@pytest.fixture(scope="module")
def house():
    with laboratory() as found:
        yield found


def variant(old, new, caught_by="simulation"):
    return Mutant("variant", (Edit(VERDICT, old, new),), "Nothing.", caught_by)


@pytest.mark.parametrize("name", [*SAMPLE, BY_A_TEST])
def test_a_mutant_is_caught(house, name):
    """By the simulation, or by the test that the table names."""
    (mutant,) = (each for each in read_table() if each.name == name)

    result = house.try_out(mutant, SEEDS)

    assert result.fate == "caught", result
    assert result.how
    assert result.by == (mutant.caught_by if name == BY_A_TEST else result.by)


def test_the_unbroken_source_survives(house):
    """Whatever is caught is caught because it is broken."""
    assert house.try_sound(3).fate == "survived"


@pytest.mark.parametrize(
    ("caught_by", "fate"),
    [
        ("simulation", "survived"),
        ("tests/policies/test_retry.py", "survived"),
        ("tests/policies/test_of_nothing.py", "misshapen"),
    ],
)
def test_nothing_is_caught_without_a_find(house, caught_by, fate):
    """A variant that breaks nothing survives; a test that is not there catches nothing."""
    harmless = variant("POISON_BUGS = 3", "POISON_BUGS = 1 + 2", caught_by)

    assert house.try_out(harmless, 2).fate == fate


def test_a_slip_of_the_pen_is_no_catch(house):
    """A variant that dies of a name that is not there says nothing about the promises."""
    slip = variant("return End(Status.SENT)", "return Ent(Status.SENT)")

    assert house.try_out(slip, 2).fate == "misshapen"


def test_a_text_that_is_not_there_once_is_told(house):
    """The source moved on, and the table did not."""
    for old in ("no such text", "job"):
        with pytest.raises(DoesNotApply):
            house.try_out(variant(old, ""), 1)


def test_the_working_tree_stays_as_it_is(house):
    """Variants are made of copies."""
    before = (ROOT / VERDICT).read_bytes()
    house.try_out(variant("if bugs >= POISON_BUGS:", "if False:"), 1)

    assert (ROOT / VERDICT).read_bytes() == before
