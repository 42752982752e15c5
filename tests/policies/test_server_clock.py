"""Where a server's clock stands, from questions and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.server_clock import DRIFT, ServerClock


def test_an_instant_is_not_before_the_answer_that_showed_it():
    clock = ServerClock()

    clock.heard(10.0, 500.0, 10.4)

    assert clock.not_before(500.0) == pytest.approx(10.4)


def test_the_quickest_exchange_says_the_most():
    """A slow one after it does not make it worse, but for the drift since."""
    clock = ServerClock()

    clock.heard(10.0, 500.0, 10.001)
    clock.heard(11.0, 501.2, 11.4)

    assert abs(clock.not_before(501.2) - 11.2) < 0.002


def test_a_clock_that_was_set_is_followed():
    clock = ServerClock()

    clock.heard(10.0, 500.0, 10.001)
    clock.heard(11.0, 90.0, 11.001)

    assert clock.not_before(90.0) == pytest.approx(11.001)


@given(
    st.floats(-1e6, 1e6),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 0.3), st.floats(0.0, 0.3)), min_size=1),
    st.floats(-DRIFT / 4, DRIFT / 4),
)
def test_it_is_never_early(offset, exchanges, drift):
    """However the exchanges were delayed, what it says has come, and no later than the worst."""
    clock, now = ServerClock(), 100.0
    for pause_s, there_s, back_s in exchanges:
        now += pause_s
        seen_at = now + there_s
        shown = seen_at * (1 + drift) + offset
        clock.heard(now, shown, seen_at + back_s)

        assert clock.not_before(shown) >= seen_at - 1e-6
        assert clock.not_before(shown) <= seen_at + back_s + 1e-6
        now = seen_at + back_s
