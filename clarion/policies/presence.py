"""Which nodes are there, as one of them knows it, and what part of a limit they may use.

A node that stops says so. One that falls silent may have died, or be cut off and go on by itself at
its part of every limit: that part is left to it for a while, in case it is still there.
"""

from __future__ import annotations

from collections.abc import Collection

from clarion.policies.grant import QUIET_S

BEAT_S = 0.5
"""How often a node says that it is there."""
GONE_S = 3.0
"""A node that has been silent for so long is gone."""
MISSED_S = 60.0
"""For so long a node that fell silent is missed. It is a figure for nodes that die; one that is cut
off for longer is known only to a store that all of them write to (`live_nodes`)."""


class Presence:
    """Who is there; instants are monotonic."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._here: frozenset[str] = frozenset({node})
        self._seen_at: dict[str, float] = {node: 0.0}

    def heard(self, nodes: Collection[str], now: float) -> None:
        """Take over who is there, from the registry that all of them write to."""
        self._here = frozenset({self._node, *nodes})
        self._seen_at.update(dict.fromkeys(self._here, now))

    def left(self, node: str) -> None:
        """Note that a node said that it goes."""
        if node != self._node:
            self._here -= {node}
            self._seen_at.pop(node, None)

    @property
    def here(self) -> int:
        """How many are there, ourselves included."""
        return len(self._here)

    def live(self, now: float) -> int:
        """Return how many may be there, those that fell silent of late included."""
        gone = [node for node, at in self._seen_at.items() if now - at >= MISSED_S]
        for node in gone:
            if node not in self._here:
                del self._seen_at[node]
        return len(self._seen_at)

    def share(self, live: int) -> float:
        """Return the part of a limit that those who are there may use, of `live` nodes in all."""
        return self.here / max(self.here, live)


def alone_from(beat_at: float) -> float:
    """Return when a node whose last heartbeat was at `beat_at` may go on by itself.

    By then all others have noticed that it is gone, and what they took before they did is over.
    """
    return beat_at + GONE_S + BEAT_S + QUIET_S
