"""The gauges of `/metrics`: read from the actors when somebody scrapes, never pushed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from clarion.actors.commons_messages import CommonsSnapshot
from clarion.actors.messages import LaneSnapshot
from clarion.actors.runtime import Runtime
from clarion.actors.supervisor_messages import ProviderSnapshot
from clarion.domain.notification import Reason, Status
from clarion.domain.outcome import Outcome
from clarion.errors import ClarionError
from clarion.service import Service
from clarion.storage.reader import PoolState, Reader
from clarion.telemetry.metrics import Metrics

_DEAD = (Reason.EXHAUSTED, Reason.PERMANENT, Reason.RECIPIENT, Reason.POISON)


class Gauges:
    """Sets what is a state, not an event, from one round of snapshots."""

    def __init__(
        self,
        service: Service,
        reader: Reader,
        pools: Mapping[str, Callable[[], PoolState | None]],
        runtime: Runtime,
        metrics: Metrics,
    ) -> None:
        self._service = service
        self._reader = reader
        self._pools = pools
        self._runtime = runtime
        self._metrics = metrics

    async def refresh(self) -> None:
        """Ask the actors how they stand; what does not answer keeps its last value."""
        self._set_actors()
        self._set_pools()
        await self._set_storage()
        try:
            self._set_lanes(await self._service.queues())
            self._set_providers((await self._service.providers()).providers)
            self._set_commons(await self._service.commons())
        except ClarionError:
            # A scrape must work best when the rest does not; /health says what hangs.
            return

    def _set_actors(self) -> None:
        for each in self._runtime.statistics():
            self._metrics.mailbox(each.name).set(each.mailbox)
            self._metrics.actor_restarts(each.name)
        self._metrics.loop_lag().set(self._runtime.loop_lag_s)

    def _set_pools(self) -> None:
        for name, state in self._pools.items():
            pool = state()
            if pool is not None:
                self._metrics.pool_connections(name, "in_use").set(pool.used)
                self._metrics.pool_connections(name, "idle").set(pool.idle)
                self._metrics.pool_waited(name).set(pool.waited_s)

    async def _set_storage(self) -> None:
        try:
            is_writable = (await self._service.journal_snapshot()).is_writable
        except ClarionError:
            is_writable = False  # A silent Journal writes nothing either.
        self._metrics.storage_writable().set(is_writable)
        with suppress(ClarionError):
            upkeep = await self._reader.upkeep()
            if upkeep is not None:
                self._metrics.oldest_transaction().set(upkeep.oldest_transaction_s)
                for table, n in upkeep.dead_rows.items():
                    self._metrics.dead_rows(table).set(n)

    def _set_commons(self, commons: CommonsSnapshot | None) -> None:
        if commons is not None:
            self._metrics.shared_state_usable("redis").set(not commons.reason)

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
            self._begin_lane(lane.channel)

    def _set_providers(self, providers: Sequence[ProviderSnapshot]) -> None:
        for each in providers:
            self._metrics.bulkhead_in_flight(each.name).set(each.in_flight)
            self._metrics.bulkhead_slots(each.name).set(each.slots)
            self._metrics.retries(each.name)
            for outcome in Outcome:
                self._metrics.provider_call(each.name, outcome)

    def _begin_lane(self, channel: str) -> None:
        """Show counters at zero: of one that appears at 500, `rate()` sees no increase."""
        self._metrics.possible_duplicates(channel)
        for status in Status:
            if not status.is_live:
                self._metrics.ended(channel, status)
        for reason in _DEAD:
            self._metrics.dead_letters(channel, reason)
