"""Calls that stand by: their intent is on disk before a slot is free for them.

Without them a slot stands idle from the end of one call until the next intent is durable, and the
shorter the calls, the smaller the batches that are written meanwhile. So a lane is asked for as
many calls more as ended while its last demand was on the way to the disk and back: for a fast
provider up to one call per slot, for one that is slower than the disk hardly any. What stands by
waits about as long as one commit takes, so neither priority nor order is lost for longer.

A death of the process marks what stood by as possibly sent, since its row cannot tell, beside what
was out: up to two calls for each slot. So no job stands by that would be parked for that, and at a
gate in the slightest trouble nobody does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from clarion.domain.notification import Call, Delivery, Job


@dataclass(slots=True)
class Standby:
    """The calls of one provider that wait for a slot."""

    most: int = 0
    """How many may; 0 where nobody should."""
    calls: deque[Call] = field(default_factory=deque)
    pace: int = 0
    """How many calls ended in the time of a demand, lately."""
    _ended: int = 0
    """How many have ended since the last demand."""

    def admits(self, job: Job) -> bool:
        """Whether this job may be one of them."""
        return self.most > 0 and may_stand_by(job)

    @property
    def room(self) -> int:
        """How many more to ask for; 0 until half of them are gone, since batches are cheaper."""
        wanted = min(self.most, self.pace)
        return wanted - len(self.calls) if len(self.calls) <= wanted // 2 else 0

    def demanded(self) -> None:
        """A demand goes out."""
        self._ended = 0

    def ended(self) -> None:
        """A call came to its end."""
        self._ended += 1

    def answered(self) -> None:
        """The demand came back."""
        self.pace = max(self._ended, self.pace * 7 // 8)

    def dismiss(self) -> list[Call]:
        """Take all of them out, and ask for none until calls end again."""
        calls = list(self.calls)
        self.calls.clear()
        self.pace = self._ended = 0
        return calls


def may_stand_by(job: Job) -> bool:
    """Whether a job may be marked as possibly sent though it was not."""
    return job.delivery is not Delivery.AT_MOST_ONCE
