"""Checks of the simulation that no broken engine is at hand for."""

from __future__ import annotations

import pytest

from clarion.testing import call_invariant
from clarion.testing.call_invariant import WASTED
from clarion.testing.simulated_provider import Beginning


class World:
    """Notes what it is accused of."""

    def __init__(self):
        self.violations = []

    def accuse(self, violation):
        self.violations.append(violation)


@pytest.mark.parametrize(
    ("numbers", "is_waste"),
    [
        ([1, 2, 3], False),
        ([WASTED + 1], False),
        ([WASTED + 2], True),
        ([1, WASTED + 3], True),
        # A provider that throttles for hours costs a little for each call, however long it does.
        (range(1, 40 * WASTED, 2), False),
    ],
)
def test_numbers_that_come_to_nothing_are_bounded_before_each_call(numbers, is_waste):
    """A job that is offered and refused in a circle uses them up by the hundred."""
    world = World()
    begun = [Beginning(float(n), float(n), "alpha", "01", n, "email") for n in numbers]

    call_invariant._check_wasted(world, begun)

    assert bool(world.violations) is is_waste
