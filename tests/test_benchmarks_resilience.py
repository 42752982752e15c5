"""The benchmark of resilience: what it plays, what it reads, and the rules that it models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.resilience import engine, notify, sitting
from benchmarks.resilience.notify import Balance
from benchmarks.resilience.stage import FIRST, SECOND, Pace, Record
from benchmarks.resilience.story import Call, Message, Story, figures
from benchmarks.resilience.trace import SICK, WELL, Trace, Trouble
from benchmarks.resilience.trial import trial_of

SHORT = Trace(Trouble.DEAD, 2.0, onset_s=20.0, recovery_s=40.0, end_s=60.0)


@pytest.mark.timeout(300)
async def test_resilience_is_measured_from_end_to_end():
    """Every trouble is played on sockets and in virtual time; nothing that was accepted is lost."""
    size = sitting.Size(
        pace=Pace(per_second=40.0, well_s=0.5, sick_s=1.5, again_s=0.5),
        rates=(1.0,),
        trace=replace(SHORT, per_second=0.0),
    )

    found = await sitting.measure(size, lambda _what: None)

    assert [each.trouble for each in found.trials] == list(Trouble)
    assert [each.trouble for each in found.beside] == list(Trouble)
    assert found.broken == 0
    dead = found.trials[0]
    assert dead.failed_calls > 0
    assert dead.fallback_s is not None
    assert [table.row_count for table in sitting.tables(found)] == [10, 8]


# --- what is read from a trial -------------------------------------------------------------------


def record(**fields):
    whole = {
        "began_at": 0.0, "onset_at": 10.0, "recovery_at": 20.0, "ended_at": 30.0, "accepted": 0,
        "created_at": {}, "taken": [], "marked": frozenset(), "failed_at": [],
    }  # fmt: skip
    return Record(**(whole | fields))


def test_a_failover_is_from_the_first_failure_to_the_other_providers_first_delivery():
    """Earlier deliveries of the other provider count for nothing."""
    taken = [(5.0, SECOND, "a"), (9.9, FIRST, "b"), (12.25, SECOND, "c")]

    found = trial_of(Trouble.DEAD, record(taken=taken, failed_at=[12.0, 12.1], accepted=3))

    assert (found.first_failure_s, found.fallback_s) == (2.0, 2.25)
    assert found.failover_ms == 250.0
    assert (found.failed_calls, found.lost) == (2, 0)


def test_what_is_kept_and_the_silence_are_of_the_sick_time():
    """Ten a second before, five a second in the sick time, and nothing for its first half."""
    well = [(n / 10, FIRST, f"w{n}") for n in range(100)]
    sick = [(15.0 + n / 10, SECOND, f"s{n}") for n in range(50)]

    found = trial_of(Trouble.HUNG, record(taken=well + sick, accepted=150))

    assert found.kept == pytest.approx(0.5)
    assert found.silence_ms == pytest.approx(5_000.0)


def test_full_traffic_is_back_when_it_stays():
    """One delivery among those of the other provider is a probe and no recovery."""
    probe = [(20.5, FIRST, "p")]
    other = [(20.0 + n / 10, SECOND, f"o{n}") for n in range(20)]
    back = [(22.0 + n / 10, FIRST, f"b{n}") for n in range(20)]

    found = trial_of(Trouble.DEAD, record(taken=probe + other + back, accepted=41))

    assert found.full_s == pytest.approx(2.0)


def test_what_never_arrived_and_what_came_twice_is_counted():
    """A benchmark that does not see a loss would praise it."""
    taken = [(11.0 + n, provider, id) for n, id in enumerate("ab") for provider in (FIRST, SECOND)]
    marked = frozenset({"b", "c"})

    found = trial_of(
        Trouble.DEAD, record(taken=taken, accepted=3, created_at={"a": 10.5}, marked=marked)
    )

    assert (found.lost, found.doubled, found.unmarked) == (1, 2, 1)
    assert found.sick_p99_ms == pytest.approx(500.0)


def test_a_provider_is_left_and_back_by_its_share_of_the_calls():
    """Both are told in seconds from the onset and from the recovery."""
    calls = [
        *(Call(20.0 + n * 0.05, SICK, False) for n in range(100)),
        *(Call(25.0 + n * 0.1, WELL, True) for n in range(150)),
        *(Call(40.0 + n * 0.1, WELL, True) for n in range(100)),
        *(Call(50.0 + n * 0.1, (SICK, WELL)[n % 2], True) for n in range(100)),
    ]
    messages = [Message(21.0, 22.0), Message(22.0, 40.0), Message(23.0, None), Message(50.0, 51.0)]

    found = figures(Story(calls, messages), SHORT)

    assert found.failed_calls == 100
    assert found.left_after_s == pytest.approx(4.8)
    assert found.back_after_s == pytest.approx(9.2, abs=0.5)
    assert (found.undelivered, found.late_share) == (1, pytest.approx(2 / 3))


# --- the model of the published rules ------------------------------------------------------------


def errors(balance, n, since):
    for number in range(n):
        balance.failed(SICK, since + number * 0.1)


def test_fifty_errors_in_a_minute_move_nothing_and_one_more_moves_ten_points():
    """The published limit is above 50."""
    balance = Balance()

    errors(balance, 50, 0.0)
    assert balance.weights == {SICK: 50, WELL: 50}
    balance.failed(SICK, 6.0)

    assert balance.weights == {SICK: 40, WELL: 60}


def test_weight_moves_once_a_minute_and_down_to_nothing():
    """A dead provider is left in about five minutes, not at once."""
    balance = Balance()

    seen = []
    for minute in range(7):
        errors(balance, 200, minute * 60.0)
        seen.append(balance.weights[SICK])

    assert seen == [40, 30, 20, 10, 0, 0, 0]


def test_old_errors_are_forgotten():
    """Forty-eight a minute for ever is what the rule does not see."""
    balance = Balance()

    for number in range(500):
        balance.failed(SICK, number * 1.25)

    assert balance.weights[SICK] == 50


def test_weight_comes_back_ten_points_every_quarter_of_an_hour():
    """By the clock, whether the provider is well or not."""
    balance = Balance()
    errors(balance, 60, 0.0)

    seen = []
    for at in range(300, 2100, 300):
        balance.tend_back(float(at))
        seen.append(balance.weights[SICK])

    assert seen == [40, 40, 40, 50, 50, 50]


def test_model_and_engine_go_through_the_same_trace():
    """Both deliver the messages of the bad time, and only the rules differ."""
    ours, theirs = figures(engine.run(SHORT), SHORT), figures(notify.run(SHORT), SHORT)

    assert list(SHORT.arrivals()) == list(SHORT.arrivals())
    assert (ours.undelivered, theirs.undelivered) == (0, 0)
    assert 0 < ours.failed_calls < theirs.failed_calls
