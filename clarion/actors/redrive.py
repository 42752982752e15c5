"""The Redriver: moves dead letters back into their lanes, at the rate of each redrive.

Owns nothing that a crash could lose. Which redrives run and how far they got stands in a table;
the Redriver reads it when it starts and after everything that changes it, and asks the lanes in
turn to take some back. A lane stamps them and has the Journal move them; what it answers says
whether the redrive goes on. One question of a part is out at a time.

::

    table ──(read)──> running ──turn──> TakeBack ──> Queue ──> Journal
                         ^                                        │
                         └──(moved / rate later)── RedrivenRows <─┘

Who may send: the service. A crash costs the turns that were planned: the next instance reads the
table and takes a turn of each part at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from clarion.actors.membership_messages import NodesChanged
from clarion.actors.messages import Internal, Snapshot
from clarion.actors.redrive_messages import RedriverSnapshot, StartRedrive, StopRedrive, TakeBack
from clarion.actors.runtime import NO_REPLY, Actor, Ref, handles
from clarion.domain.redrive import RedrivePart, RedriveState
from clarion.errors import ClarionError
from clarion.policies.clock import Clock
from clarion.storage.redrive_command import (
    BeginRedrive,
    CancelRedrive,
    LoadRedrives,
    RedrivenRows,
)

log = structlog.get_logger(__name__)

TURN_S = 0.5
"""A redrive's turns come about so often; what one moves follows from the rate."""
MAX_MOVED_AT_ONCE = 250
"""Bound of a turn, so that its transaction stays short."""
SEARCH_S = 0.02
"""Until the next turn of a redrive that looked at many dead letters and found none."""
WAIT_S = 1.0
"""Until a lane is asked again that can make no use of more."""
RETRY_S = 5.0
"""Until the next turn after trouble: a full or closed lane, a disk that fails."""
ANSWER_S = 30.0

Key = tuple[str, str]
"""(id, channel) of a part."""


@dataclass(frozen=True, slots=True)
class _Look(Internal):
    """Self: read the table (again)."""


@dataclass(frozen=True, slots=True)
class _Found(Internal):
    """Self: what the table says, or why it could not be read."""

    parts: list[RedrivePart]
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Turn(Internal):
    """Self: let the lane of a part take some back."""

    key: Key


@dataclass(frozen=True, slots=True)
class _Answered(Internal):
    """Self: what a turn came to; `ticket` tells the turns of a crashed instance apart."""

    key: Key
    ticket: object
    found: RedrivenRows | Exception


class Redriver(Actor):
    """Drives the redrives; see the module."""

    def __init__(self, *, journal: Ref, queue_of: Callable[[str], Ref], clock: Clock) -> None:
        super().__init__()
        self._journal = journal
        self._queue_of = queue_of
        self._clock = clock
        self._running: dict[Key, RedrivePart] = {}
        self._tickets: dict[Key, object] = {}
        self._waiting: dict[Key, str] = {}

    def on_start(self) -> None:
        """Go on with what runs, as the table has it."""
        self._look()

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> RedriverSnapshot:
        """Say what runs."""
        return RedriverSnapshot(tuple(self._running), dict(self._waiting))

    # --- what people ask -------------------------------------------------------------------

    @handles(StartRedrive)
    def begin(self, message: StartRedrive) -> object:
        """Make a redrive durable, and begin with it."""
        self._journal.tell(BeginRedrive("", message.parts, reply=self.reply))
        self._look()
        return NO_REPLY

    @handles(StopRedrive)
    def cancel(self, message: StopRedrive) -> object:
        """Cancel a redrive; a turn that is under way finds it cancelled, or was before."""
        self._journal.tell(CancelRedrive("", message.id, self._clock.now(), reply=self.reply))
        self._look()
        return NO_REPLY

    # --- the table -------------------------------------------------------------------------

    @handles(_Look)
    def look_again(self, _message: _Look) -> None:
        """Read the table after it could not be read."""
        self._look()

    @handles(NodesChanged)
    def take_over(self, _message: NodesChanged) -> None:
        """Go on with what ran on a node that is gone."""
        self._look()

    def _look(self) -> None:
        # Ordered behind what was told the Journal before.
        self.context.start_task(self._read_table(), name="redrives-look")

    async def _read_table(self) -> None:
        try:
            parts = await self._journal.ask(LoadRedrives(""), ANSWER_S)
        except Exception as error:
            # The boundary of a task: the disk, or a Journal that crashed; it is asked again.
            self._hear(_Found([], error))
        else:
            self._hear(_Found(parts))

    @handles(_Found)
    def found(self, message: _Found) -> None:
        """Take up what runs, drop what does not any more."""
        if message.error is not None:
            # What is expected has been told by whoever has the trouble.
            level = log.info if isinstance(message.error, ClarionError) else log.error
            level("redrives_unread", error=str(message.error), retry_in_s=RETRY_S)
            self.context.later(RETRY_S, _Look())
            return
        before = self._running
        self._running = {(part.id, part.channel): part for part in message.parts}
        for key in self._running:
            if key not in before:
                self._take_turn(key)
        for key in before.keys() - self._running.keys():
            self._forget(key)

    # --- turns -----------------------------------------------------------------------------

    @handles(_Turn)
    def turn(self, message: _Turn) -> None:
        """Let the lane of a part take some back, if it still runs."""
        if message.key in self._running:
            self._take_turn(message.key)

    def _take_turn(self, key: Key) -> None:
        ticket = self._tickets[key] = object()
        limit = moved_at_once(self._rate_of(key))
        self.context.start_task(self._ask_lane(key, limit, ticket), name="redrive-turn")

    async def _ask_lane(self, key: Key, limit: int, ticket: object) -> None:
        id, channel = key
        try:
            found = await self._queue_of(channel).ask(TakeBack(id, limit), ANSWER_S)
        except Exception as error:
            # The boundary of a task: whatever it was, the table knows how far it got.
            found = error
        self._hear(_Answered(key, ticket, found))

    def _hear(self, news: Internal) -> None:
        # At the end the tasks outlive the actor, and what they find out concerns nobody.
        if self.context.ref.is_alive():
            self.context.ref.tell(news)

    @handles(_Answered)
    def answered(self, message: _Answered) -> None:
        """Plan the next turn, so that the rate is kept, or end."""
        key, found = message.key, message.found
        if self._tickets.get(key) is not message.ticket or key not in self._running:
            return
        if isinstance(found, Exception):
            self._wait(key, str(found), is_expected=isinstance(found, ClarionError))
            return
        self._waiting.pop(key, None)
        if found.state is not RedriveState.RUNNING:
            log.info("redrive_ended", redrive=key[0], channel=key[1], state=str(found.state))
            del self._running[key]
            self._forget(key)
        elif found.is_waiting:
            self._waiting[key] = "its lane is paused, or held with work enough"
            self.context.later(WAIT_S, _Turn(key))
        else:
            moved = len(found.jobs)
            self.context.later(moved / self._rate_of(key) if moved else SEARCH_S, _Turn(key))

    def _rate_of(self, key: Key) -> float:
        """Return a lane's share of its redrive's rate, which is that of all its lanes together."""
        lanes = sum(id == key[0] for id, _ in self._running)
        return self._running[key].rate / lanes

    def _forget(self, key: Key) -> None:
        self._tickets.pop(key, None)
        self._waiting.pop(key, None)

    def _wait(self, key: Key, why: str, *, is_expected: bool) -> None:
        if self._waiting.get(key) != why:
            level = log.info if is_expected else log.error
            level("redrive_waits", redrive=key[0], channel=key[1], why=why, retry_in_s=RETRY_S)
        self._waiting[key] = why
        self.context.later(RETRY_S, _Turn(key))


def moved_at_once(rate: float) -> int:
    """Return how many a turn moves at `rate` notifications a second."""
    return min(max(1, round(rate * TURN_S)), MAX_MOVED_AT_ONCE)
