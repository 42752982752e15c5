"""How the lanes stand, remembered for a moment, so that a page of notifications asks once.

A lane that does not answer in time must not hold up those who only read: it is shown as silent,
and its notifications as not held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from clarion.actors.messages import LaneSnapshot, Snapshot
from clarion.actors.runtime import Ref
from clarion.errors import ClarionError
from clarion.storage.reader import Reader

log = structlog.get_logger(__name__)

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
        self._asking.pop(channel, None)

    async def of(self, channel: str) -> LaneSnapshot | None:
        """Return how a lane stands, `FRESH_S` old at most; None where it does not say.

        Takes `READ_TIMEOUT_S` at most; the silence of a lane is remembered as well.
        """
        seen = self._seen.get(channel)
        if seen is not None and self._monotonic() - seen[0] < FRESH_S:
            return seen[1]
        # Whoever asked first may give up; the others still want the answer.
        return await asyncio.shield(self._asking.get(channel) or self._start_asking(channel))

    def _start_asking(self, channel: str) -> asyncio.Task[LaneSnapshot | None]:
        task = asyncio.get_running_loop().create_task(
            self._ask(channel), name=f"lane_view:{channel}"
        )
        self._asking[channel] = task
        task.add_done_callback(lambda done: self._answered(channel, done))
        return task

    def _answered(self, channel: str, task: asyncio.Task[LaneSnapshot | None]) -> None:
        # One that was forgotten meanwhile may tell of the time before the change.
        if self._asking.get(channel) is task:
            del self._asking[channel]
            if not task.cancelled():
                self._seen[channel] = (self._monotonic(), task.result())

    async def _ask(self, channel: str) -> LaneSnapshot | None:
        if self._is_lane_failed(channel):
            return None
        timeout_s = min(READ_TIMEOUT_S, self._ask_timeout_s)
        try:
            found: LaneSnapshot = await self._refs(f"queue:{channel}").ask(
                Snapshot(), timeout_s=timeout_s
            )
        except ClarionError:
            return None
        except Exception:
            # The actor boundary: a lane that cannot describe itself must not spoil a read.
            log.exception("lane_snapshot_failed", channel=channel)
            return None
        return found

    async def all(self, channels: Sequence[str], reader: Reader) -> list[LaneSnapshot]:
        """Return every lane, in the order of `channels`; the silent ones as the store has them."""
        found = await asyncio.gather(*(self.of(channel) for channel in channels))
        if all(found):
            return [lane for lane in found if lane is not None]
        by_channel = await _counts(reader)
        return [
            lane or self._silent(channel, by_channel.get(channel, {}).get("by_status", {}))
            for channel, lane in zip(channels, found, strict=True)
        ]

    def _silent(self, channel: str, by_status: Mapping[str, int]) -> SilentLane:
        is_failed = self._is_lane_failed(channel)
        return SilentLane(
            channel=channel,
            is_paused=False,
            is_held=False,
            held_reason=None,
            ready=by_status.get("queued", 0),
            scheduled=by_status.get("scheduled", 0),
            waiting=0,
            in_flight=by_status.get("sending", 0),
            oldest_at=None,
            in_memory=0,
            is_accepting=False,
            route=(),
            problem="it keeps failing and is tried again slowly"
            if is_failed
            else "it does not answer: it is starting, stopping or busy",
            is_failed=is_failed,
        )


async def _counts(reader: Reader) -> dict[str, Any]:
    try:
        counts: dict[str, Any] = (await reader.stats())["by_channel"]
    except ClarionError:
        # That a lane is silent is worth showing even when its numbers are not to be had.
        return {}
    return counts
