"""Ids are ordered by time, and by their making where the clock does not help."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.identifier import IdSource, encode, floor_id, made_at

INSTANT = st.floats(0, 2**47 / 1000)
BITS = (1 << 79) - 1


@given(instants=st.lists(INSTANT, min_size=2, max_size=20), bits=st.integers(0, BITS))
def test_each_id_is_greater_than_all_before(instants: list[float], bits: int) -> None:
    """Also in one millisecond, also when the wall clock steps back."""
    times = iter(instants)
    source = IdSource(lambda: next(times), lambda _n: bits)

    ids = [source.next() for _ in instants]

    assert ids == sorted(set(ids))
    assert {len(each) for each in ids} == {26}


@given(at=INSTANT, later_s=st.floats(0.001, 1000), bits=st.integers(0, BITS))
def test_an_id_lies_between_the_floors_of_its_time(at: float, later_s: float, bits: int) -> None:
    """So the ids of a span of time are a range."""
    made = IdSource(lambda: at, lambda _n: bits).next()

    assert floor_id(at) <= made < floor_id(at + later_s + 0.001)


@given(one=st.integers(0, 2**128 - 1), two=st.integers(0, 2**128 - 1))
def test_text_sorts_as_numbers_do(one: int, two: int) -> None:
    """What a database orders by is the number."""
    assert (encode(one) < encode(two)) == (one < two)


@given(st.floats(0.0, 4e9), st.integers(0, 2**79 - 1))
def test_an_id_tells_when_it_was_made(at, bits):
    """To the millisecond."""
    made = IdSource(lambda: at, lambda _n: bits).next()

    assert at - 0.001 <= made_at(made) <= at + 0.001


@pytest.mark.parametrize("id", ["", "é" * 26, "not an id", "u" * 26])
def test_what_is_no_id_was_made_never(id):
    """Whatever stands in a row that damage made."""
    assert made_at(id) == 0.0
