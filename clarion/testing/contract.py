"""What one provider account may expect of Clarion, by its own reckoning.

A `Contract` sees when calls begin and how they end, hears which states the circuit says it has, and
accuses whoever calls too much: over the bulkhead, the rate limit or the slow start's window, before
a Retry-After is over, through an open circuit, with two probes at once; or whoever lets a circuit
stay closed over failures, open too short, or close too early. It is written down anew, not taken
from `policies`: what is to be tested cannot be the measure. Instants are virtual seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from clarion.settings import ProviderSettings

Ending = Literal["success", "failure", "ignored"]
"""How a call ended, as its circuit has to understand it."""

SLACK_S = 1.0
"""Between a place that is given and the call that takes it lies a commit; so much may change."""
_EPSILON_S = 1e-6
_STEERED = ("closed", "disabled", "forced_open")
"""States by which a circuit shows that it may have heard an operator."""


@dataclass(eq=False, slots=True)
class Begun:
    """A call that is out."""

    began_at: float
    is_probe: bool


class Contract:
    """The expectations of one account."""

    def __init__(self, settings: ProviderSettings, accuse: Callable[[str], None]) -> None:
        self._slots = settings.max_concurrent
        self._accuse = accuse
        self._out: list[Begun] = []
        self._silent = (0.0, 0.0)
        self._rate = _Rate(settings.rate_limit.per_second, settings.rate_limit.burst)
        self._ramp = _Ramp(self._slots)
        self._circuit = _Circuit(settings, accuse)

    def began(self, now: float) -> Begun:
        """A call begins; accuse Clarion if it should not have."""
        out = Begun(now, is_probe=self._circuit.is_probing)
        self._out.append(out)
        n = len(self._out)
        if n > self._slots:
            self._accuse(f"{n} calls in flight, {self._slots} allowed")
        if self._silent[0] < now < self._silent[1]:
            self._accuse("called before its Retry-After was over")
        if not self._rate.take(now):
            self._accuse("called more often than its rate limit allows")
        window = self._ramp.widest(now)
        if window < n <= self._slots:
            self._accuse(f"{n} calls in flight while it ramps up, {window} allowed")
        self._circuit.began(now, sum(each.is_probe for each in self._out))
        return out

    def ended(self, out: Begun, ending: Ending, now: float) -> None:
        """A call ended, or its client gave it up."""
        if out in self._out:
            self._out.remove(out)
            self._ramp.ended(ending, now)
            self._circuit.ended(out, ending, now)

    def asked_to_wait(self, now: float, wait_s: float) -> None:
        """The account answered with a Retry-After."""
        self._silent = (now, now + wait_s)

    def circuit_changed(self, old: str, new: str, now: float) -> None:
        """Clarion says that its circuit has moved."""
        self._circuit.changed(old, new, now)
        if new == "closed" and old != "disabled":
            self._ramp.begin(now)

    def operator_steers(self) -> None:
        """An operator turns the circuit or lets it start over, now or a little later."""
        self._silent = (0.0, 0.0)
        self._circuit.steered()

    def breaker_crashed(self, now: float) -> None:
        """The next instance goes on from the last report, without what it had counted."""
        self._circuit.count_anew(now)

    def process_started(self, now: float) -> None:
        """A new process knows nothing of what was, but what operators decided."""
        self._out.clear()
        self._silent = (0.0, 0.0)
        self._rate.refill(now)
        self._ramp.forget(now)
        self._circuit.begin_anew(now)


class _Rate:
    """So many at once, so many a second, and the slack of a commit."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._room = max(burst, 1) + SLACK_S * per_second
        self._left = self._room
        self._at = 0.0

    def take(self, now: float) -> bool:
        if self._per_second <= 0:
            return True
        self._left = min(self._room, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= 1
        return self._left >= -_EPSILON_S

    def refill(self, now: float) -> None:
        self._left, self._at = self._room, now


class _Ramp:
    """The slow start's window: one call, one more with each success, half with each failure."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._window = slots
        self._past: deque[tuple[float, int]] = deque()
        """(until when, how wide) of windows that may still be in use."""

    def widest(self, now: float) -> int:
        while self._past and self._past[0][0] < now - SLACK_S:
            self._past.popleft()
        return max([self._window, *(width for _, width in self._past)])

    def _turn(self, window: int, now: float) -> None:
        self._past.append((now, self._window))
        self._window = window

    def begin(self, now: float) -> None:
        # Nothing but probes was let through before: there is no wider window in use.
        self._past.clear()
        self._window = 1

    def ended(self, ending: Ending, now: float) -> None:
        if self._window == self._slots:
            return
        if ending == "success":
            self._turn(self._window + 1, now)
        elif ending == "failure":
            self._turn(max(1, self._window // 2), now)

    def forget(self, now: float) -> None:
        self._turn(self._slots, now)


class _Circuit:
    """What the circuit has to be, from the endings of the calls and from what it says itself."""

    def __init__(self, settings: ProviderSettings, accuse: Callable[[str], None]) -> None:
        self._rules = settings.breaker
        self._accuse = accuse
        self._state = "closed"
        self._since = 0.0
        self._is_sure = True
        """Whether the failures that it knows are the ones that the circuit knows."""
        self._is_steered = False
        """Whether an operator's word may still be on its way to the circuit."""
        self._failures = 0
        self._failed_at = -1.0
        self._open_until: float | None = None
        self._good_probes = 0

    @property
    def is_probing(self) -> bool:
        return self._state == "half_open"

    def began(self, now: float, probes_out: int) -> None:
        if self._state in ("open", "forced_open") and now > self._since:
            self._accuse(f"called while its circuit is {self._state}")
        if self.is_probing and probes_out > self._rules.probes:
            self._accuse(f"{probes_out} probes at once, {self._rules.probes} allowed")
        if self._has_to_open and now > self._failed_at:
            self._accuse(f"{self._failures} calls in a row failed and its circuit is closed")

    @property
    def _has_to_open(self) -> bool:
        return (
            self._state == "closed"
            and self._is_sure
            and self._failures >= self._rules.failure_threshold
        )

    def ended(self, out: Begun, ending: Ending, now: float) -> None:
        if self.is_probing:
            is_late = not out.is_probe or out.began_at < self._since
        else:
            is_late = out.began_at <= self._since
        if is_late and ending == "failure":
            return
        slow_s = self._rules.slow_call
        if self.is_probing and ending == "success" and 0 < slow_s < now - out.began_at - _EPSILON_S:
            ending = "failure"
        match ending:
            case "success":
                self._failures = 0
                self._good_probes += not is_late
                if self._state == "closed" and not is_late:
                    self._is_sure = not self._is_steered
            case "failure":
                self._failures += 1
                self._failed_at = now
            case "ignored":
                pass

    def changed(self, old: str, new: str, now: float) -> None:
        if new == "half_open" and self._open_until is not None and now < self._open_until:
            self._accuse(f"its circuit was open {self._open_until - now:.3f} s too short")
        is_early = self._good_probes < self._rules.success_threshold
        if (old, new) == ("half_open", "closed") and self._is_sure and is_early:
            self._accuse(f"its circuit closed after {self._good_probes} good probes")
        # Of a hung probe it is told late, and was open from the moment at which it hung.
        is_now = new == "open" and self._is_sure and self._failed_at == now
        self._open_until = now + self._rules.timeout - _EPSILON_S if is_now else None
        if new in _STEERED:
            self._is_steered = False
        self._state, self._since, self._is_sure = new, now, not self._is_steered
        self._failures = self._good_probes = 0

    def steered(self) -> None:
        self._is_sure, self._is_steered = False, True
        self._open_until = None

    def count_anew(self, now: float) -> None:
        self._since, self._failures = now, 0
        self._open_until = None

    def begin_anew(self, now: float) -> None:
        self._state, self._since, self._is_sure = "closed", now, True
        self._failures = self._good_probes = 0
        self._open_until, self._is_steered = None, False
