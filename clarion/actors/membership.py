"""Membership: keeps this node's place among those that share the store, and looks after the others.

Once a second, and when another node tells news, it renews the lease and reads how the nodes and the
lanes stand: which jobs nobody has, what operators decided elsewhere, which nodes came and went. It
tells the lanes, the Supervisor and the Redriver. A node that gives no sign of life is buried by the
others: its jobs become nobody's.

Only who has seen the store himself without a break for a while buries another: after an outage of
the store nobody has renewed a lease, and all are as alive as before.

Who may send: the listener (`NewsHeard`). A crash costs one beat. It is there only where the store
is shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from clarion.actors.membership_messages import (
    BreakerDecided,
    LaneDecided,
    LaneStanding,
    MembershipSnapshot,
    NewsHeard,
    NodesChanged,
    ProviderDecided,
)
from clarion.actors.messages import Internal, Snapshot
from clarion.actors.runtime import Actor, Ref, TimerHandle, handles
from clarion.domain.node import Node
from clarion.errors import ActorDead, ClarionError
from clarion.policies.clock import Clock
from clarion.policies.lease import Lease
from clarion.storage.membership import Beat, Control, Standing

log = structlog.get_logger(__name__)

BEAT_S = 1.0
NEWS_BEAT_S = 0.02
"""Until a beat that news ask for: what is told in one breath is looked at once."""
BREATH_S = 0.2
"""Between two beats at least, however much is told."""
ABSENT_S = 5.0
"""A node without a session is waited for so long; one with a session for its whole lease."""
TIMERS_AHEAD_S = 30.0
"""Timers that nobody has are taken this long before they fall due."""
ANSWER_S = 10.0

Controls = dict[tuple[str, str], tuple[str, float]]
"""(kind, name) -> (value, at)."""


@dataclass(frozen=True, slots=True)
class MembershipSettings:
    """What a node has to know of its place; durations in seconds."""

    node: Node
    lease_s: float
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _BeatNow(Internal):
    """Self: time for a beat."""


@dataclass(frozen=True, slots=True)
class _Answered(Internal):
    """Self: what a beat came to; `asked_at` is monotonic."""

    asked_at: float
    found: Standing | Exception


class Membership(Actor):
    """One node's place among the others; see the module."""

    def __init__(
        self,
        settings: MembershipSettings,
        *,
        lease: Lease,
        journal: Ref,
        supervisor: Ref,
        redriver: Ref,
        queue_of: Callable[[str], Ref],
        controls: Controls,
        peers: list[Node],
        clock: Clock,
    ) -> None:
        """`controls` are the decisions that this process knows already; they outlive a crash.

        `peers` is kept up to date with the nodes that there are, for whoever has to know how many.
        """
        super().__init__()
        self._settings = settings
        self._lease = lease
        self._journal = journal
        self._supervisor = supervisor
        self._redriver = redriver
        self._queue_of = queue_of
        self._known = controls
        self._clock = clock
        self._peers = peers
        self._steady_since: float | None = None
        """Monotonic: since when every beat has succeeded."""
        self._timer: TimerHandle | None = None
        self._began_at = -math.inf
        """Monotonic; of the last beat."""
        self._is_out = False
        self._is_wanted = False
        """News came that no beat has looked at yet."""

    def on_start(self) -> None:
        """Beat at once."""
        self.context.ref.tell(_BeatNow())

    @handles(NewsHeard)
    def hear(self, _message: NewsHeard) -> None:
        """Look what it is."""
        if not self._is_wanted:
            self._is_wanted = True
            if not self._is_out:
                self._plan()

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = BEAT_S
        if self._is_wanted:
            rested_s = self._clock.monotonic() - self._began_at
            delay_s = max(NEWS_BEAT_S, BREATH_S - rested_s)
        self._timer = self.context.later(delay_s, _BeatNow())

    @handles(_BeatNow)
    def beat(self, _message: _BeatNow) -> None:
        """Renew the lease and look around; one beat is out at a time."""
        if self._is_out:
            return
        self._is_out, self._is_wanted = True, False
        self._began_at = self._clock.monotonic()
        self.context.start_task(self._ask(), name="beat")

    async def _ask(self) -> None:
        asked_at, now = self._clock.monotonic(), self._clock.now()
        since = self._steady_since
        is_steady = since is not None and asked_at - since >= ABSENT_S
        found: Standing | Exception
        try:
            found = await self._journal.ask(
                Beat(
                    "",
                    self._settings.lease_s,
                    ABSENT_S if is_steady else None,
                    self._settings.channels,
                    now + TIMERS_AHEAD_S,
                    now,
                ),
                ANSWER_S,
            )
        except Exception as error:
            # The boundary of a task: the store, or a Journal that crashed; the next beat tries.
            found = error
        if self.context.ref.is_alive():
            self.context.ref.tell(_Answered(asked_at, found))

    @handles(_Answered)
    def answered(self, message: _Answered) -> None:
        """Tell what is new to those whom it concerns."""
        self._is_out = False
        self._plan()
        found = message.found
        if isinstance(found, Exception):
            self._steady_since = None
            # What is expected has been told by whoever has the trouble.
            level = log.info if isinstance(found, ClarionError) else log.error
            level("beat_failed", error=str(found))
            return
        if self._steady_since is None or found.gap_s >= ABSENT_S:
            self._steady_since = message.asked_at
        self._lease.renewed(message.asked_at)
        self._tell_nodes(found.nodes, found.buried)
        for channel in self._settings.channels:
            standing = LaneStanding(
                found.depth.get(channel, {}),
                found.unclaimed.get(channel, frozenset()),
                channel in found.unclaimed_timers,
            )
            with suppress(ActorDead):  # Its process stops.
                self._queue_of(channel).tell(standing)
        with suppress(ActorDead):
            for key, control in found.controls.items():
                self._tell_control(key, control)

    def _tell_nodes(self, nodes: Sequence[Node], buried: Sequence[str]) -> None:
        for name in buried:
            log.warning("node_given_up", node=name)
        before, after = ({each.id for each in group} for group in (self._peers, nodes))
        for name in sorted(after - before - {self._settings.node.id}):
            log.info("node_joined", node=name)
        for name in sorted(before - after - set(buried)):
            log.info("node_left", node=name)
        self._peers[:] = nodes
        if before != after:
            with suppress(ActorDead):
                self._redriver.tell(NodesChanged())

    def _tell_control(self, key: tuple[str, str], control: Control) -> None:
        news = (control.value, control.at)
        if self._known.get(key) == news:
            return
        self._known[key] = news
        if control.node == self._settings.node.id:
            return
        kind, name = key
        if kind == "lane" and name in self._settings.channels:
            self._queue_of(name).tell(LaneDecided(control.value, control.who))
        elif kind == "provider":
            is_enabled = control.value == "enabled"
            self._supervisor.tell(ProviderDecided(name, is_enabled, control.who))
        elif kind == "breaker":
            self._supervisor.tell(BreakerDecided(name, control.value, control.who))

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> MembershipSnapshot:
        """Say which nodes there are."""
        return MembershipSnapshot(self._settings.node, tuple(self._peers))
