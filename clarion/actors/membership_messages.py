"""The messages of a node about the others; see `messages`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clarion.actors.messages import Internal
from clarion.domain.node import Node


@dataclass(frozen=True, slots=True)
class NewsHeard(Internal):
    """Listener -> Membership: another node has told something."""


@dataclass(frozen=True, slots=True)
class LaneStanding(Internal):
    """Membership -> Queue: how its lane stands over all nodes."""

    depth: Mapping[str, int]
    """Live status -> how many."""
    unclaimed: frozenset[int]
    """Priorities with ready jobs that nobody has."""
    has_unclaimed_timers: bool


@dataclass(frozen=True, slots=True)
class LaneDecided(Internal):
    """Membership -> Queue: what an operator decided at another node."""

    value: str
    """"paused" or "running"."""
    who: str


@dataclass(frozen=True, slots=True)
class ProviderDecided(Internal):
    """Membership -> Supervisor: what an operator decided at another node."""

    name: str
    is_enabled: bool
    who: str


@dataclass(frozen=True, slots=True)
class BreakerDecided(Internal):
    """Membership -> Supervisor: what an operator decided at another node."""

    name: str
    action: str
    who: str


@dataclass(frozen=True, slots=True)
class NodesChanged(Internal):
    """Membership -> Redriver: a node came or went, and may have left something to do."""


@dataclass(frozen=True, slots=True)
class MembershipSnapshot:
    """The nodes that share the store, this one included."""

    node: Node
    nodes: tuple[Node, ...]
