"""What the nodes of a deployment share, as the engine asks for it, wherever it is kept.

All of it is soft: nothing that is accepted depends on it, and any of it may be lost at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from clarion.domain.node import Node
from clarion.domain.value import value_class
from clarion.policies.circuit_news import News
from clarion.policies.grant import Limit
from clarion.storage.reader import PoolState


@value_class
class Beat:
    """What a heartbeat brought back."""

    nodes: tuple[Node, ...]
    news: tuple[News, ...]


@value_class
class Places:
    """What a node was given: n places, the first at an instant of the server's clock (seconds).

    None of them: ask again at `first`.
    """

    shown: float
    n: int
    first: float


class SharedState(Protocol):
    """One node's view of it; every method but `state` and `close` raises RedisAway."""

    @property
    def name(self) -> str:
        """Where it is, for people."""

    def state(self) -> PoolState:
        """Say how the pool of connections stands."""

    async def warm(self) -> None:
        """Open the connections that are kept."""

    async def close(self) -> None:
        """Close the connections."""

    async def beat(self, node: Node) -> Beat:
        """Say that a node is there, and hear of all the others and their circuits."""

    async def leave(self, node: str) -> None:
        """Say that a node goes."""

    async def take(
        self, name: str, limit: Limit, node: str, n: int, *, ahead_s: float, is_drained: bool
    ) -> Places:
        """Take some places on the schedule of a limit, none before `ahead_s` from now.

        `is_drained` begins with an empty bucket: the node has used some of it unseen.
        """

    async def tell(self, news: News) -> None:
        """Tell the others, and keep it for those who come later."""

    async def listen(self, on_news: Callable[[News], None], on_left: Callable[[str], None]) -> None:
        """Pass on what others tell, until the line breaks."""

    async def eviction(self) -> str:
        """Return the policy by which it throws keys away; "" where it throws none, or hides it."""
