"""Retention: removes what has ended and is older than `defaults.retention_days`, in the background.

Owns nothing but how far a pass has got. It goes through the records from the oldest on, a small
batch at a time, and rests nine times as long as each batch took: the slower the disk, or the more
others ask of it, the less it asks itself. Who may send: nobody. A crash begins the pass anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from clarion.actors.messages import Internal, Snapshot
from clarion.actors.runtime import Actor, Ref, handles
from clarion.errors import ClarionError
from clarion.policies.clock import Clock
from clarion.storage.command import Purge, PurgedRows
from clarion.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

FIRST_S = 30.0
"""After a start there is more urgent work."""
PASS_EVERY_S = 300.0
BATCH = 100
"""Records looked at by one command: some 5 ms of the writer."""
REST_SHARE = 9.0
MIN_REST_S = 0.05
ANSWER_S = 30.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class _Turn(Internal):
    """Self: time for the next batch."""


@dataclass(frozen=True, slots=True)
class _Answered(Internal):
    """Self: what a batch came to, and how long it took."""

    found: PurgedRows | Exception
    took_s: float


@dataclass(frozen=True, slots=True)
class RetentionSnapshot:
    """How many records this instance has removed, and whether a pass is under way."""

    removed: int
    is_busy: bool


class Retention(Actor):
    """Removes old records; see the module."""

    def __init__(
        self, *, journal: Ref, retention_days: float, clock: Clock, metrics: Metrics
    ) -> None:
        super().__init__()
        self._journal = journal
        self._kept_s = retention_days * DAY_S
        self._clock = clock
        self._metrics = metrics
        self._after = ""
        self._removed = 0

    def on_start(self) -> None:
        """Begin a pass, in a while."""
        self.context.later(FIRST_S, _Turn())

    @handles(_Turn)
    def turn(self, _message: _Turn) -> None:
        """Have the next batch removed."""
        self.context.start_task(self._ask(), name="purge")

    async def _ask(self) -> None:
        now, began = self._clock.now(), self._clock.monotonic()
        found: PurgedRows | Exception
        try:
            found = await self._journal.ask(
                Purge("", self._after, now - self._kept_s, BATCH, now), ANSWER_S
            )
        except Exception as error:
            # The boundary of a task: the disk, or a Journal that crashed; the next pass tries.
            found = error
        if self.context.ref.is_alive():
            self.context.ref.tell(_Answered(found, self._clock.monotonic() - began))

    @handles(_Answered)
    def answered(self, message: _Answered) -> None:
        """Go on behind what was looked at, or rest until the next pass."""
        found = message.found
        if isinstance(found, Exception):
            level = log.info if isinstance(found, ClarionError) else log.error
            level("purge_failed", error=str(found), retry_in_s=PASS_EVERY_S)
            self._rest(PASS_EVERY_S, "")
            return
        for (channel, _), n in found.gone.items():
            self._metrics.purged(channel).inc(n)
            self._removed += n
        if found.after is None:
            self._rest(PASS_EVERY_S, "")
        else:
            self._rest(max(MIN_REST_S, REST_SHARE * message.took_s), found.after)

    def _rest(self, for_s: float, after: str) -> None:
        self._after = after
        self.context.later(for_s, _Turn())

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> RetentionSnapshot:
        """Say how far it got."""
        return RetentionSnapshot(self._removed, bool(self._after))
