"""The circuit breaker trying out a service: probes, and probes that hang.

What must not happen is named after bugs that other breakers have had.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clarion.errors import CircuitOpen
from clarion.policies.breaker import Breaker, Permit
from clarion.testing import ManualClock

TIMEOUT_S = 60.0
PROBE_S = 30.0

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


def half_open(breaker: Breaker, clock: ManualClock) -> Permit:
    """Fail it open, wait, and return its first probe."""
    fail(breaker, breaker.settings.failure_threshold)
    clock.advance(TIMEOUT_S)
    return breaker.acquire()


# --- half-open -----------------------------------------------------------------------------------


def test_half_open_does_not_admit_everyone(make: Make, clock: ManualClock) -> None:
    """Ten calls at once: one probe."""
    breaker = make()
    fail(breaker, 5)
    clock.advance(TIMEOUT_S)

    admitted = 0
    for _ in range(10):
        try:
            breaker.acquire()
        except CircuitOpen:
            continue
        admitted += 1

    assert admitted == 1


def test_good_probes_close_it(make: Make, clock: ManualClock) -> None:
    """`success_threshold` of them, one after the other."""
    breaker = make()

    half_open(breaker, clock).success()
    after_one = state(breaker)
    breaker.acquire().success()

    assert (after_one, state(breaker)) == ("half_open", "closed")
    assert breaker.snapshot().failures == 0


def test_probes_in_all_are_never_more_than_the_successes_needed(
    make: Make, clock: ManualClock
) -> None:
    """in flight + successes < success_threshold, however many `probes` may be out."""
    breaker = make(probes=5, success_threshold=3)
    half_open(breaker, clock).success()

    out = [breaker.acquire(), breaker.acquire()]

    refusal(breaker)
    for permit in out:
        permit.success()
    assert state(breaker) == "closed"


def test_two_probes_of_the_same_instant_are_two(make: Make, clock: ManualClock) -> None:
    """A probe is not known by its start: one settled twice must not free the other's slot."""
    breaker = make(probes=2, success_threshold=3)
    first = half_open(breaker, clock)
    second = breaker.acquire()

    first.release()
    first.release()
    third = breaker.acquire()
    refusal(breaker)
    second.release()
    third.release()

    assert state(breaker) == "half_open"


def test_one_failed_probe_opens_it_for_longer(make: Make, clock: ManualClock) -> None:
    """Other probes that are out are late then."""
    breaker = make(probes=2)
    first = half_open(breaker, clock)
    second = breaker.acquire()

    first.failure()
    second.success()

    assert state(breaker) == "open"
    assert breaker.snapshot().retry_after == pytest.approx(2 * TIMEOUT_S)


@pytest.mark.parametrize("way", ["ignore", "release"])
def test_a_probe_that_says_nothing_does_not_close_and_gives_its_slot_back(
    make: Make, clock: ManualClock, way: str
) -> None:
    """Cancelled or ignored: the next call is the probe."""
    breaker = make(success_threshold=1)

    getattr(half_open(breaker, clock), way)()
    before = state(breaker)
    breaker.acquire().success()

    assert (before, state(breaker)) == ("half_open", "closed")


def test_released_permits_never_exceed_the_limit(make: Make, clock: ManualClock) -> None:
    """Releasing a permit of the closed state frees no probe's slot."""
    breaker = make(failure_threshold=1)
    old = [breaker.acquire() for _ in range(5)]
    half_open(breaker, clock)

    for permit in old:
        permit.release()

    refusal(breaker)


def test_a_late_failure_does_not_reopen_a_half_open_circuit(make: Make, clock: ManualClock) -> None:
    """The call began before the trip and says nothing about now."""
    breaker = make(failure_threshold=1)
    late = breaker.acquire()
    probe = half_open(breaker, clock)

    late.failure()
    before = state(breaker)
    probe.success()

    assert before == "half_open"
    assert breaker.snapshot().late_results == 1


def test_a_late_success_is_no_good_probe(make: Make, clock: ManualClock) -> None:
    """Nor does it take part in closing."""
    breaker = make(failure_threshold=1, success_threshold=2)
    late = [breaker.acquire(), breaker.acquire()]
    half_open(breaker, clock)

    for permit in late:
        permit.success()

    assert state(breaker) == "half_open"


def test_a_slow_probe_has_failed(make: Make, clock: ManualClock) -> None:
    """Where slowness counts, a provider that crawls is not back."""
    breaker = make(window="count", slow_call=2.0)
    probe = half_open(breaker, clock)

    clock.advance(2.5)
    probe.success()

    assert state(breaker) == "open"


def test_a_slow_probe_that_was_cancelled_has_not_failed(make: Make, clock: ManualClock) -> None:
    """Cancellation says nothing, however long it took."""
    breaker = make(window="count", slow_call=2.0)
    probe = half_open(breaker, clock)

    clock.advance(2.5)
    probe.release()

    assert state(breaker) == "half_open"


def test_windows_and_minimum_calls_do_not_keep_it_half_open(make: Make, clock: ManualClock) -> None:
    """The verdict on probes needs no volume."""
    breaker = make(window="count", minimum_calls=100)

    half_open(breaker, clock).success()
    breaker.acquire().success()

    assert state(breaker) == "closed"


# --- a hung probe --------------------------------------------------------------------------------


def test_a_hung_probe_does_not_keep_it_half_open(make: Make, clock: ManualClock) -> None:
    """Its time limit over, the circuit is open as of that instant, and for longer."""
    breaker = make()
    half_open(breaker, clock)

    clock.advance(PROBE_S + 7.0)

    snapshot = breaker.snapshot()
    assert snapshot.state == "open"
    assert snapshot.retry_after == pytest.approx(2 * TIMEOUT_S - 7.0)
    assert refusal(breaker).retry_after == pytest.approx(2 * TIMEOUT_S - 7.0)


def test_the_late_result_of_a_hung_probe_changes_nothing(make: Make, clock: ManualClock) -> None:
    """Neither closes nor opens again."""
    breaker = make(success_threshold=1)
    probe = half_open(breaker, clock)

    clock.advance(PROBE_S)
    counted = probe.success()

    assert not counted
    assert (state(breaker), breaker.snapshot().late_results) == ("open", 1)


def test_lazy_and_timer_driven_evaluation_agree(make: Make, clock: ManualClock) -> None:
    """Whether a timer noticed the hung probe in time or a call did long after."""
    lazy, timed = make(), make()
    for breaker in (lazy, timed):
        fail(breaker, 5)
    clock.advance(TIMEOUT_S)
    for breaker in (lazy, timed):
        breaker.acquire()

    clock.advance(PROBE_S)
    timed.catch_up()
    clock.advance(2 * TIMEOUT_S)
    for breaker in (lazy, timed):
        breaker.acquire().success()

    assert lazy.snapshot() == timed.snapshot()


def test_looking_and_acting_agree_on_the_jitter(make: Make, clock: ManualClock) -> None:
    """What a snapshot says of a hung probe is what the transition then does."""
    draws = iter(n / 100 for n in range(100))
    breaker = make(rng=lambda: next(draws), jitter=0.5)
    fail(breaker, 5)
    clock.advance(breaker.snapshot().retry_after or 0.0)
    breaker.acquire()

    clock.advance(PROBE_S + 1.0)
    looked = breaker.snapshot()
    breaker.catch_up()

    assert breaker.snapshot() == looked


def test_while_probes_are_out_it_tells_when_time_alone_admits_a_call(
    make: Make, clock: ManualClock
) -> None:
    """Who waits until `retry_at` is admitted though the probe never came back."""
    breaker = make()
    half_open(breaker, clock)

    wait_s = refusal(breaker).retry_after
    assert wait_s == pytest.approx(PROBE_S + 2 * TIMEOUT_S)
    clock.advance(wait_s or 0.0)

    breaker.acquire()


def test_without_a_probe_out_it_stays_half_open_as_long_as_it_takes(
    make: Make, clock: ManualClock
) -> None:
    """Nobody calls for a day: the next call is a probe."""
    breaker = make()
    half_open(breaker, clock).success()

    clock.advance(86_400.0)

    assert state(breaker) == "half_open"
    assert breaker.snapshot().retry_at is None
    breaker.acquire()
