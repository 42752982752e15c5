"""The messages to and from the Commons: what nodes share; see `messages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clarion.actors.messages import Internal
from clarion.domain.node import Node
from clarion.domain.value import value_class
from clarion.policies.circuit_news import News
from clarion.policies.grant import Grant


@dataclass(frozen=True, slots=True)
class WantPlaces(Internal):
    """Supervisor -> Commons: work waits for a provider whose limit nodes share."""

    provider: str
    n: int
    has_used_unseen: bool
    """It went on alone before, and the others do not know what it used."""


@dataclass(frozen=True, slots=True)
class Granted(Internal):
    """Commons -> Supervisor: what came of it."""

    provider: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class LimitsShared(Internal):
    """Commons -> Supervisor: go on alone no more."""


@dataclass(frozen=True, slots=True)
class LimitsAlone(Internal):
    """Commons -> Supervisor: nothing can be given; go on alone, as one of so many nodes."""

    providers: Sequence[str]
    nodes: int
    at: float
    """Monotonic: not before."""


@dataclass(frozen=True, slots=True)
class TellNews(Internal):
    """Breaker -> Commons: something that the other nodes should know of a provider."""

    news: News


@dataclass(frozen=True, slots=True)
class NewsHeard(Internal):
    """Commons -> Breaker: what another node found out about its provider."""

    news: News


@value_class
class CommonsSnapshot:
    """How the nodes stand to each other, as this one sees it."""

    store: str
    """What they share, and where."""
    reason: str
    """Why it cannot be used; "" where it can."""
    eviction: str
    """The policy by which it throws keys away; "" where it does not."""
    node: Node
    nodes: tuple[Node, ...]
    """Those that are there, this one included; while it is away, those that were."""
    live: int
    """How many there may be: what a limit is divided by."""
