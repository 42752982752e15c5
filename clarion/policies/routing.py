"""Which providers of a route may take work now, in which order, and why the others may not.

Ordered routes: a later provider takes new work only when each earlier gate is shut, ramping or
stalled; otherwise it is listed for fallback only, for jobs that tried the earlier ones. Weighted
routes: every open gate is listed and each job draws among them; a provider of weight 0 stands by
until all the others are shut, or tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clarion.domain.value import value_class
from clarion.policies.gate import Gate, Opening


@value_class
class RouteState:
    """How one provider of a route stands, as its lane sees it."""

    provider: str
    circuit: str
    """"closed", "open", "half_open", "forced_open", "disabled" (the breaker's states)."""
    is_enabled: bool = True
    is_misconfigured: bool = False
    is_throttled: bool = False
    is_alive: bool = True
    retry_at: float | None = None
    """Wall-clock instant at which its gate may open again; None when unknown or open."""
    reason: str = ""
    """Why it takes nothing now, for `held_reason`; "" when it does."""

    @property
    def is_closed(self) -> bool:
        """Whether the circuit is closed in the sense of `held`."""
        return (
            self.is_alive
            and self.is_enabled
            and not self.is_misconfigured
            and self.circuit in ("closed", "disabled")
        )

    @property
    def story(self) -> str:
        """Say how it stands, for people: "sendgrid: circuit open, next try at 12:00:05 UTC"."""
        text = f"{self.provider}: {self.reason or 'takes messages'}"
        if self.retry_at is None:
            return text
        at = datetime.fromtimestamp(self.retry_at, UTC)
        return f"{text}, next try at {at:%H:%M:%S} UTC"

    @property
    def can_take(self) -> bool:
        """Whether only slots and tokens stand between a job and this provider."""
        return self.is_closed and not self.is_throttled


@value_class
class Wants:
    """What the waiting jobs of a lane could use, so that nothing is offered in a circle."""

    fresh: bool = False
    """There are jobs that have tried no provider yet."""
    walking: frozenset[str] = frozenset()
    """Providers that jobs in the middle of a walk could go to next."""

    @property
    def is_nothing(self) -> bool:
        """Whether the lane has nothing to place."""
        return not self.fresh and not self.walking


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """A channel's route as configured."""

    channel: str
    providers: tuple[str, ...]
    is_weighted: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    spill_after_s: float = 1.0

    def weight(self, provider: str) -> float:
        """Return a provider's share of the draw; without a word it is 1."""
        return self.weights.get(provider, 1.0)


@dataclass(frozen=True, slots=True)
class Offer:
    """Room at one provider."""

    provider: str
    n: int
    is_probe: bool
    is_fallback_only: bool
    why: str
    ahead: int = 0
    """How many of the `n` will wait for a slot."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What a route can take now, and when time alone may change that (monotonic, or None)."""

    offers: tuple[Offer, ...]
    passed_over: tuple[tuple[str, str], ...]
    next_at: float | None


def place(plan: RoutePlan, gates: Mapping[str, Gate], wants: Wants, now: float) -> Placement:
    """Decide which providers of the route to offer to its lane."""
    openings = {name: gates[name].opening(now) for name in plan.providers}
    turns = _turns(plan, gates, openings, now)
    offers: list[Offer] = []
    passed_over: list[tuple[str, str]] = []
    for name, opening in openings.items():
        is_turn = name in turns
        if opening.n > 0 and _is_wanted(name, wants, is_turn=is_turn):
            why = _why(plan, opening, passed_over, is_turn=is_turn)
            offers.append(Offer(name, opening.n, opening.is_probe, not is_turn, why, opening.ahead))
        elif opening.n == 0:
            passed_over.append((name, _why_not(gates[name], opening, now, plan)))
    return Placement(tuple(offers), tuple(passed_over), _next_at(plan, gates, now))


def wanted(plan: RoutePlan, gates: Mapping[str, Gate], wants: Wants, now: float) -> list[str]:
    """Return the providers whose places the lane would use if they had some."""
    openings = {name: gates[name].opening(now) for name in plan.providers}
    turns = _turns(plan, gates, openings, now)
    return [name for name in plan.providers if _is_wanted(name, wants, is_turn=name in turns)]


def _turns(
    plan: RoutePlan, gates: Mapping[str, Gate], openings: Mapping[str, Opening], now: float
) -> Sequence[str]:
    """Return the providers that take new work."""
    if plan.is_weighted:
        drawn = [name for name in plan.providers if plan.weight(name) > 0]
        return plan.providers if all(openings[name].is_shut for name in drawn) else drawn
    for n, name in enumerate(plan.providers, start=1):
        if not _passes_turn(gates[name], openings[name], now, plan):
            return plan.providers[:n]
    return plan.providers


def _is_wanted(name: str, wants: Wants, *, is_turn: bool) -> bool:
    return (is_turn and wants.fresh) or name in wants.walking


def _passes_turn(gate: Gate, opening: Opening, now: float, plan: RoutePlan) -> bool:
    return opening.is_shut or gate.is_ramping or gate.is_stalled(now, plan.spill_after_s)


def _why(
    plan: RoutePlan, opening: Opening, passed_over: Sequence[tuple[str, str]], *, is_turn: bool
) -> str:
    if opening.is_probe:
        return "a probe: would it take messages again?"
    if not is_turn:
        return "fallback within the attempt"
    if plan.is_weighted:
        return "drawn by weight"
    if passed_over:
        return "next in the route; earlier ones were passed over"
    return "first in the route"


def _why_not(gate: Gate, opening: Opening, now: float, plan: RoutePlan) -> str:
    if gate.is_stalled(now, plan.spill_after_s):
        return f"stalled: {opening.why} and none settled for {plan.spill_after_s:g} s"
    return opening.why


def _next_at(plan: RoutePlan, gates: Mapping[str, Gate], now: float) -> float | None:
    instants = [gates[name].opens_at(now) for name in plan.providers]
    if not plan.is_weighted:
        instants += [gates[name].stalls_at(plan.spill_after_s) for name in plan.providers]
    return min((at for at in instants if at is not None and at > now), default=None)
