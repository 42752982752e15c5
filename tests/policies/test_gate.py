"""The gate: every obstacle with its words, slots as sets, tokens, the stall."""

from __future__ import annotations

from typing import Any

import pytest

from clarion.domain.outcome import Answer, Outcome
from clarion.policies.gate import Gate, Opening
from clarion.policies.rate_limit import TokenBucket

NOW = 1000.0
SPILL_S = 1.0
OK = Answer(Outcome.ACCEPTED, "ok")


def make_gate(*, per_second: float = 0.0, burst: int = 1, slots: int = 4, **fields: Any) -> Gate:
    gate = Gate("p", slots, TokenBucket(per_second, burst, lambda: NOW), is_known=True)
    for name, value in fields.items():
        setattr(gate, name, value)
    return gate


def send(gate: Gate, *keys: tuple[str, int], demand: int = 1, is_probe: bool = False) -> None:
    """Reserve and occupy a slot for each call."""
    gate.reserve(demand, len(keys), is_probe=is_probe, now=NOW)
    assert all(gate.occupy(demand, key, now=NOW) for key in keys)
    gate.release(demand, NOW)


def calls(n: int) -> list[tuple[str, int]]:
    return [(f"n{number}", 1) for number in range(n)]


# --- obstacles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"is_known": False}, "it has not started yet"),
        ({"is_alive": False}, "its actor is down"),
        ({"is_enabled": False}, "disabled by an operator"),
        (
            {"misconfigured_until": NOW + 300, "misconfigured_detail": "the key is revoked"},
            "misconfigured: the key is revoked",
        ),
        ({"throttled_until": NOW + 2.5}, "throttled for 2.5 s more"),
        ({"circuit": "forced_open"}, "circuit forced open by an operator"),
        ({"circuit": "open", "retry_at": NOW + 60}, "circuit open, next probe in 60.0 s"),
        ({"circuit": "half_open", "in_flight": {("n1", 1): True}}, "a probe is out"),
        ({"circuit": "half_open", "reserved": {1: (1, True)}}, "a probe is out"),
    ],
)
def test_each_trouble_of_the_provider_itself_shuts_it_and_says_so(
    fields: dict[str, Any], why: str
) -> None:
    """Support reads these words on the timeline; a shut gate passes the turn on."""
    assert make_gate(**fields).opening(NOW) == Opening(0, is_shut=True, why=why)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"in_flight": dict.fromkeys(calls(4), False)}, "all 4 slots are taken"),
        ({"reserved": {1: (3, False), 2: (1, False)}}, "all 4 slots are taken"),
        (
            {"in_flight": {("n1", 1): False}, "window": 1},
            "all 1 slots are taken, ramping up after its recovery",
        ),
    ],
)
def test_a_full_gate_is_not_shut(fields: dict[str, Any], why: str) -> None:
    """New work waits for its slots; it is not passed over."""
    assert make_gate(**fields).opening(NOW) == Opening(0, why=why)


def test_an_empty_bucket_is_not_shut_but_a_probe_without_a_token_is() -> None:
    """A limit of our own is no trouble of the provider."""
    gate = make_gate(per_second=1.0)
    send(gate, ("n1", 1))
    gate.free(("n1", 1), OK, NOW)

    closed = gate.opening(NOW)
    gate.set_circuit("half_open", None)
    probing = gate.opening(NOW)

    assert closed == Opening(0, why="its rate limit is reached")
    assert probing == Opening(0, is_shut=True, why="its rate limit is reached")


def test_the_first_obstacle_is_the_one_that_is_told() -> None:
    """In the order of the module's docstring: what has to be mended first comes first."""
    gate = make_gate(
        is_known=False, is_alive=False, is_enabled=False, misconfigured_until=NOW + 300,
        misconfigured_detail="x", throttled_until=NOW + 10, circuit="open", retry_at=NOW + 60,
    )  # fmt: skip
    mend: list[dict[str, Any]] = [
        {"is_known": True}, {"is_alive": True}, {"is_enabled": True},
        {"misconfigured_until": None}, {"throttled_until": 0.0}, {"circuit": "closed"},
    ]  # fmt: skip

    told = []
    for step in mend:
        told.append(gate.opening(NOW).why.split(" for ")[0].split(",")[0])
        for name, value in step.items():
            setattr(gate, name, value)

    assert told == [
        "it has not started yet", "its actor is down", "disabled by an operator",
        "misconfigured: x", "throttled", "circuit open",
    ]  # fmt: skip
    assert gate.opening(NOW) == Opening(4)


@pytest.mark.parametrize("circuit", ["closed", "disabled"])
def test_an_open_gate_lets_as_many_through_as_it_has_slots_and_tokens(circuit: str) -> None:
    """The smaller of the two."""
    assert make_gate(circuit=circuit).opening(NOW) == Opening(4)
    assert make_gate(circuit=circuit, per_second=1.0, burst=3).opening(NOW) == Opening(3)


@pytest.mark.parametrize("circuit", ["open", "half_open"])
def test_a_circuit_whose_time_has_come_lets_one_probe_through(circuit: str) -> None:
    """At its instant, not after; new work for everybody else goes elsewhere."""
    gate = make_gate(circuit=circuit, retry_at=NOW)

    assert gate.opening(NOW) == Opening(1, is_probe=True, is_shut=True)


@pytest.mark.parametrize(
    ("fields", "state", "words"),
    [
        ({"is_alive": False}, "down", "its actor is down"),
        ({"is_enabled": False}, "disabled", "disabled by an operator"),
        (
            {"misconfigured_until": NOW - 1, "misconfigured_detail": "no such sender"},
            "misconfigured",
            "misconfigured (no such sender)",
        ),
        ({"circuit": "open"}, "open", "circuit open, waiting for good probes"),
        ({"circuit": "half_open"}, "half_open", "circuit open, waiting for good probes"),
        ({"circuit": "forced_open"}, "forced_open", "circuit forced open by an operator"),
        ({"throttled_until": NOW + 1}, "throttled", "throttled by the provider"),
        ({"throttled_until": NOW}, "ok", ""),
        ({"window": 2}, "ramping", ""),
        ({"circuit": "disabled"}, "ok", ""),
        ({}, "ok", ""),
    ],
)
def test_it_names_its_state_for_people(fields: dict[str, Any], state: str, words: str) -> None:
    """What `/health`, `clarion status` and `held_reason` show, without countdowns."""
    gate = make_gate(**fields)

    assert (gate.state(NOW), gate.obstacle(NOW)) == (state, words)


# --- misconfigured -------------------------------------------------------------------------------


def test_a_misconfigured_provider_is_asked_for_its_health_once_before_a_real_send() -> None:
    """The health probe costs nobody's message."""
    gate = make_gate()
    gate.set_misconfigured(NOW + 300, "401")

    assert not gate.needs_health_probe(NOW + 299)
    assert gate.needs_health_probe(NOW + 300)
    gate.health_asked(NOW + 300)
    assert not gate.needs_health_probe(NOW + 300)
    assert gate.opening(NOW + 300).n == 0
    gate.is_health_good = True
    assert gate.opening(NOW + 300) == Opening(1, is_probe=True, is_shut=True)


def test_an_unhealthy_misconfigured_provider_is_asked_again_later() -> None:
    """With the words of the newest answer."""
    gate = make_gate()
    gate.set_misconfigured(NOW, "401")
    gate.health_asked(NOW)

    gate.put_off_misconfigured(NOW + 300, "still 401")

    assert not gate.needs_health_probe(NOW + 299)
    assert gate.needs_health_probe(NOW + 300)
    assert gate.opening(NOW).why == "misconfigured: still 401"


def test_a_mended_provider_ramps_up() -> None:
    """As after an open circuit; the same news twice starts nothing over."""
    gate = make_gate()
    gate.set_misconfigured(NOW, "401")
    gate.set_misconfigured(None, "")
    send(gate, ("n1", 1))
    gate.free(("n1", 1), OK, NOW)

    gate.set_misconfigured(None, "")

    assert gate.window == 2


# --- slots and tokens ----------------------------------------------------------------------------


def test_a_slot_freed_twice_is_free_once() -> None:
    """An answer and a deadline may both tell of the end of one call."""
    gate = make_gate(window=2)
    send(gate, *calls(2))

    for _ in range(3):
        gate.free(("n0", 1), OK, NOW)

    assert gate.taken == 1
    assert gate.window == 3
    assert gate.opening(NOW).n == 2


def test_a_slot_that_it_never_knew_is_not_freed() -> None:
    """After a restart answers come to calls of another life; no token comes back either."""
    gate = make_gate(per_second=1.0, burst=2)
    send(gate, ("n1", 1))

    gate.free(("n1", 2), Answer(Outcome.REFUSED, "open"), NOW)

    assert gate.taken == 1
    assert gate.opening(NOW).n == 1


def test_what_a_demand_did_not_use_comes_back_with_its_tokens() -> None:
    """Reserved is not sent."""
    gate = make_gate(per_second=1.0, burst=4)
    gate.reserve(1, 3, is_probe=False, now=NOW)
    assert gate.opening(NOW).n == 1
    assert gate.occupy(1, ("n1", 1), now=NOW)

    returned = gate.release(1, NOW)

    assert returned == 2
    assert gate.opening(NOW).n == 3
    assert gate.release(1, NOW) == 0
    assert gate.opening(NOW).n == 3


def test_a_refused_call_gives_its_token_back() -> None:
    """It never met the provider's limit."""
    gate = make_gate(per_second=1.0)
    send(gate, ("n1", 1))

    gate.free(("n1", 1), Answer(Outcome.REFUSED, "circuit_open"), NOW)

    assert gate.opening(NOW).n == 1


def test_more_than_was_reserved_is_not_occupied() -> None:
    """A reservation is a number of places, and of one demand alone."""
    gate = make_gate()
    gate.reserve(1, 1, is_probe=False, now=NOW)

    taken = [gate.occupy(1, key, now=NOW) for key in calls(2)]

    assert taken == [True, False]
    assert not gate.occupy(2, ("n9", 1), now=NOW)


@pytest.mark.parametrize(
    "shut",
    [
        {"is_alive": False},
        {"is_enabled": False},
        {"circuit": "forced_open"},
        {"circuit": "open", "retry_at": NOW + 60},
        {"circuit": "half_open"},
        {"throttled_until": NOW + 1},
        {"misconfigured_until": NOW + 300},
    ],
)
def test_a_reservation_is_void_where_the_gate_shut_meanwhile(shut: dict[str, Any]) -> None:
    """The call is recalled; its place comes back when the demand is over."""
    gate = make_gate()
    gate.reserve(1, 2, is_probe=False, now=NOW)
    for name, value in shut.items():
        setattr(gate, name, value)

    assert not gate.occupy(1, ("n1", 1), now=NOW)
    assert gate.release(1, NOW) == 2
    assert gate.taken == 0


def test_a_place_for_a_probe_is_not_used_once_the_circuit_is_closed() -> None:
    """It was chosen as a probe, and would be told as one."""
    gate = make_gate(circuit="half_open")
    gate.reserve(1, 1, is_probe=True, now=NOW)
    gate.set_circuit("closed", None)

    assert not gate.occupy(1, ("n1", 1), now=NOW)


# --- stall ---------------------------------------------------------------------------------------


def test_it_is_stalled_when_all_slots_are_taken_and_none_settled_for_so_long() -> None:
    """At `spill_after`, not before; a single answer makes it wait anew."""
    gate = make_gate(slots=2)
    send(gate, *calls(2))

    assert not gate.is_stalled(NOW + 0.999, SPILL_S)
    assert gate.is_stalled(NOW + SPILL_S, SPILL_S)
    gate.free(("n0", 1), OK, NOW + SPILL_S)
    assert not gate.is_stalled(NOW + 99, SPILL_S)


def test_a_gate_with_a_free_slot_never_stalls() -> None:
    """However long the one call takes."""
    gate = make_gate(slots=2)
    send(gate, ("n1", 1))

    assert gate.stalls_at(SPILL_S) is None
    assert not gate.is_stalled(NOW + 1e6, SPILL_S)


def test_places_that_are_only_reserved_do_not_make_it_stalled() -> None:
    """Nobody has called yet; a quiet night before would count as a stall."""
    gate = make_gate(slots=2)

    gate.reserve(1, 2, is_probe=False, now=NOW)

    assert gate.stalls_at(SPILL_S) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"throttled_until": NOW + 7},
        {"circuit": "open", "retry_at": NOW + 7},
        {"circuit": "half_open", "retry_at": NOW + 7},
        {"misconfigured_until": NOW + 7, "is_health_good": True},
        {"throttled_until": NOW + 7, "circuit": "open", "retry_at": NOW + 9},
    ],
)
def test_it_names_the_next_instant_that_can_change_it(fields: dict[str, Any]) -> None:
    """The Supervisor sets one timer to it, and looks again then."""
    assert make_gate(**fields).opens_at(NOW) == NOW + 7


@pytest.mark.parametrize(
    "fields", [{}, {"circuit": "forced_open", "retry_at": NOW + 7}, {"is_enabled": False}]
)
def test_it_names_no_instant_where_only_an_event_can_change_it(fields: dict[str, Any]) -> None:
    """No timer runs for what an operator or an answer decides."""
    assert make_gate(**fields).opens_at(NOW) is None
