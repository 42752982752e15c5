"""The gauges of `/metrics`: read from the actors when somebody scrapes, never pushed."""

from __future__ import annotations

from collections.abc import Sequence

from clarion.actors.messages import LaneSnapshot
from clarion.actors.runtime import Runtime
from clarion.actors.supervisor_messages import ProviderSnapshot
from clarion.errors import ClarionError
from clarion.service import Service
from clarion.telemetry.metrics import Metrics


class Gauges:
    """Sets what is a state, not an event, from one round of snapshots."""

    def __init__(self, service: Service, runtime: Runtime, metrics: Metrics) -> None:
        self._service = service
        self._runtime = runtime
        self._metrics = metrics

    async def refresh(self) -> None:
        """Ask the actors how they stand; what does not answer keeps its last value."""
        self._set_actors()
        try:
            self._set_lanes(await self._service.queues())
            self._set_providers((await self._service.providers()).providers)
        except ClarionError:
            # A scrape must work best when the rest does not; /health says what hangs.
            return

    def _set_actors(self) -> None:
        for each in self._runtime.statistics():
            self._metrics.mailbox(each.name).set(each.mailbox)
        self._metrics.loop_lag().set(self._runtime.loop_lag_s)

    def _set_lanes(self, lanes: Sequence[LaneSnapshot]) -> None:
        for lane in lanes:
            waiting = {
                "ready": lane.ready,
                "scheduled": lane.scheduled + lane.waiting,
                "in_flight": lane.in_flight,
            }
            for state, n in waiting.items():
                self._metrics.queue_jobs(lane.channel, state).set(n)
            self._metrics.queue_oldest(lane.channel).set(lane.oldest_at or 0.0)
            self._metrics.lane_held(lane.channel).set(lane.is_held)

    def _set_providers(self, providers: Sequence[ProviderSnapshot]) -> None:
        for each in providers:
            self._metrics.bulkhead_in_flight(each.name).set(each.in_flight)
            self._metrics.bulkhead_slots(each.name).set(each.slots)
