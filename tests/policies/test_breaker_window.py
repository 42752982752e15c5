"""What a closed circuit remembers: exactly the latest calls, in bounded memory."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.breaker_window import SLICES, CountWindow, Tally, TimeWindow

CALL = st.tuples(st.booleans(), st.booleans())


@given(size=st.integers(1, 8), calls=st.lists(CALL, min_size=1, max_size=40))
def test_a_count_window_holds_the_latest_calls(size: int, calls: list[tuple[bool, bool]]) -> None:
    """Never one more, never one less."""
    window = CountWindow(size)

    tallies = [window.add(0.0, is_failure=bad, is_slow=slow) for bad, slow in calls]

    for end, tally in enumerate(tallies, start=1):
        latest = calls[max(0, end - size) : end]
        assert tally == Tally(
            len(latest), sum(bad for bad, _ in latest), sum(slow for _, slow in latest)
        )


@given(
    size_s=st.sampled_from([1.0, 10.0, 64.0]),
    steps=st.lists(st.tuples(st.floats(0, 20), CALL), min_size=1, max_size=40),
)
def test_a_time_window_holds_the_latest_seconds(
    size_s: float, steps: list[tuple[float, tuple[bool, bool]]]
) -> None:
    """All of the latest nine tenths, none that is older than the window."""
    window, now = TimeWindow(size_s), 1_000_000.0
    seen: list[tuple[float, bool, bool]] = []
    grain = 1e-6  # of float instants

    for step_s, (is_bad, is_slow) in steps:
        now += step_s
        seen.append((now, is_bad, is_slow))
        tally = window.add(now, is_failure=is_bad, is_slow=is_slow)

        surely = [call for call in seen if now - call[0] < size_s * (SLICES - 1) / SLICES - grain]
        perhaps = [call for call in seen if now - call[0] <= size_s + grain]
        assert len(surely) <= tally.calls <= len(perhaps)
        assert sum(c[1] for c in surely) <= tally.failures <= sum(c[1] for c in perhaps)
        assert sum(c[2] for c in surely) <= tally.slow <= sum(c[2] for c in perhaps)


def test_a_time_window_forgets_slice_by_slice() -> None:
    """Ten calls, one a second: eleven seconds later the first is gone, the others count."""
    window = TimeWindow(10.0)

    tallies = [window.add(float(n), is_failure=True, is_slow=False).calls for n in range(15)]

    assert tallies[:10] == list(range(1, 11))
    assert set(tallies[10:]) == {10}


def test_a_time_window_keeps_ten_slices_however_many_calls() -> None:
    """Memory does not grow with traffic."""
    window = TimeWindow(100.0)

    for n in range(10_000):
        window.add(n * 0.37, is_failure=False, is_slow=False)

    assert len(window._slices) <= SLICES
    assert all(a.number < b.number for a, b in pairwise(window._slices))


def test_a_quiet_time_empties_a_time_window() -> None:
    """After an hour without a call the next one is alone."""
    window = TimeWindow(60.0)
    for _ in range(50):
        window.add(5.0, is_failure=True, is_slow=True)

    tally = window.add(5.0 + 3600.0, is_failure=False, is_slow=False)

    assert tally == Tally(1, 0, 0)
    assert math.isclose(window._slice_s, 6.0)
