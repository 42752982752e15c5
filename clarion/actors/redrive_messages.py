"""The messages about dead letters and `unknown` ones; see `messages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clarion.actors.messages import Internal, Request
from clarion.domain.notification import Priority
from clarion.domain.redrive import RedrivePart

# --- to the Redriver -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartRedrive(Request):
    """Begin a redrive, one part for each lane. Replies None once durable."""

    parts: Sequence[RedrivePart]


@dataclass(frozen=True, slots=True)
class StopRedrive(Request):
    """Cancel a redrive. Replies, once durable, with how many of its parts were running."""

    id: str


@dataclass(frozen=True, slots=True)
class RedriverSnapshot:
    """Which parts of redrives run: (id, channel), and why one has to wait."""

    running: tuple[tuple[str, str], ...]
    waiting: dict[tuple[str, str], str]


# --- to a Queue ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakeBack(Internal):
    """Redriver -> Queue: let in up to `limit` of a redrive's dead letters.

    Replies with `storage.redrive_command.RedrivenRows`. Raises (as the reply): LaneFull,
    LaneClosed, StorageUnavailable. Internal, since there is one at a time for each redrive.
    """

    id: str
    limit: int


@dataclass(frozen=True, slots=True)
class RetryUnknown(Request):
    """Send an `unknown` one again, on a person's word.

    Replies with `storage.redrive_command.ResolveResult`; raises as `TakeBack`.
    """

    id: str
    priority: Priority
    flow: str
    who: str
