"""What people do about notifications that have ended: redrive, discard, resolve.

Dead letters go back by the Redriver, at a rate; the rest is written at once. What is decided is
decided on the rows, so that nothing is moved twice by two people at the same time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clarion.actors.redrive_messages import RetryUnknown, StartRedrive, StopRedrive
from clarion.domain.notification import Notification, Status
from clarion.domain.redrive import DeadFilter, Redrive, RedrivePart, RedriveRequest, RedriveState
from clarion.errors import Conflict, NotFound
from clarion.policies.admission import flow_of
from clarion.policies.clock import Clock
from clarion.storage.dead_letter import first_place
from clarion.storage.reader import Reader
from clarion.storage.redrive_command import (
    DiscardDead,
    DiscardedRows,
    ResolveAsSent,
    ResolveResult,
)

Ask = Callable[[str, Any], Awaitable[Any]]
"""(name of an actor, or of a channel; message) -> its answer; raises what `Service` says."""

MAX_LISTED = 50
"""Redrives that are listed, the latest ones."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """The use cases; `ask` and `ask_lane` are the service's, `new_id` makes the id of a redrive."""

    ask: Ask
    ask_lane: Ask
    reader: Reader
    clock: Clock
    channels: Sequence[str]
    new_id: Callable[[], str]

    # --- redrives --------------------------------------------------------------------------

    async def count(self, wanted: DeadFilter) -> int:
        """Return how many dead letters a redrive of these would find."""
        return sum((await self._count_by_lane(wanted)).values())

    async def _count_by_lane(self, wanted: DeadFilter) -> dict[str, int]:
        found = await self.reader.count_dead_letters(wanted)
        # Where there is no lane any more, nothing can be moved.
        return {channel: found[channel] for channel in self.channels if channel in found}

    async def redrive(self, request: RedriveRequest, who: str = "api") -> Redrive:
        """Begin to move dead letters back into their lanes; returns once that is durable."""
        wanted, now = request.filter, self.clock.now()
        matched = await self._count_by_lane(wanted)
        id, at_least_one = self.new_id(), wanted.channel or self.channels[0]
        parts = tuple(
            RedrivePart(
                id, channel, wanted, request.rate, RedriveState.RUNNING, matched.get(channel, 0),
                0, 0, who, now, now,
            )
            for channel in (matched or [at_least_one])
        )  # fmt: skip
        await self.ask("redrive", StartRedrive(parts))
        return Redrive(parts)

    async def redrives(self) -> list[Redrive]:
        """Return the latest redrives, the latest first."""
        return await self.reader.redrives(MAX_LISTED)

    async def get(self, id: str) -> Redrive:
        """Return a redrive as it stands. Raises NotFound."""
        found = await self.reader.redrive(id) if id.isascii() else None
        if found is None:
            raise NotFound("redrive", id)
        return found

    async def cancel(self, id: str) -> Redrive:
        """Let a redrive move no more. Raises NotFound; Conflict when it has ended."""
        await self.get(id)
        n: int = await self.ask("redrive", StopRedrive(id))
        found = await self.get(id)
        if n == 0:
            raise Conflict(f"the redrive has ended: it is {found.state}")
        return found

    # --- discards --------------------------------------------------------------------------

    async def count_for_discard(self, wanted: DeadFilter) -> int:
        """Return how many dead letters a discard would find: it needs no lane to put them into."""
        return sum((await self.reader.count_dead_letters(wanted)).values())

    async def discard(self, wanted: DeadFilter, who: str = "api") -> int:
        """Put dead letters aside, and return how many; they stay `failed`.

        Where it breaks off, what was put aside stays so: asking again does the rest.
        """
        after: tuple[float, str] | None = first_place(wanted)
        now, n = self.clock.now(), 0
        while after is not None:
            step: DiscardedRows = await self.ask(
                "journal", DiscardDead(wanted.channel or "", wanted, after, who, now)
            )
            n, after = n + step.n, step.after
        return n

    # --- unknown ones ----------------------------------------------------------------------

    async def resolve_as_sent(self, found: Notification, who: str = "api") -> None:
        """Take a person's word that a provider had it. Raises Conflict when it is not unknown."""
        command = ResolveAsSent(found.channel, found.id, who, self.clock.now())
        _check(await self.ask("journal", command), found)

    async def resolve_as_retry(self, found: Notification, who: str = "api") -> None:
        """Send it again, marked; a provider may have it. Raises Conflict when it is not unknown."""
        if found.channel not in self.channels:
            raise Conflict(f"the channel {found.channel!r} is not configured any more")
        flow = flow_of(found.channel, found.content.to, found.tenant)
        message = RetryUnknown(found.id, found.priority, flow, who)
        _check(await self.ask_lane(found.channel, message), found)


def _check(result: ResolveResult, found: Notification) -> None:
    if result.is_resolved:
        return
    match result.status:
        case None:
            raise NotFound("notification", found.id)
        case Status.UNKNOWN:
            raise Conflict("its stored row cannot be read, so nothing can be sent")
        case status:
            raise Conflict(f"only what is unknown can be resolved, and it is {status}")
