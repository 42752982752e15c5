"""Classes of which nobody changes an instance."""

from __future__ import annotations

import pytest

from clarion.domain.value import value_class


@value_class
class Point:
    """What the tests below make."""

    x: int
    y: int = 0


def test_values_are_compared_and_hashed_by_their_fields():
    """They may be keys, as frozen ones may."""
    assert Point(1, 2) == Point(1, 2) != Point(2, 1)
    assert {Point(1): "here"}[Point(1, 0)] == "here"


def test_a_value_has_its_fields_and_no_others():
    """A name that is misspelt is an error at once."""
    with pytest.raises(AttributeError):
        Point(1).z = 3
