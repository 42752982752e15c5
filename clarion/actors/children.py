"""The children of the Supervisor: their restart budgets, and which of them are given up for now.

Plain state that outlives the Supervisor's instances. One budget per child: a crashing provider
must not use up the restarts of its healthy siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clarion.policies.restart import RestartBudget, RestartDecision

SLOW_RETRY_S = 15.0
"""A child over its budget is tried again this slowly."""


@dataclass(slots=True)
class Children:
    """Who runs, who is being restarted, who is over budget."""

    make_budget: Callable[[], RestartBudget]
    names: list[str] = field(default_factory=list)
    budgets: dict[str, RestartBudget] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    restarting: set[str] = field(default_factory=set)

    def add(self, name: str) -> None:
        """Take a child under supervision."""
        self.names.append(name)
        self.budgets[name] = self.make_budget()
        self.restarts[name] = 0

    def crashed(self, name: str, now: float) -> RestartDecision:
        """Count a crash (monotonic `now`) and decide on its restart."""
        decision = self.budgets[name].record(now)
        self.restarting.add(name)
        if decision.is_over:
            self.failed.add(name)
        return decision

    def restarted(self, name: str) -> None:
        """Note that a fresh instance takes over."""
        self.restarting.discard(name)
        self.restarts[name] += 1

    def is_in_life(self, name: str, restart: int) -> bool:
        """Whether the instance of that restart still runs."""
        return self.restarts[name] == restart and name not in self.restarting

    def recovered(self, name: str) -> None:
        """Note that a child that was over budget works again."""
        self.failed.discard(name)

    def states(self) -> dict[str, str]:
        """Say for each child: "running", "restarting" or "failed"."""
        return {name: self._state(name) for name in self.names}

    def _state(self, name: str) -> str:
        if name in self.failed:
            return "failed"
        return "restarting" if name in self.restarting else "running"
