"""This process as one node among several: who it is, and what it shares with the others.

Where `redis.url` is empty nothing is shared beside the store: nothing is opened, and no actor
started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from clarion import blueprint
from clarion.actors.commons import Commons
from clarion.actors.commons_messages import TellNews
from clarion.actors.runtime import Runtime
from clarion.domain.node import Node
from clarion.errors import ActorDead
from clarion.policies.circuit_news import News
from clarion.policies.clock import Clock
from clarion.settings import Settings
from clarion.storage.reader import PoolState
from clarion.storage.shared_state import SharedState
from clarion.storage.url import is_postgresql

COMMONS = "commons"
_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound to
_ID_BITS = 40
"""Two of a thousand nodes have the same id once in two million deployments."""


class Nodes:
    """What an engine knows of itself and shares; see the module."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rng: Callable[[], float],
        random_bits: Callable[[int], int],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._is_listed = is_postgresql(settings.storage.url)
        """Whether the store knows the nodes, by their names."""
        drawn = f"{random_bits(_ID_BITS):010x}" if settings.redis.url else ""
        name = blueprint.node_name(settings) if self._is_listed else drawn
        self.own = _describe(name, settings, clock.now())
        self.peers: list[Node] = []
        """The nodes that share the store; the membership keeps it up to date."""
        self.shared: SharedState | None = None
        if settings.redis.url:
            self.shared = blueprint.shared_state(settings, rng, clock)

    def make_commons(self, runtime: Runtime) -> Commons:
        """Make the actor that shares; only where something is shared."""
        assert self.shared is not None
        providers = {name for route in blueprint.routes(self._settings) for name in route.providers}
        return Commons(
            self.shared,
            lambda: self.own,
            limits=blueprint.shared_limits(self._settings, providers),
            providers=providers,
            supervisor=runtime.ref("supervisor"),
            breaker_of=lambda name: runtime.ref(f"breaker:{name}"),
            clock=self._clock,
            live_nodes=(lambda: len(self.peers)) if self._is_listed else None,
        )

    def teller(self, runtime: Runtime) -> Callable[[News], None] | None:
        """Return what tells the others of a circuit; None where there are none."""
        return None if self.shared is None else lambda news: _tell(runtime, news)

    def listens_at(self, url: str) -> None:
        """Tell the others where this node is reached, unless its `public_url` says so."""
        if self.shared is not None and not self.own.address:
            parts = urlsplit(url)
            host = f"{self.own.host}:{parts.port}" if parts.hostname in _ANY else parts.netloc
            self.own = replace(self.own, address=f"{parts.scheme}://{host}")

    def pool_state(self) -> PoolState | None:
        """Say how the pool of connections stands; None where there is none."""
        return None if self.shared is None else self.shared.state()


def _tell(runtime: Runtime, news: News) -> None:
    # At the end of the process the Commons stops before the Breakers, and need not know any more.
    with suppress(ActorDead):
        runtime.ref(COMMONS).tell(TellNews(news))


def _describe(id: str, settings: Settings, now: float) -> Node:
    try:
        number = version("clarion")
    except PackageNotFoundError:
        number = ""
    return Node(id, socket.gethostname(), os.getpid(), number, now, settings.server.public_url)
