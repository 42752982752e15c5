"""A thread that hangs keeps its slot at the gate after its call has ended."""

from __future__ import annotations

from clarion.domain.outcome import Answer, Outcome
from clarion.policies.gate import Gate
from clarion.policies.rate_limit import TokenBucket

NOW = 1000.0
LATE = Answer(Outcome.UNKNOWN, "timeout")


def gate_with(slots: int, *keys: tuple[str, int]) -> Gate:
    gate = Gate("p", slots, TokenBucket(0.0, 1, lambda: NOW), is_known=True)
    for key in keys:
        gate.rebuild(key, is_probe=False, now=NOW)
    return gate


def test_a_call_that_ended_keeps_the_slot_of_its_thread():
    """One slot a thread, before and after the end of the call, never two and never none."""
    gate = gate_with(3, ("n1", 1), ("n2", 1))

    gate.lingering = frozenset({("n1", 1)})
    before = gate.opening(NOW).n
    gate.free(("n1", 1), LATE, NOW)

    assert (before, gate.opening(NOW).n, gate.busy) == (1, 1, 2)


def test_a_gate_whose_threads_all_hang_says_so():
    """Support reads these words; the gate itself is not shut, its slots are taken."""
    gate = gate_with(2)

    gate.lingering = frozenset({("n1", 1), ("n2", 1)})

    opening = gate.opening(NOW)
    assert (opening.n, opening.is_shut) == (0, False)
    assert opening.why == "all 2 slots are taken, 2 by threads that hang"


def test_a_returned_thread_gives_its_slot_back():
    gate = gate_with(2)
    gate.lingering = frozenset({("n1", 1), ("n2", 1)})

    gate.lingering = frozenset({("n2", 1)})

    assert gate.opening(NOW).n == 1


def test_hung_threads_do_not_keep_a_recovered_provider_from_its_slow_start():
    """The window counts calls, the bulkhead threads: with one of four free, one goes."""
    gate = gate_with(4)
    gate.lingering = frozenset({("n1", 1), ("n2", 1), ("n3", 1)})

    gate.set_circuit("open", NOW - 1)
    gate.set_circuit("closed", None)

    assert (gate.is_ramping, gate.opening(NOW).n) == (True, 1)


def test_a_provider_whose_threads_all_hang_counts_as_stalled():
    """New work goes to the next provider instead of waiting for a thread that may never return."""
    gate = gate_with(1)
    gate.moved_at = NOW

    gate.lingering = frozenset({("n1", 1)})

    assert gate.is_stalled(NOW + 1.0, spill_after_s=1.0)


def test_no_probe_goes_out_while_every_thread_hangs():
    """It could only come back, and open the circuit once more."""
    gate = gate_with(1)
    gate.set_circuit("half_open", None)

    gate.lingering = frozenset({("n1", 1)})

    assert gate.opening(NOW).why == "its slots are taken by calls of before"
