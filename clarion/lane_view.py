"""How the lanes stand, remembered for a moment, so that a page of notifications asks once.

A lane that does not answer in time must not hold up those who only read: it is shown as silent,
and its notifications as not held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clarion.actors.messages import LaneSnapshot, Snapshot
from clarion.actors.runtime import Ref
from clarion.errors import ClarionError
from clarion.storage.reader import Reader

FRESH_S = 0.25
"""How long a snapshot is good for: what a person cannot tell from at once."""

READ_TIMEOUT_S = 0.5
"""What reading a notification waits for its lane at most."""


@dataclass(frozen=True, slots=True)
class SilentLane(LaneSnapshot):
    """A lane that does not answer; its numbers come from the store."""

    problem: str = ""
    """Why, in plain words."""
    is_failed: bool = False
    """Whether it is over its restart budget."""


class LaneViews:
    """The last snapshot of each lane; asks again when it is older than `FRESH_S`."""

    def __init__(
        self,
        refs: Callable[[str], Ref],
        monotonic: Callable[[], float],
        *,
        is_lane_failed: Callable[[str], bool],
        ask_timeout_s: float,
    ) -> None:
        self._refs = refs
        self._monotonic = monotonic
        self._is_lane_failed = is_lane_failed
        self._ask_timeout_s = ask_timeout_s
        self._seen: dict[str, tuple[float, LaneSnapshot | None]] = {}
        self._asking: dict[str, asyncio.Task[LaneSnapshot | None]] = {}

    def forget(self, channel: str) -> None:
        """Ask anew at the next question: something was changed."""
        self._seen.pop(channel, None)

    async def held_reason(self, channel: str) -> str | None:
        """Return why the lane is held; None when it is not, or does not say."""
        raise NotImplementedError

    async def all(self, channels: Sequence[str], reader: Reader) -> list[LaneSnapshot]:
        """Return every lane, in the order of `channels`."""
        raise NotImplementedError
