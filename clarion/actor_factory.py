"""Makes each actor from the settings: a first instance, and one after each crash.

What an instance goes on with, and a crash must not cost, is kept here or by the engine: sessions,
watches over the wall clock, what the Supervisor remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from clarion import blueprint
from clarion.actors.breaker import Breaker
from clarion.actors.children import Children
from clarion.actors.journal import Journal
from clarion.actors.journal_messages import Ended
from clarion.actors.lane_writes import LaneWrites
from clarion.actors.membership import Membership, MembershipSettings
from clarion.actors.memory import Memory
from clarion.actors.provider import Desk, Provider
from clarion.actors.queue import Queue
from clarion.actors.redrive import Redriver
from clarion.actors.retention import Retention
from clarion.actors.runtime import Ref, Runtime
from clarion.domain.node import Node
from clarion.domain.representation import represent_accepted
from clarion.policies.circuit_news import News
from clarion.policies.clock import Clock
from clarion.policies.identifier import IdSource
from clarion.policies.lease import Lease
from clarion.policies.routing import RoutePlan
from clarion.policies.wall_clock import WallClockWatch
from clarion.providers.base import Adapter
from clarion.settings import Settings
from clarion.storage.writer import Writer
from clarion.supervisor import Supervisor
from clarion.telemetry.metrics import Metrics


class ActorFactory:
    """One engine's actors; `adapters` are used in place of those that the settings name."""

    def __init__(
        self,
        settings: Settings,
        routes: Sequence[RoutePlan],
        *,
        runtime: Runtime,
        memory: Memory,
        lease: Lease,
        ids: IdSource,
        clock: Clock,
        rng: Callable[[], float],
        metrics: Metrics,
        adapters: Mapping[str, Callable[[], Adapter]],
        executor: Executor | None,
        tell_others: Callable[[News], None] | None,
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._runtime = runtime
        self._memory = memory
        self._lease = lease
        self._ids = ids
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._adapters = adapters
        self._executor = executor
        self._tell_others = tell_others
        self._desks: dict[str, Desk] = {}
        self._watches = {route.channel: WallClockWatch(clock) for route in routes}
        self._incarnation = 0
        self._decided: dict[tuple[str, str], tuple[str, float]] = {}

    def _ref(self, name: str) -> Ref:
        return self._runtime.ref(name)

    def _queue_of(self, channel: str) -> Ref:
        return self._ref(f"queue:{channel}")

    def _queues(self) -> dict[str, Ref]:
        refs = {route.channel: self._queue_of(route.channel) for route in self._routes}
        return {channel: ref for channel, ref in refs.items() if ref.is_alive()}

    def journal(self, writer: Writer, on_ended: Callable[[Sequence[Ended]], None]) -> Journal:
        """Return the Journal; the writer outlives it."""
        return Journal(
            writer,
            queues=self._queues,
            on_ended=on_ended,
            clock=self._clock,
            metrics=self._metrics,
        )

    def supervisor(self, children: Children, on_fatal: Callable[[str], None]) -> Supervisor:
        """Return the Supervisor of `children`."""
        return Supervisor(
            self._routes,
            blueprint.provider_plans(self._settings, self._routes, self._clock),
            children=children,
            memory=self._memory,
            clock=self._clock,
            metrics=self._metrics,
            on_fatal=on_fatal,
        )

    def provider(self, name: str) -> Provider:
        """Return a Provider; the session of its forerunner is on its desk."""
        return Provider(
            name,
            blueprint.provider_times(name, self._settings),
            make_adapter=self._adapter_maker(name),
            desk=self._desks.setdefault(name, Desk()),
            supervisor=self._ref("supervisor"),
            breaker=lambda: self._ref(f"breaker:{name}"),
            queue_of=self._queue_of,
            clock=self._clock,
            metrics=self._metrics,
            lease=self._lease,
        )

    def _adapter_maker(self, name: str) -> Callable[[], Adapter]:
        return self._adapters.get(name) or blueprint.adapter_maker(
            name, self._settings, self._clock, self._executor
        )

    def breaker(self, name: str) -> Breaker:
        """Return a Breaker, which goes on from the last report of its forerunner."""
        return Breaker(
            name,
            blueprint.breaker_context(name, self._settings),
            last_report=self._memory.reports.get(name),
            supervisor=self._ref("supervisor"),
            provider_ref=self._ref(f"provider:{name}"),
            queue_of=self._queue_of,
            clock=self._clock,
            rng=self._rng,
            tell_others=self._tell_others,
        )

    def queue(self, route: RoutePlan, *, is_draining: bool) -> Queue:
        """Return a Queue, which the Journal tells from its forerunners."""
        self._incarnation += 1
        return Queue(
            blueprint.lane_settings(route, self._settings, self._rng),
            writes=LaneWrites(route.channel, self._ref("journal"), self._clock, self._incarnation),
            supervisor=self._ref("supervisor"),
            clock=self._clock,
            ids=self._ids,
            represent=represent_accepted,
            metrics=self._metrics,
            watch=self._watches[route.channel],
            is_draining=is_draining,
        )

    def redriver(self) -> Redriver:
        """Return the Redriver."""
        return Redriver(journal=self._ref("journal"), queue_of=self._queue_of, clock=self._clock)

    def retention(self) -> Retention:
        """Return what removes old records."""
        return Retention(
            journal=self._ref("journal"),
            retention_days=self._settings.defaults.retention_days,
            clock=self._clock,
            metrics=self._metrics,
        )

    def membership(self, node: Node, peers: list[Node], controls: blueprint.Controls) -> Membership:
        """Return what keeps this node's place; `controls` are known to the others already."""
        settings = self._settings
        for key, (value, _who, at) in controls.items():
            self._decided.setdefault(key, (value, at))
        return Membership(
            MembershipSettings(node, settings.queue.lease, tuple(settings.channels)),
            lease=self._lease,
            journal=self._ref("journal"),
            supervisor=self._ref("supervisor"),
            redriver=self._ref("redrive"),
            queue_of=self._queue_of,
            controls=self._decided,
            peers=peers,
            clock=self._clock,
        )
