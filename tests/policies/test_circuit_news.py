"""What news of a circuit mean to the circuit here, and what they look like on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.policies.breaker import BreakerSnapshot
from clarion.policies.circuit_news import FRESH_S, News, open_for, read, write

NOW = 1_800_000_000.0
LONGEST_S = 600.0


def circuit(state: str, retry_after: float | None = None) -> BreakerSnapshot:
    return BreakerSnapshot("acme", state, 0, retry_after, None, 0, 0, 0)  # type: ignore[arg-type]


def opened(remaining_s: float = 30.0) -> News:
    return News("open", "acme", "b", remaining_s, 1, NOW)


CLOSED = News("closed", "acme", "b", at=NOW)
PAUSED = News("paused", "acme", "b", 30.0, at=NOW)


@pytest.mark.parametrize(
    ("here", "news", "open_s"),
    [
        # A provider that another node found down is left alone for as long as that one does.
        (circuit("closed"), opened(30.0), 30.0),
        (circuit("closed"), opened(99_999.0), LONGEST_S),
        (circuit("closed"), opened(0.0), None),
        (circuit("closed"), opened(-5.0), None),
        # Open here, too: its own time holds.
        (circuit("open", 10.0), opened(30.0), None),
        (circuit("open", 0.0), opened(30.0), None),
        # A probe of our own decides.
        (circuit("half_open"), opened(30.0), None),
        (circuit("half_open"), CLOSED, None),
        # Closed elsewhere: probe at once.
        (circuit("open", 10.0), CLOSED, 0.0),
        (circuit("open", 0.0), CLOSED, None),
        (circuit("open", 10.0), replace(CLOSED, age_s=FRESH_S + 1.0), None),
        (circuit("closed"), CLOSED, None),
        # An operator's decision holds.
        (circuit("forced_open"), opened(30.0), None),
        (circuit("forced_open"), CLOSED, None),
        (circuit("disabled"), opened(30.0), None),
        # A pause opens no circuit.
        (circuit("closed"), PAUSED, None),
        (circuit("open", 10.0), PAUSED, None),
    ],
)
def test_what_news_mean(here, news, open_s):
    assert open_for(here, news, LONGEST_S, is_disproved=False) == open_s


@pytest.mark.parametrize(("open_count", "open_s"), [(1, 30.0), (2, None), (9, None)])
def test_a_node_whose_way_there_is_broken_does_not_shut_the_others_for_ever(open_count, open_s):
    """A probe from here succeeded since: only a circuit that had closed there and opens is news."""
    news = replace(opened(30.0), open_count=open_count)

    assert open_for(circuit("closed"), news, LONGEST_S, is_disproved=True) == open_s


def test_news_of_a_circuit_and_of_a_pause_replace_their_own_kind():
    assert opened().topic == CLOSED.topic
    assert PAUSED.topic != opened().topic


@given(
    st.sampled_from(["open", "closed", "paused"]), st.floats(0.0, 1e5), st.integers(0, 999),
    st.floats(0.0, 1e4),
)  # fmt: skip
def test_what_is_written_is_read_with_its_time_on_the_way_taken_off(kind, remaining_s, n, way_s):
    told = News(kind, "acme", "b", remaining_s, n)

    found = read(write(told, NOW), NOW + way_s)

    assert found is not None
    assert (found.kind, found.provider, found.node, found.open_count) == (kind, "acme", "b", n)
    assert found.remaining_s == pytest.approx(remaining_s - way_s, abs=1e-4)
    assert found.age_s == pytest.approx(way_s, abs=1e-4)


@pytest.mark.parametrize(
    "line",
    [
        "", "open", "open acme b 1 1 2 3", "shut acme b 1 1800000000 1800000030",
        "open acme b -1 1800000000 1800000030", "open acme b 9999 1800000000 1800000030",
        "open acme b 1 nan 1800000030", "open acme b 1 1800000000 nan",
        "open acme b 1 1800000000 inf", "open acme b x 1800000000 1800000030",
        "open acme b 1 1900000000 1900000030", "{}", "\x00",
    ],
)  # fmt: skip
def test_garbled_lines_say_nothing(line):
    assert read(line, NOW) is None


@given(st.text(), st.floats())
def test_no_line_whatsoever_crashes_its_reader(line, now):
    read(line, now)
