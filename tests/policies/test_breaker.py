"""The circuit breaker closed, open, and steered, by example.

What must not happen is named after bugs that other breakers have had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from clarion.errors import CircuitOpen
from clarion.policies.breaker import Breaker
from clarion.policies.breaker_settings import BreakerSettings
from clarion.settings_table import BreakerTable
from clarion.testing import ManualClock

TIMEOUT_S = 60.0

Make = Callable[..., Breaker]


def state(breaker: Breaker) -> str:
    return breaker.snapshot().state


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.acquire().failure()


def refusal(breaker: Breaker) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught:
        breaker.acquire()
    return caught.value


# --- closed --------------------------------------------------------------------------------------


def test_failures_in_a_row_open_it(make: Make) -> None:
    """The threshold is reached by the failure itself, not by the next call."""
    breaker = make(failure_threshold=3)

    fail(breaker, 2)
    before = state(breaker)
    fail(breaker)

    assert (before, state(breaker)) == ("closed", "open")
    assert breaker.snapshot().failures == 3


def test_a_success_starts_the_count_over(make: Make) -> None:
    """Only failures in a row count."""
    breaker = make(failure_threshold=3)

    fail(breaker, 2)
    breaker.acquire().success()
    fail(breaker, 2)

    assert state(breaker) == "closed"


@pytest.mark.parametrize("way", ["ignore", "release"])
def test_what_is_ignored_neither_counts_nor_starts_over(make: Make, way: str) -> None:
    """Ignored and released results are neutral."""
    breaker = make(failure_threshold=3)

    fail(breaker, 2)
    getattr(breaker.acquire(), way)()
    after_ignored = breaker.snapshot().failures
    fail(breaker)

    assert after_ignored == 2
    assert state(breaker) == "open"


@pytest.mark.parametrize("window", ["count", "time"])
def test_failures_in_a_row_open_it_beside_a_window(make: Make, window: str) -> None:
    """A window adds a reason to open, it takes none away."""
    breaker = make(failure_threshold=3, window=window, minimum_calls=100)

    fail(breaker, 3)

    assert state(breaker) == "open"


def test_a_success_can_complete_the_calls_that_a_rate_needs(make: Make) -> None:
    """Rates are judged after every result, at or above the threshold."""
    breaker = make(failure_threshold=9, window="count", minimum_calls=4, failure_rate=0.5)

    fail(breaker, 2)
    breaker.acquire().success()
    before = state(breaker)
    breaker.acquire().success()

    assert (before, state(breaker)) == ("closed", "open")


def test_more_minimum_calls_than_the_window_holds_does_not_disable_it(make: Make) -> None:
    """`minimum_calls` is clamped to a count window's size."""
    breaker = make(failure_threshold=9, window="count", size=4, minimum_calls=50)

    fail(breaker, 4)

    assert state(breaker) == "open"


@pytest.mark.parametrize(("took_s", "expected"), [(2.0, "closed"), (2.001, "open")])
def test_slow_is_longer_than_slow_call(
    make: Make, clock: ManualClock, took_s: float, expected: str
) -> None:
    """A call of exactly `slow_call` is not slow."""
    breaker = make(window="count", minimum_calls=1, slow_call=2.0, slow_rate=1.0)
    permit = breaker.acquire()

    clock.advance(took_s)
    permit.success()

    assert state(breaker) == expected


def test_nothing_is_slow_unless_asked_for(make: Make, clock: ManualClock) -> None:
    """`slow_call` 0 is off."""
    breaker = make(window="count", minimum_calls=1)
    permit = breaker.acquire()

    clock.advance(3600.0)
    permit.success()

    assert state(breaker) == "closed"


# --- open ----------------------------------------------------------------------------------------


def test_open_it_rejects_and_says_for_how_long(make: Make, clock: ManualClock) -> None:
    """`retry_after` counts down in seconds."""
    breaker = make(failure_threshold=1)
    fail(breaker)

    clock.advance(20.0)

    assert refusal(breaker).retry_after == pytest.approx(40.0)
    assert breaker.snapshot().retry_after == pytest.approx(40.0)


def test_it_expires_at_its_time_not_after_it(make: Make, clock: ManualClock) -> None:
    """At or after; the transition comes with the first acquire."""
    breaker = make(failure_threshold=1)
    fail(breaker)

    clock.advance(TIMEOUT_S)
    before = breaker.snapshot()
    breaker.acquire()

    assert (before.state, before.retry_after) == ("open", 0.0)
    assert state(breaker) == "half_open"


def test_open_time_does_not_count_from_the_start_of_the_call(
    make: Make, clock: ManualClock
) -> None:
    """It counts from the failing result."""
    breaker = make(failure_threshold=1)
    permit = breaker.acquire()

    clock.advance(50.0)
    permit.failure()

    assert breaker.snapshot().retry_after == pytest.approx(TIMEOUT_S)


def test_failures_that_arrive_while_open_must_not_extend_it(make: Make, clock: ManualClock) -> None:
    """Late failures change nothing and are counted as late."""
    breaker = make(failure_threshold=1)
    permits = [breaker.acquire() for _ in range(3)]
    permits[0].failure()
    before = breaker.snapshot()

    clock.advance(10.0)
    counted = [permit.failure() for permit in permits[1:]]
    after = breaker.snapshot()

    assert counted == [False, False]
    assert (after.retry_at, after.open_count) == (before.retry_at, 1)
    assert after.late_results == 2


def test_a_late_success_does_not_close_an_open_circuit(make: Make) -> None:
    """A call from before the trip ends well: too late to matter."""
    breaker = make(failure_threshold=1, success_threshold=1)
    late = breaker.acquire()
    fail(breaker)

    late.success()

    assert state(breaker) == "open"


def test_open_time_grows_to_its_maximum_and_starts_over_on_close(
    make: Make, clock: ManualClock
) -> None:
    """60, 120, 240, ... at most `timeout_max`; a close forgets it."""
    breaker = make(failure_threshold=1, success_threshold=1, timeout_max=200.0)
    fail(breaker)

    waits = []
    for _ in range(4):
        waits.append(breaker.snapshot().retry_after)
        clock.advance(waits[-1] or 0.0)
        breaker.acquire().failure()
    clock.advance(200.0)
    breaker.acquire().success()
    fail(breaker)

    assert waits == pytest.approx([60.0, 120.0, 200.0, 200.0])
    assert breaker.snapshot().retry_after == pytest.approx(60.0)


def test_a_first_open_time_is_not_cut_by_the_maximum_of_the_growth(make: Make) -> None:
    """Who asks for an hour gets an hour, though `timeout_max` is 600 by default."""
    breaker = make(failure_threshold=1, timeout=3600.0)

    fail(breaker)

    assert breaker.snapshot().retry_after == pytest.approx(3600.0)


def test_growth_never_overflows(make: Make, clock: ManualClock) -> None:
    """A thousand openings in a row are an outage, not an OverflowError."""
    breaker = make(timeout_multiplier=1e9)
    breaker.restore(state="open", remaining_s=0.0, open_count=100_000)

    breaker.acquire().failure()

    assert breaker.snapshot().retry_after == pytest.approx(600.0)


def test_jitter_adds_its_share_on_top_also_at_the_maximum(make: Make) -> None:
    """A fleet that reached the maximum must not come back at once."""
    breaker = make(rng=lambda: 0.5, jitter=0.1, failure_threshold=1, timeout=600.0)

    fail(breaker)

    assert breaker.snapshot().retry_after == pytest.approx(630.0)


def test_each_opening_has_a_jitter_of_its_own(make: Make) -> None:
    """One draw for ever would keep a fleet in step."""
    draws = iter(n / 10 for n in range(10))
    breaker = make(rng=lambda: next(draws), jitter=1.0, failure_threshold=1)

    waits = set()
    for _ in range(4):
        fail(breaker)
        waits.add(breaker.snapshot().retry_after)
        breaker.reset()

    assert len(waits) == 4


def test_each_rejection_is_a_fresh_exception(make: Make) -> None:
    """One instance raised again and again would collect tracebacks."""
    breaker = make(failure_threshold=1)
    fail(breaker)

    assert refusal(breaker) is not refusal(breaker)


# --- operators -----------------------------------------------------------------------------------


def test_forced_open_it_rejects_until_reset(make: Make, clock: ManualClock) -> None:
    """There is no time after which it would try."""
    breaker = make()

    breaker.force_open()
    clock.advance(1e6)
    wait_s = refusal(breaker).retry_after
    breaker.reset()

    assert wait_s is None
    breaker.acquire()


def test_disabled_it_admits_whatever_happens(make: Make) -> None:
    """Results count for nothing until reset."""
    breaker = make(failure_threshold=2)

    breaker.disable()
    fail(breaker, 10)
    before = state(breaker)
    breaker.reset()
    fail(breaker)

    assert (before, state(breaker)) == ("disabled", "closed")


@pytest.mark.parametrize("turn", ["force_open", "disable", "reset"])
def test_results_from_before_an_operators_word_are_late(make: Make, turn: str) -> None:
    """Every change begins a generation, a manual one too."""
    breaker = make(failure_threshold=1)
    permit = breaker.acquire()

    getattr(breaker, turn)()
    before = state(breaker)

    assert not permit.failure()
    assert state(breaker) == before


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("closed", "closed"),
        ("open", "open"),
        ("half_open", "open"),
        ("forced_open", "forced_open"),
        ("disabled", "disabled"),
    ],
)
def test_it_goes_on_from_a_snapshot(make: Make, kept: str, expected: str) -> None:
    """After a crash; a half-open one has no probe of its own any more."""
    breaker = make()

    breaker.restore(state=kept, remaining_s=12.0, open_count=2)

    snapshot = breaker.snapshot()
    assert snapshot.state == expected
    assert snapshot.retry_after == (pytest.approx(12.0) if expected == "open" else None)


def test_a_restored_circuit_keeps_its_growth(make: Make, clock: ManualClock) -> None:
    """A crash must not bring a flapping provider back to the shortest open time."""
    breaker = make()
    breaker.restore(state="open", remaining_s=0.0, open_count=2)

    breaker.acquire().failure()

    assert breaker.snapshot().retry_after == pytest.approx(4 * TIMEOUT_S)


def test_an_unknown_state_is_not_restored(make: Make) -> None:
    """A word from elsewhere is refused, not believed."""
    with pytest.raises(ValueError, match="ajar"):
        make().restore(state="ajar", remaining_s=0.0, open_count=0)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_threshold", 0),
        ("failure_threshold", 2.5),
        ("failure_threshold", True),
        ("success_threshold", -1),
        ("probes", 0),
        ("size", 0),
        ("minimum_calls", 0),
        ("timeout", 0.0),
        ("timeout", float("inf")),
        ("timeout", "60"),
        ("timeout_max", -1.0),
        ("half_open_timeout", float("nan")),
        ("timeout_multiplier", 0.5),
        ("jitter", 1.5),
        ("jitter", -0.1),
        ("failure_rate", 0.0),
        ("failure_rate", 1.01),
        ("slow_rate", 0),
        ("slow_call", -1.0),
        ("window", "sliding"),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, value: object) -> None:
    """The message names the setting and the value."""
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        BreakerSettings(**{name: value})  # type: ignore[arg-type]


def test_the_settings_file_and_the_circuit_agree_on_keys_and_defaults() -> None:
    """`[providers.NAME.breaker]` has them all but `probes`, which is one there."""
    in_code = asdict(BreakerSettings())
    probes = in_code.pop("probes")

    assert BreakerTable().model_dump() == in_code
    assert probes == 1
