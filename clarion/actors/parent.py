"""A parent: an actor that restarts its children, each within a budget of its own.

A crash is answered by a back-off and a fresh instance behind the same address. A child over its
budget is tried again slowly, and counts as well only once it has lived for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from clarion.actors.children import SLOW_RETRY_S, Children
from clarion.actors.messages import Internal
from clarion.actors.runtime import Actor, handles
from clarion.actors.supervisor_messages import ActorCrashed
from clarion.policies.clock import Clock
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

PROVEN_AFTER_S = 1.0
"""A child over its budget that has lived so long after a restart is counted on again."""


@dataclass(frozen=True, slots=True)
class _Restart(Internal):
    """Self: the back-off of a crashed child is over."""

    name: str


@dataclass(frozen=True, slots=True)
class _Proven(Internal):
    """Self: has a child that was over its budget proved itself by now?"""

    name: str
    restart: int


class Parent(Actor):
    """Restarts children; `on_fatal` hears of one that the process cannot do without."""

    def __init__(
        self,
        children: Children,
        *,
        clock: Clock,
        metrics: Metrics,
        on_fatal: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._children = children
        self._clock = clock
        self._metrics = metrics
        self._on_fatal = on_fatal

    def liveness_changed(self) -> None:
        """Be told that a child is given up for now, or counted on again."""

    def child_down(self, name: str) -> None:
        """Be told that a child crashed and will be restarted."""

    def see_to_children(self) -> None:
        """Go on with the restarts that a forerunner had begun."""
        for name in sorted(self._children.restarting):
            self.context.later(0.0, _Restart(name))
        for name in sorted(self._children.failed - self._children.restarting):
            self._await_proof(name)

    @handles(ActorCrashed)
    def child_crashed(self, message: ActorCrashed) -> None:
        """Restart a child after its back-off; over budget, give it up for now and go slow."""
        decision = self._children.crashed(message.name, self._clock.monotonic())
        self.child_down(message.name)
        delay_s = SLOW_RETRY_S if decision.is_over else decision.delay_s
        log.warning(
            "actor_restart_planned",
            actor=message.name,
            in_s=round(delay_s, 3),
            crashes=decision.number,
        )
        if decision.is_over:
            self._give_up(message.name)
        self.context.later(delay_s, _Restart(message.name))

    def _give_up(self, name: str) -> None:
        log.error("actor_over_budget", actor=name, retry_in_s=SLOW_RETRY_S)
        if name == "journal":
            self._on_fatal(name)
        self.liveness_changed()

    @handles(_Restart)
    def restart_child(self, message: _Restart) -> None:
        """Put a fresh instance behind the address."""
        self._children.restarted(message.name)
        self._metrics.actor_restarts(message.name).inc()
        self.context.runtime.restart(message.name)
        if message.name in self._children.failed:
            self._await_proof(message.name)

    def _await_proof(self, name: str) -> None:
        self.context.later(PROVEN_AFTER_S, _Proven(name, self._children.restarts[name]))

    @handles(_Proven)
    def child_proven(self, message: _Proven) -> None:
        """Count on a child again that was over its budget and has lived for a while."""
        name, children = message.name, self._children
        if name in children.failed and children.is_in_life(name, message.restart):
            children.recovered(name)
            self.liveness_changed()
