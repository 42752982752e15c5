"""The route as its lane sees it: whether it is held, and what its jobs could use."""

from __future__ import annotations

from dataclasses import dataclass

from clarion.policies.allotment import wants_of
from clarion.policies.lane import Lane
from clarion.policies.routing import RoutePlan, RouteState, Wants


@dataclass(slots=True)
class LaneRoute:
    """The plan, and how each of its providers stands (in route order)."""

    plan: RoutePlan
    states: tuple[RouteState, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether no provider of the route has a closed circuit; False while nothing is known."""
        return bool(self.states) and not any(state.is_closed for state in self.states)

    @property
    def held_reason(self) -> str | None:
        """Say why the lane is held, provider by provider; None when it is not."""
        if not self.is_held:
            return None
        why = "; ".join(state.story for state in self.states)
        return f"no provider of {self.plan.channel} can take it now ({why})"

    def wants(self, line: Lane) -> Wants:
        """Sum up what the jobs in line could use."""
        return wants_of(self.plan, self.states, has_fresh=line.has_fresh, walking=line.walking())
