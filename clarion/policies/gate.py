"""The gate of one provider: all that decides whether it may take one more call now.

In this order: known (it has started, and its breaker has reported), alive, enabled, configured, not
throttled, circuit, slots (the bulkhead, or the smaller window of the slow-start ramp), tokens.
Slots are sets of calls, never counters, so that they can be rebuilt from reports and freed twice
without harm. Instants are monotonic seconds.

Slow start: after the circuit closes, the window is one call, grows by one with each success and
halves with each failure, up to `max_concurrent`; never by the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clarion.domain.notification import Call
from clarion.domain.outcome import Answer, Outcome
from clarion.domain.value import value_class
from clarion.policies.rate_limit import Bucket
from clarion.policies.standby import Standby

CallKey = tuple[str, int]
"""(job id, call number)."""

_PROBED = ("open", "half_open")
_ADMITTING = ("closed", "disabled")
HEALTH_PATIENCE_S = 60.0
"""A health probe without an answer for so long got lost, and is asked again."""


@value_class
class Opening:
    """How many calls a gate lets through now; `why` it lets none."""

    n: int
    is_probe: bool = False
    is_shut: bool = False
    """True where the provider itself is the obstacle, not a full slot or an empty bucket."""
    why: str = ""
    ahead: int = 0
    """How many of the `n` find no slot yet, and stand by."""


@dataclass(slots=True)
class Gate:
    """One provider's gate; owned by the Supervisor."""

    name: str
    max_concurrent: int
    bucket: Bucket
    is_known: bool = False
    is_alive: bool = True
    is_enabled: bool = True
    circuit: str = "closed"
    opened_by: str = ""
    """The node that found out; "" for this one."""
    retry_at: float | None = None
    throttled_until: float = 0.0
    misconfigured_until: float | None = None
    misconfigured_detail: str = ""
    is_health_good: bool = False
    """The health probe succeeded since the provider was found misconfigured."""
    health_asked_at: float | None = None
    """Since when an answer of the health probe is waited for; None when none is."""
    window: int | None = None
    """Places while ramping; None for all."""
    in_flight: dict[CallKey, bool] = field(default_factory=dict)
    """Call -> whether it is a probe."""
    lingering: frozenset[CallKey] = frozenset()
    """Calls that are over but for their threads, which nothing can stop: their slots stay taken."""
    reserved: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """Demand -> (places, whether for a probe)."""
    standby: Standby = field(default_factory=Standby)
    moved_at: float = 0.0
    """When a slot was last taken or freed."""

    @property
    def limit(self) -> int:
        """Places it may use now, taken ones included."""
        return self.max_concurrent if self.window is None else self.window

    @property
    def is_ramping(self) -> bool:
        """Whether slow start holds it below its slots."""
        return self.window is not None

    @property
    def busy(self) -> int:
        """Slots in use, those that a thread keeps after the end of its call included."""
        return len(self.lingering | self.in_flight.keys())

    @property
    def taken(self) -> int:
        """Slots in use or reserved."""
        return self.busy + self._reserved

    @property
    def _reserved(self) -> int:
        return sum(n for n, _ in self.reserved.values())

    def opening(self, now: float) -> Opening:
        """Say how many calls may go now, or why none may."""
        shut = self._shut_reason(now)
        if shut is not None:
            return Opening(0, is_shut=True, why=shut)
        if self._needs_probe():
            if self._is_probe_out():
                return Opening(0, is_shut=True, why="a probe is out")
            if self.taken >= self.max_concurrent:
                return Opening(0, is_shut=True, why="its slots are taken by calls of before")
            return self._within_tokens(1, now, is_probe=True)
        # A thread that hangs takes a slot, but no place of the ramp: or nothing would ever recover.
        ramped = self.limit - len(self.in_flight.keys() - self.lingering) - self._reserved
        free = max(0, min(ramped, self.max_concurrent - self.taken))
        ahead = 0 if self.is_ramping or self.lingering or self._reserved else self.standby.room
        if free + ahead <= 0:
            return Opening(0, why=self._why_full())
        return self._within_tokens(free, now, ahead=ahead)

    def _why_full(self) -> str:
        ramp = ", ramping up after its recovery" if self.is_ramping else ""
        hang = f", {len(self.lingering)} by threads that hang" if self.lingering else ""
        return f"all {self.limit} slots are taken{hang}{ramp}"

    def _within_tokens(
        self, free: int, now: float, *, is_probe: bool = False, ahead: int = 0
    ) -> Opening:
        n = min(free + ahead, self.bucket.available(now))
        if n <= 0:
            return Opening(0, is_shut=is_probe, why=self.bucket.why_empty(now))
        return Opening(n, is_probe=is_probe, is_shut=is_probe, ahead=max(0, n - free))

    def _shut_reason(self, now: float) -> str | None:
        if not self.is_known:
            return "it has not started yet"
        if not self.is_alive:
            return "its actor is down"
        if not self.is_enabled:
            return "disabled by an operator"
        if self.misconfigured_until is not None and not self._may_try_misconfigured(now):
            return f"misconfigured: {self.misconfigured_detail}"
        if now < self.throttled_until:
            return f"throttled for {self.throttled_until - now:.1f} s more"
        if self.circuit == "forced_open":
            return "circuit forced open by an operator"
        if self.circuit in _PROBED and self.retry_at is not None and now < self.retry_at:
            return self._wait_reason(self.retry_at - now)
        return None

    def _wait_reason(self, wait_s: float) -> str:
        if self.circuit == "half_open":
            # Though no slot shows it: the breaker would only refuse, again and again.
            return f"a probe is out, and given up in {wait_s:.1f} s"
        return f"circuit open{self._by}, next probe in {wait_s:.1f} s"

    @property
    def _by(self) -> str:
        return f" (opened by node {self.opened_by})" if self.opened_by else ""

    def could_take(self, now: float) -> bool:
        """Whether a token is all that a call could still lack."""
        if self._shut_reason(now) is not None or self.is_full:
            return False
        return not (self._needs_probe() and self._is_probe_out())

    def _may_try_misconfigured(self, now: float) -> bool:
        return (
            self.misconfigured_until is not None
            and now >= self.misconfigured_until
            and self.is_health_good
        )

    def _needs_probe(self) -> bool:
        return self.circuit in _PROBED or self.misconfigured_until is not None

    def _is_probe_out(self) -> bool:
        return any(self.in_flight.values()) or any(probe for _, probe in self.reserved.values())

    def needs_health_probe(self, now: float) -> bool:
        """Whether the time has come to ask the provider's health before a real send."""
        at = self._asks_health_at
        return at is not None and now >= at

    @property
    def _asks_health_at(self) -> float | None:
        if self.misconfigured_until is None or self.is_health_good:
            return None
        asked_at = self.health_asked_at
        return self.misconfigured_until if asked_at is None else asked_at + HEALTH_PATIENCE_S

    def health_asked(self, now: float) -> None:
        """Note that the provider's health was asked."""
        self.health_asked_at = now

    def opens_at(self, now: float) -> float | None:
        """Return the next instant at which time alone can open it; None when it cannot."""
        instants = [
            self.misconfigured_until,
            self._asks_health_at,
            self.throttled_until,
            self.bucket.next_at(now),
        ]
        if self.circuit in _PROBED:
            instants.append(self.retry_at)
        future = [at for at in instants if at is not None and at > now]
        return min(future, default=None)

    def stalls_at(self, spill_after_s: float) -> float | None:
        """Return when it counts as stalled: all slots taken and none settled for so long."""
        if self.busy < self.limit:
            return None
        return self.moved_at + spill_after_s

    def is_stalled(self, now: float, spill_after_s: float) -> bool:
        """Whether new work should no longer wait for one of its slots."""
        at = self.stalls_at(spill_after_s)
        return at is not None and now >= at

    def reserve(self, demand: int, n: int, *, is_probe: bool, now: float) -> None:
        """Hold `n` slots and tokens for a Demand."""
        self.reserved[demand] = (n, is_probe)
        self.bucket.take(n, now)
        self.standby.demanded()

    def occupy(self, demand: int, key: CallKey, *, now: float) -> bool:
        """Turn a reservation into a taken slot; False where the gate has shut meanwhile."""
        is_admitted = self._use_place(demand, now)
        if is_admitted:
            self._take_slot(key, now, is_probe=self.reserved[demand][1])
        return is_admitted

    def stand_by(self, demand: int, call: Call, *, now: float) -> bool:
        """Turn a reservation into a wait for the next slot; False as for `occupy`, or a probe."""
        is_admitted = (
            self.standby.admits(call.job)
            and not self._needs_probe()
            and self._use_place(demand, now)
        )
        if is_admitted:
            self.standby.calls.append(call)
        return is_admitted

    def _use_place(self, demand: int, now: float) -> bool:
        n, is_probe = self.reserved.get(demand, (0, False))
        if n <= 0 or self._shut_reason(now) is not None or self._needs_probe() != is_probe:
            return False
        self.reserved[demand] = (n - 1, is_probe)
        return True

    def _take_slot(self, key: CallKey, now: float, *, is_probe: bool) -> None:
        self.in_flight[key] = is_probe
        self.moved_at = now

    @property
    def is_full(self) -> bool:
        """Whether a call has to wait for a slot."""
        return self.busy >= self.max_concurrent

    def let_in(self, now: float) -> list[Call]:
        """Give the free slots to those that stand by."""
        calls: list[Call] = []
        while self.standby.calls and not self.is_full:
            call = self.standby.calls.popleft()
            self._take_slot(call.key, now, is_probe=False)
            calls.append(call)
        return calls

    def is_closed_to_standby(self, now: float, spill_after_s: float) -> bool:
        """Whether those that stand by had better go elsewhere, or wait in their lane."""
        return (
            self._shut_reason(now) is not None
            or self._needs_probe()
            or self.is_ramping
            or self.is_stalled(now, spill_after_s)
        )

    def dismiss(self) -> list[Call]:
        """Take out those that stand by: they surely were not sent."""
        if not self.standby.calls:
            return []
        calls = self.standby.dismiss()
        self.bucket.give_back(len(calls))
        return calls

    def rebuild(self, key: CallKey, *, is_probe: bool, now: float) -> None:
        """Take over a call that went out before this gate was there."""
        self.in_flight[key] = is_probe
        # Nobody knows for how long the others have been silent: none counts as stalled at once.
        self.moved_at = now

    def release(self, demand: int, now: float) -> int:
        """Return what a Demand reserved and did not use; the number of places."""
        if demand in self.reserved:
            self.standby.answered()
        n, _ = self.reserved.pop(demand, (0, False))
        self.bucket.give_back(n)
        return n

    def free(self, key: CallKey, answer: Answer, now: float) -> None:
        """A call ended: give its slot back and move the ramp."""
        if self.in_flight.pop(key, None) is None:
            return
        self.moved_at = now
        self.standby.ended()
        if answer.outcome in (Outcome.REFUSED, Outcome.RECALLED) or _is_host_full(answer):
            self.bucket.give_back(1)
        elif self.window is not None:
            self._move_window(answer)

    def _move_window(self, answer: Answer) -> None:
        assert self.window is not None
        match answer.outcome:
            case Outcome.ACCEPTED | Outcome.RECIPIENT | Outcome.PERMANENT:
                wider = self.window + 1
                self.window = None if wider >= self.max_concurrent else wider
            case Outcome.TRANSIENT | Outcome.UNKNOWN if answer.tells_of_provider:
                self.window = max(1, self.window // 2)
            case _:
                pass

    def set_circuit(self, state: str, retry_at: float | None) -> None:
        """Take over the breaker's state; a circuit that closes starts the ramp."""
        is_closing = state in _ADMITTING and self.circuit not in _ADMITTING
        if is_closing and self.max_concurrent > 1:
            self.window = 1
        self.circuit = state
        self.retry_at = retry_at

    def set_misconfigured(self, until: float | None, detail: str) -> None:
        """Take over whether our own configuration is the trouble; mended ones ramp up."""
        known = self.misconfigured_until
        if until == known:
            return
        if until is None:
            if self.max_concurrent > 1:
                self.window = 1
        elif known is not None and until < known:
            return  # An older report: the health probe has put it off since.
        self._misconfigure(until, detail)

    def put_off_misconfigured(self, until: float, detail: str) -> None:
        """The health probe still finds our configuration wrong: ask again at `until`."""
        self._misconfigure(until, detail)

    def _misconfigure(self, until: float | None, detail: str) -> None:
        self.misconfigured_until = until
        self.misconfigured_detail = detail
        self.is_health_good, self.health_asked_at = False, None

    def obstacle(self, now: float) -> str:
        """Say in a few words what shuts it, without countdowns; "" when it is open."""
        match self.state(now):
            case "down":
                return "its actor is down"
            case "disabled":
                return "disabled by an operator"
            case "misconfigured":
                return f"misconfigured ({self.misconfigured_detail})"
            case "open" | "half_open":
                return f"circuit open{self._by}, waiting for good probes"
            case "forced_open":
                return "circuit forced open by an operator"
            case "throttled":
                return "throttled by the provider"
            case _:
                return ""

    def state(self, now: float) -> str:
        """Name the state for people: what `/health` and `clarion status` show."""
        if not self.is_alive:
            return "down"
        if not self.is_enabled:
            return "disabled"
        if self.misconfigured_until is not None:
            return "misconfigured"
        if self.circuit in ("open", "half_open", "forced_open"):
            return self.circuit
        if now < self.throttled_until:
            return "throttled"
        return "ramping" if self.is_ramping else "ok"


def _is_host_full(answer: Answer) -> bool:
    # It mostly came back before the wire; a queue for one dead host must not eat up the tokens.
    return answer.is_host_only and answer.outcome is Outcome.THROTTLED
