"""The messages to the Journal besides the commands of `storage`, and its news; see `messages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clarion.actors.messages import Internal
from clarion.domain.notification import Status
from clarion.domain.value import value_class


@dataclass(slots=True, eq=False)
class Committed(Internal):
    """Writer -> Journal: one batch is through (or each of its commands failed for itself)."""

    done: Sequence[Any]
    """`storage.writer.Done` items, in order."""


@dataclass(frozen=True, slots=True)
class JournalSnapshot:
    """How the store stands."""

    is_writable: bool
    reason: str
    pending: int
    """Commands submitted and not committed yet."""


@value_class
class Ended:
    """A notification reached a final status; told to waiters after the commit."""

    id: str
    status: Status
