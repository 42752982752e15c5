"""The circuit breaker against an independent model, over any interleaving.

The model is written from the rules, not from the code: it keeps every permit with the epoch in
which it was given, walks time forward in one place, and knows nothing of laziness.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clarion.errors import CircuitOpen
from clarion.policies.breaker import Breaker, Permit
from clarion.policies.breaker_settings import BreakerSettings
from clarion.testing import ManualClock

TIMEOUT_S, HUNG_S, MULTIPLIER, LONGEST_S = 8.0, 4.0, 2.0, 32.0
"""Powers of two, so that both sides compute the same instants exactly."""


@dataclass(eq=False)
class Out:
    """A permit that was given, as the model sees it."""

    permit: Permit
    epoch: int
    began: float


@dataclass
class Model:
    """The rules of the circuit, with eager time."""

    threshold: int
    needed: int
    probes: int
    slow_s: float
    state: str = "closed"
    epoch: int = 0
    in_a_row: int = 0
    openings: int = 0
    until: float = 0.0
    good: int = 0
    late: int = 0
    out: list[Out] = field(default_factory=list)

    def probing(self) -> list[Out]:
        """Return the probes that are out."""
        return [o for o in self.out if o.epoch == self.epoch] if self.state == "half_open" else []

    def turn(self, state: str) -> None:
        """Change the state; whatever is out belongs to the past now."""
        self.state, self.good = state, 0
        self.epoch += 1
        if state == "closed":
            self.in_a_row = self.openings = 0

    def open(self, at: float) -> None:
        """Open for the time that is due."""
        self.until = at + min(LONGEST_S, TIMEOUT_S * MULTIPLIER**self.openings)
        self.openings += 1
        self.turn("open")

    def pass_time(self, now: float) -> None:
        """Let the oldest probe hang if its time is over."""
        starts = [o.began for o in self.probing()]
        if starts and now >= min(starts) + HUNG_S:
            self.in_a_row += 1
            self.open(min(starts) + HUNG_S)

    def admits(self, now: float) -> bool:
        """Decide about one call."""
        if self.state == "open" and now >= self.until:
            self.turn("half_open")
        if self.state == "half_open":
            n = len(self.probing())
            return n < self.probes and n + self.good < self.needed
        return self.state in ("closed", "disabled")

    def take(self, out: Out, result: str, now: float) -> bool:
        """Take a result; return whether it counts."""
        self.out.remove(out)
        if out.epoch != self.epoch:
            self.late += 1
            return False
        if result == "ignored" or self.state == "disabled":
            return True
        is_bad = result == "failure"
        if self.state == "half_open":
            is_bad = is_bad or 0 < self.slow_s < now - out.began
        self.in_a_row = self.in_a_row + 1 if is_bad else 0
        if self.state == "half_open":
            self.probed(now, is_bad=is_bad)
        elif self.in_a_row >= self.threshold:
            self.open(now)
        return True

    def probed(self, now: float, *, is_bad: bool) -> None:
        """Judge a probe."""
        if is_bad:
            self.open(now)
            return
        self.good += 1
        if self.good == self.needed:
            self.turn("closed")


class BreakerMachine(RuleBasedStateMachine):
    """Calls, results in any order, time, operators and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(monotonic=1024.0)
        self.heard: list[tuple[str, str]] = []

    @initialize(
        threshold=st.integers(1, 3),
        needed=st.integers(1, 3),
        probes=st.integers(1, 3),
        slow_s=st.sampled_from([0.0, 2.0]),
    )
    def begin(self, threshold: int, needed: int, probes: int, slow_s: float) -> None:
        self.model = Model(threshold, needed, probes, slow_s)
        self.settings = BreakerSettings(
            failure_threshold=threshold,
            success_threshold=needed,
            probes=probes,
            slow_call=slow_s,
            timeout=TIMEOUT_S,
            half_open_timeout=HUNG_S,
            timeout_multiplier=MULTIPLIER,
            timeout_max=LONGEST_S,
            jitter=0.0,
        )
        self.breaker = self.make()
        self.settled: list[Permit] = []

    def make(self) -> Breaker:
        return Breaker(
            "machine",
            self.settings,
            clock=self.clock.monotonic,
            rng=lambda: 0.0,
            on_change=lambda old, new: self.heard.append((old, new)),
        )

    @rule()
    def acquire(self) -> None:
        now = self.clock.monotonic()
        expected = self.model.admits(now)
        permit: Permit | None = None
        wait_s: float | None = None
        try:
            permit = self.breaker.acquire()
        except CircuitOpen as refusal:
            wait_s = refusal.retry_after
        assert (permit is not None) == expected
        if permit is not None:
            self.model.out.append(Out(permit, self.model.epoch, now))
        elif self.model.state == "forced_open":
            assert wait_s is None
        else:
            assert wait_s is not None and wait_s > 0

    @precondition(lambda self: self.model.out)
    @rule(data=st.data(), result=st.sampled_from(["success", "failure", "ignored"]))
    def settle(self, data: st.DataObject, result: str) -> None:
        out = data.draw(st.sampled_from(self.model.out))
        ways = {"success": "success", "failure": "failure", "ignored": "release"}

        counted = getattr(out.permit, ways[result])()

        assert counted == self.model.take(out, result, self.clock.monotonic())
        self.settled.append(out.permit)

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        before = self.breaker.snapshot()

        assert not data.draw(st.sampled_from(self.settled)).failure()

        assert self.breaker.snapshot() == before

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, HUNG_S, TIMEOUT_S, 3 * LONGEST_S]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.pass_time(self.clock.monotonic())

    @rule()
    def timer(self) -> None:
        self.breaker.catch_up()

    @rule(word=st.sampled_from(["force_open", "disable", "reset"]))
    def steer(self, word: str) -> None:
        getattr(self.breaker, word)()
        self.model.turn(
            {"force_open": "forced_open", "disable": "disabled", "reset": "closed"}[word]
        )

    @rule()
    def crash(self) -> None:
        kept = self.breaker.snapshot()
        remaining_s = (kept.retry_after or 0.0) if kept.state == "open" else 0.0
        self.breaker, self.heard = self.make(), []
        self.breaker.restore(state=kept.state, remaining_s=remaining_s, open_count=kept.open_count)
        if self.model.state == "half_open":
            self.model.until = self.clock.monotonic()
            self.model.turn("open")
        # What was over already is over as of now.
        self.model.until = max(self.model.until, self.clock.monotonic())
        self.model.in_a_row = self.model.late = 0
        # The permits of the instance before settle with it; this one never hears of them.
        self.model.out, self.settled = [], []

    @invariant()
    def stands_as_the_model_does(self) -> None:
        snapshot = self.breaker.snapshot()
        model = self.model
        assert snapshot.state == model.state
        assert snapshot.failures == model.in_a_row
        assert snapshot.open_count == model.openings
        assert snapshot.late_results == model.late
        if model.state == "open":
            assert snapshot.retry_at == model.until

    @invariant()
    def looking_changes_nothing(self) -> None:
        assert self.breaker.snapshot() == self.breaker.snapshot()

    @invariant()
    def never_more_probes_than_allowed(self) -> None:
        assert len(self.model.probing()) <= min(self.model.probes, self.model.needed)

    @invariant()
    def changes_form_a_chain(self) -> None:
        chain = ["closed"]
        for old, new in self.heard:
            assert old == chain[-1] != new
            chain.append(new)
        stands_at = self.breaker.snapshot().state
        # A hung probe that nobody noticed yet shows as open and is heard of later.
        assert chain[-1] == stands_at or (chain[-1], stands_at) == ("half_open", "open")


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
