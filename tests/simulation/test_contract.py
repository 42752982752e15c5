"""What an account accuses Clarion of: each expectation can be broken, and is not broken by less."""

from __future__ import annotations

import pytest

from clarion.settings import load
from clarion.testing import settings_toml
from clarion.testing.contract import Contract


@pytest.fixture
def broken():
    return []


@pytest.fixture
def contract(tmp_path, broken):
    path = settings_toml(
        tmp_path / "settings.toml",
        providers={
            "only": {
                "kind": "outbox",
                "bulkhead": {"max_concurrent": 4},
                "breaker": {"failure_threshold": 3, "success_threshold": 2, "timeout": 10.0},
                "rate_limit": {"per_second": 2.0, "burst": 3},
            }
        },
        channels={"email": ["only"]},
    )
    made = Contract(load(path, env={}).providers["only"], broken.append)
    made.process_started(0.0)
    return made


def call(contract, at, ending="success"):
    contract.ended(contract.began(at), ending, at + 0.1)


def test_more_calls_than_slots_are_an_offence(contract, broken):
    """The bulkhead is four."""
    for _ in range(4):
        contract.began(1.0)
    assert broken == []

    contract.began(1.0)

    assert broken == ["5 calls in flight, 4 allowed"]


def test_a_rate_limit_allows_its_burst_and_the_slack_of_a_commit(contract, broken):
    """Three at once and two a second; what was reserved before a commit may come with them."""
    for _ in range(5):
        call(contract, 1.0)
    assert broken == []

    call(contract, 1.2)

    assert broken == ["called more often than its rate limit allows"]


def test_a_retry_after_is_kept(contract, broken):
    """Up to its very end."""
    contract.asked_to_wait(1.0, 5.0)

    call(contract, 6.0)
    assert broken == []
    call(contract, 5.9)

    assert broken == ["called before its Retry-After was over"]


def test_an_open_circuit_lets_nothing_through(contract, broken):
    """What was let go at the very instant still arrives."""
    contract.circuit_changed("closed", "open", 1.0)

    call(contract, 1.0)
    assert broken == []
    call(contract, 1.5)

    assert broken == ["called while its circuit is open"]


def test_failures_in_a_row_have_to_open_the_circuit(contract, broken):
    """A success between them begins the row anew."""
    for at, ending in ((1, "failure"), (3, "failure"), (5, "success"), (7, "failure")):
        call(contract, at, ending)
    call(contract, 9, "failure")
    call(contract, 11, "ignored")
    call(contract, 13, "failure")
    assert broken == []

    call(contract, 15)

    assert broken == ["3 calls in a row failed and its circuit is closed"]


def test_a_circuit_stays_open_for_its_time(contract, broken):
    """From the failure that opened it."""
    for at in (1.0, 2.0, 3.0):
        call(contract, at, "failure")
    contract.circuit_changed("closed", "open", 3.1)

    contract.circuit_changed("open", "half_open", 12.0)

    assert broken == ["its circuit was open 1.100 s too short"]


def test_probes_go_one_at_a_time(contract, broken):
    """Calls of before are no probes."""
    contract.began(1.0)
    contract.circuit_changed("closed", "open", 2.0)
    contract.circuit_changed("open", "half_open", 12.0)

    contract.began(12.0)
    assert broken == []
    contract.began(13.0)

    assert broken == ["2 probes at once, 1 allowed"]


def test_a_circuit_closes_after_its_good_probes(contract, broken):
    """A failed one opens it, and one of two is not enough."""
    contract.circuit_changed("closed", "open", 2.0)
    contract.circuit_changed("open", "half_open", 12.0)
    call(contract, 12.0)

    contract.circuit_changed("half_open", "closed", 12.1)

    assert broken == ["its circuit closed after 1 good probes"]


def test_a_recovered_provider_gets_one_call_more_with_each_success(contract, broken):
    """One, then two; the probe that closed the circuit does not count."""
    contract.circuit_changed("closed", "open", 2.0)
    contract.circuit_changed("open", "half_open", 12.0)
    call(contract, 12.0)
    call(contract, 13.0)
    contract.circuit_changed("half_open", "closed", 13.1)
    call(contract, 14.0)
    contract.began(16.0)
    contract.began(16.0)
    assert broken == []

    contract.began(17.0)

    assert broken == ["3 calls in flight while it ramps up, 2 allowed"]


def test_an_operator_may_do_what_no_circuit_may(contract, broken):
    """Closing one by hand needs no probes."""
    contract.circuit_changed("closed", "open", 2.0)
    contract.operator_steers()

    contract.circuit_changed("open", "half_open", 3.0)
    contract.circuit_changed("half_open", "closed", 3.0)

    assert broken == []
