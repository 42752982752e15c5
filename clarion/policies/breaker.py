"""The circuit breaker: a state machine over outcomes, with generations, probes and growth.

::

    closed ──(failures in a row, or a rate in a window)──> open
    open ──(the first acquire after its time)────────────> half_open
    half_open ──(success_threshold good probes)──────────> closed
    half_open ──(a failed or hung probe)─────────────────> open, for longer
    any ──force_open, disable, reset─────────────────────> forced_open, disabled, closed

**Generations.** Every change of state, an operator's too, begins one. A permit belongs to the
generation in which it was given; the result of an older one is late: it is counted as such and
changes nothing, neither a counter nor a slot nor the time for which the circuit stays open.

**Closed.** `failure_threshold` counted failures in a row open it, whatever the window is; with
`window` "count" or "time" the share of failures (and of slow calls) opens it, too, judged after
every result. Ignored results are neutral.

**Half-open.** At most `probes` calls at a time and `success_threshold` in all. A probe without a
result after `half_open_timeout` is hung: the circuit is open again as of that instant, found out at
the next call of any method (`catch_up` serves a timer); with no probe out it stays half-open.

**Open.** For `timeout` from the failing result, longer after each opening in a row, up to
`timeout_max` (or `timeout`, where that is longer); `jitter` adds up to that share on top.

Every decision is synchronous. A breaker belongs to one thread: nothing here locks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self, assert_never, cast, get_args

from clarion.domain.value import value_class
from clarion.errors import CircuitOpen
from clarion.policies.breaker_settings import BreakerSettings

CircuitState = Literal["closed", "open", "half_open", "forced_open", "disabled"]
Result = Literal["success", "failure", "ignored"]
OnChange = Callable[[CircuitState, CircuitState], None]
"""(old, new); called after the change, in order. What it raises is dropped."""


@value_class
class BreakerSnapshot:
    """How a circuit stands."""

    name: str
    state: CircuitState
    failures: int
    """Failures in a row, a hung probe included."""
    retry_after: float | None
    """Seconds until `retry_at`, 0 when that is past; None where it is None."""
    retry_at: float | None
    """Monotonic instant from which time alone admits a call: the end of the open time; while
    half-open with its probes out, the end of the open time that follows if they hang (a result
    comes first). None when it admits calls now, or is forced open."""
    generation: int
    open_count: int
    """Openings in a row without a close: the exponent of the open time."""
    late_results: int


class Permit:
    """Leave for one call. The first of its methods settles it; later calls change nothing.

    Each returns whether the result counted: False for a late or a second one. As a context manager
    it settles by how the block ends: a plain end is a success, an Exception a failure, anything
    else (cancellation, exit) gives it back.
    """

    __slots__ = ("_is_settled", "breaker", "generation", "number", "started_at")

    def __init__(self, breaker: Breaker, generation: int, number: int, started_at: float) -> None:
        self.breaker = breaker
        self.generation = generation
        self.number = number
        self.started_at = started_at
        self._is_settled = False

    def success(self) -> bool:
        """The call succeeded."""
        return self.breaker.settle(self, "success")

    def failure(self) -> bool:
        """The call failed."""
        return self.breaker.settle(self, "failure")

    def ignore(self) -> bool:
        """The call ended in a way that says nothing about the service."""
        return self.breaker.settle(self, "ignored")

    def release(self) -> bool:
        """The call was never made, or given up before its end."""
        return self.breaker.settle(self, "ignored")

    def close(self) -> bool:
        """Mark it settled; False if it was."""
        was_settled, self._is_settled = self._is_settled, True
        return not was_settled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if not self._is_settled:
            self.breaker.settle(self, self.breaker.result_of(error))


class Breaker:
    """One circuit. `clock` gives monotonic seconds, `rng` numbers in [0, 1)."""

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        *,
        clock: Callable[[], float],
        rng: Callable[[], float],
        on_change: OnChange | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._unheard: deque[tuple[CircuitState, CircuitState]] = deque()
        self._state: CircuitState = "closed"
        self._generation = 0
        self._failures = 0
        self._window = settings.make_window()
        self._open_count = 0
        self._retry_at = 0.0
        # Drawn ahead, so that looking at a circuit and moving it agree on when it opens.
        self._draw = rng()
        # By number, not by start: two may start at the same instant. The oldest is the first.
        self._hangs_at: dict[int, float] = {}
        self._good_probes = 0
        self._permits = 0
        self._late_results = 0

    # --- calls -----------------------------------------------------------------------------

    def acquire(self) -> Permit:
        """Return leave for one call. Raises: CircuitOpen."""
        now = self._clock()
        if self._state == "closed":  # Nearly always: no probe can hang, no time be over.
            return self._permit(now)
        self._reopen_if_hung(now)
        if self._state == "open" and now >= self._retry_at:
            self._move("half_open")
        permit = self._admit(now)
        wait_s = self._wait_s(now)
        self._announce()
        if permit is None:
            self._on_rejected()
            raise CircuitOpen(self.name, wait_s)
        return permit

    def _permit(self, now: float) -> Permit:
        self._permits += 1
        return Permit(self, self._generation, self._permits, now)

    def _admit(self, now: float) -> Permit | None:
        if self._state in ("open", "forced_open") or self._is_full():
            return None
        permit = self._permit(now)
        if self._state == "half_open":
            self._hangs_at[permit.number] = now + self.settings.half_open_timeout
        return permit

    def _is_full(self) -> bool:
        out = len(self._hangs_at)
        return self._state == "half_open" and (
            out >= self.settings.probes
            or out + self._good_probes >= self.settings.success_threshold
        )

    def settle(self, permit: Permit, result: Result) -> bool:
        """Take the result of a permit; return whether it counted."""
        if not permit.close():
            return False
        now = self._clock()
        if self._hangs_at:
            self._reopen_if_hung(now)
        is_in_time = permit.breaker is self and permit.generation == self._generation
        if is_in_time:
            self._record(permit, result, now)
            self._on_counted(result)
        else:
            self._late_results += 1
        if self._unheard:
            self._announce()
        return is_in_time

    def result_of(self, error: BaseException | None) -> Result:
        """Say what a call that ended with `error` (None: plainly) came to."""
        if error is None:
            return "success"
        # Another circuit's rejection says nothing about this one's service.
        is_service = isinstance(error, Exception) and not isinstance(error, CircuitOpen)
        return "failure" if is_service else "ignored"

    def _record(self, permit: Permit, result: Result, now: float) -> None:
        is_slow = 0 < self.settings.slow_call < now - permit.started_at
        if self._state == "half_open":
            is_too_slow = is_slow and result == "success"
            self._record_probe(permit, "failure" if is_too_slow else result, now)
        elif self._state == "closed" and result != "ignored":
            self._record_call(result == "failure", is_slow, now)

    def _record_call(self, is_failure: bool, is_slow: bool, now: float) -> None:
        self._failures = self._failures + 1 if is_failure else 0
        is_bad = self._failures >= self.settings.failure_threshold
        if self._window is not None:
            tally = self._window.add(now, is_failure=is_failure, is_slow=is_slow)
            is_bad = is_bad or self.settings.is_too_bad(tally)
        if is_bad:
            self._open(now)

    def _record_probe(self, permit: Permit, result: Result, now: float) -> None:
        del self._hangs_at[permit.number]
        match result:
            case "failure":
                self._failures += 1
                self._open(now)
            case "success":
                self._failures = 0
                self._good_probes += 1
                if self._good_probes >= self.settings.success_threshold:
                    self._move("closed")
            case "ignored":
                pass
            case _:
                assert_never(result)

    def _on_rejected(self) -> None:
        """Hear of a call that is rejected: for subclasses, must not raise."""

    def _on_counted(self, result: Result) -> None:
        """Hear of a result that counted: for subclasses, must not raise."""

    # --- time ------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Reopen if a probe hung; every method does so first, a timer may do it sooner."""
        self._reopen_if_hung(self._clock())
        self._announce()

    def _reopen_if_hung(self, now: float) -> None:
        if self._is_hung(now):
            self._failures += 1
            self._open(self._first_hangs_at())

    def _is_hung(self, now: float) -> bool:
        return bool(self._hangs_at) and now >= self._first_hangs_at()

    def _first_hangs_at(self) -> float:
        return next(iter(self._hangs_at.values()))

    def _open(self, at: float) -> None:
        self._retry_at = at + self._open_time_s()
        self._draw = self._rng()
        self._open_count += 1
        self._move("open")

    def _open_time_s(self) -> float:
        longer = 1.0 + self.settings.jitter * self._draw
        return self.settings.open_time_s(self._open_count) * longer

    def _admits_at(self, now: float) -> float | None:
        if self._state == "open":
            return self._retry_at
        if self._is_hung(now) or self._is_full():
            return self._first_hangs_at() + self._open_time_s()
        return None

    def _wait_s(self, now: float) -> float | None:
        at = self._admits_at(now)
        return None if at is None else max(0.0, at - now)

    # --- states ----------------------------------------------------------------------------

    def _move(self, state: CircuitState) -> None:
        old, self._state = self._state, state
        self._generation += 1
        self._hangs_at.clear()
        self._good_probes = 0
        if state == "closed":
            self._failures = self._open_count = 0
            self._window = self.settings.make_window()
        if old != state:
            self._unheard.append((old, state))

    def _announce(self) -> None:
        while self._unheard:
            old, new = self._unheard.popleft()
            if self._on_change is not None:
                with suppress(Exception):  # A listener's bug is not the circuit's.
                    self._on_change(old, new)

    def force_open(self) -> None:
        """Reject every call until `reset`."""
        self._turn("forced_open")

    def disable(self) -> None:
        """Admit every call, whatever happens, until `reset`."""
        self._turn("disabled")

    def reset(self) -> None:
        """Start over, closed and with nothing remembered."""
        self._turn("closed")

    def _turn(self, state: CircuitState) -> None:
        self._reopen_if_hung(self._clock())
        self._move(state)
        self._announce()

    def restore(self, *, state: str, remaining_s: float, open_count: int) -> None:
        """Go on from what a forerunner's snapshot said, `remaining_s` before the next probe.

        A half-open one has no probe of its own any more and goes on as open. Raises: ValueError.
        """
        if state not in get_args(CircuitState):
            raise ValueError(f"{state!r} is no state of a circuit: {get_args(CircuitState)}")
        self._open_count = max(0, open_count)
        self._retry_at = self._clock() + max(0.0, remaining_s)
        self._move("open" if state == "half_open" else cast(CircuitState, state))
        self._announce()

    @property
    def is_at_rest(self) -> bool:
        """Whether it is closed, and the last result that counted was no failure."""
        return self._state == "closed" and not self._failures

    def snapshot(self) -> BreakerSnapshot:
        """Show how it stands now; changes nothing, a hung probe shows as the opening it caused."""
        now = self._clock()
        is_hung = self._is_hung(now)
        return BreakerSnapshot(
            self.name,
            "open" if is_hung else self._state,
            self._failures + is_hung,
            self._wait_s(now),
            self._admits_at(now),
            self._generation + is_hung,
            self._open_count + is_hung,
            self._late_results,
        )
