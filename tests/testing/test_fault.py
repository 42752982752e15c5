"""Faults are data with a name, so that another process can ask for them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from clarion.testing import FAULTS, Fault, FaultKind, fault_named

ARGUMENTS = {"slow": {"delay_s": 0.5}}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_made_by_its_name(name: str) -> None:
    """The name and plain arguments give what the class method gives."""
    arguments = ARGUMENTS.get(name, {})

    fault = fault_named(name, arguments)

    assert fault == getattr(Fault, name)(**arguments)


def test_every_kind_can_be_asked_for() -> None:
    """No kind of fault is out of reach."""
    kinds = {fault_named(name, ARGUMENTS.get(name)).kind for name in FAULTS}

    assert kinds == set(FaultKind)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """A misspelt fault must not mean none."""
    with pytest.raises(ValueError, match=r"no fault 'trottled'.*throttled"):
        fault_named("trottled")


def test_a_wrong_argument_is_refused() -> None:
    """A misspelt argument must not be ignored."""
    with pytest.raises(ValueError, match="retry_afer"):
        fault_named("throttled", {"retry_afer": 5})


@pytest.mark.parametrize(
    ("wish", "header"),
    [
        (5, "5"),
        (10**9, "1000000000"),
        (-3, "-3"),
        ("soon", "soon"),
        (None, None),
        (datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), "Wed, 04 Mar 2026 05:06:07 GMT"),
    ],
)
def test_retry_after_can_be_anything_that_providers_send(
    wish: float | str | datetime | None, header: str | None
) -> None:
    """Seconds, absurd and negative ones, an HTTP date, nonsense, or nothing."""
    assert Fault.throttled(wish).retry_after == header
