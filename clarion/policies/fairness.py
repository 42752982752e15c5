"""Whose turn it is: between flows inside a priority, and between priorities.

Start-time fair queueing (Goyal, Vin, Cheng 1996): a job's stamp is `max(V, last stamp of its flow)
+ 1`, where V is the stamp of the job last taken there. A flow that comes late starts at V and
so is served soon, whatever the others have piled up; nobody saves up turns by being idle.
"""

from __future__ import annotations

from collections.abc import Collection

from clarion.domain.notification import Priority

CRITICAL_SHARE = 0.9
MAX_IDLE_FLOWS = 1000
"""About so many flows that have nothing waiting are remembered before somebody looks."""
WEIGHTS = {Priority.HIGH: 8, Priority.NORMAL: 4, Priority.LOW: 1}


class FairClock:
    """The stamps of one priority."""

    def __init__(self) -> None:
        self.virtual_at = 0.0
        self._last: dict[str, float] = {}
        self._forget_at = 2 * MAX_IDLE_FLOWS

    def stamp(self, flow: str, cost: float = 1.0, weight: float = 1.0) -> float:
        """Return the stamp of the flow's next job."""
        vt = max(self.virtual_at, self._last.get(flow, 0.0)) + cost / weight
        self._last[flow] = vt
        return vt

    def took(self, vt: float) -> None:
        """A job with this stamp was taken: time goes on, never back."""
        self.virtual_at = max(self.virtual_at, vt)
        if len(self._last) > self._forget_at:
            self._forget_idle()

    def restore(self, last: dict[str, float], virtual_at: float) -> None:
        """Go on from what the disk knows."""
        self._last = dict(last)
        self.virtual_at = virtual_at
        self._forget_idle()

    def _forget_idle(self) -> None:
        # A flow whose last stamp is passed would start at V anyway.
        self._last = {flow: vt for flow, vt in self._last.items() if vt > self.virtual_at}
        # Where most flows still wait, looking at all of them again has to be earned first.
        self._forget_at = 2 * (len(self._last) + MAX_IDLE_FLOWS)


class PriorityShare:
    """Critical first, but for one turn in ten; high, normal and low by 8:4:1, smoothly."""

    def __init__(self) -> None:
        self._credit = dict.fromkeys(WEIGHTS, 0)
        self._critical_in_a_row = 0

    def choose(self, waiting: Collection[Priority]) -> Priority | None:
        """Return whose turn it is among those that wait; None when nobody does."""
        others = [priority for priority in WEIGHTS if priority in waiting]
        if Priority.CRITICAL in waiting:
            limit = CRITICAL_SHARE / (1 - CRITICAL_SHARE)
            if not others or self._critical_in_a_row < round(limit):
                self._critical_in_a_row += 1
                return Priority.CRITICAL
        self._critical_in_a_row = 0
        return self._smooth(others) if others else None

    def _smooth(self, others: list[Priority]) -> Priority:
        # nginx's smooth weighted round robin, among those that have work.
        for priority in others:
            self._credit[priority] += WEIGHTS[priority]
        chosen = max(others, key=lambda priority: self._credit[priority])
        self._credit[chosen] -= sum(WEIGHTS[priority] for priority in others)
        return chosen
