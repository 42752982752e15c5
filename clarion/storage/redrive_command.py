"""The writes about dead letters and `unknown` ones, as plain data; see `command`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clarion.domain.notification import Job, Status
from clarion.domain.redrive import DeadFilter, RedrivePart, RedriveState
from clarion.storage.command import Command


@dataclass(slots=True, eq=False)
class BeginRedrive(Command):
    """Remember a redrive, one row for each lane; its id is known already: nothing. Result: None."""

    parts: Sequence[RedrivePart]


@dataclass(slots=True, eq=False)
class LoadRedrives(Command):
    """Read the parts that run, ordered behind all that was asked before. Result: the list."""


@dataclass(slots=True, eq=False)
class CancelRedrive(Command):
    """End the running parts of a redrive. Result: how many there were."""

    id: str
    now: float


@dataclass(frozen=True, slots=True)
class Revival:
    """What a redriven or resolved notification starts anew with; jobs stand behind one another."""

    flow: str
    vt: float
    """The first job's fair stamp."""
    expires_at: float
    now: float


@dataclass(slots=True, eq=False)
class RedriveSome(Command):
    """Move up to `limit` dead letters of a running redrive back into their lane.

    Looks at a bounded number of dead letters behind the cursor. Conditional on the part running
    and each record still being `failed` and not discarded; jobs, records, counts, cursor and
    progress change together. Result: `RedrivenRows`.
    """

    id: str
    limit: int
    revival: Revival


@dataclass(frozen=True, slots=True)
class RedrivenRows:
    """What a `RedriveSome` came to."""

    state: RedriveState
    jobs: list[Job] = field(default_factory=list)
    is_waiting: bool = False
    """Nothing was moved, since the lane can make no use of more now."""


@dataclass(slots=True, eq=False)
class DiscardDead(Command):
    """Put aside up to a bounded number of dead letters that died before `now`, behind `after`.

    Result: `DiscardedRows`.
    """

    wanted: DeadFilter
    after: tuple[float, str]
    who: str
    now: float


@dataclass(frozen=True, slots=True)
class DiscardedRows:
    """How many were put aside, and where to go on; None at the end."""

    n: int
    after: tuple[float, str] | None


@dataclass(slots=True, eq=False)
class ResolveAsSent(Command):
    """A person knows that a provider had it: `unknown` becomes `sent`. Result: `ResolveResult`."""

    id: str
    who: str
    now: float


@dataclass(slots=True, eq=False)
class ResolveAsRetry(Command):
    """A person wants it sent again: `unknown` becomes `queued`, marked. Result: `ResolveResult`."""

    id: str
    who: str
    revival: Revival


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """What became of a resolve: whether the record was `unknown`, and how it stands."""

    is_resolved: bool
    status: Status | None
    """None: there is no such notification."""
    job: Job | None = None


__all__ = [
    "BeginRedrive", "CancelRedrive", "DiscardDead", "DiscardedRows", "LoadRedrives",
    "RedriveSome", "RedrivenRows", "ResolveAsRetry", "ResolveAsSent", "ResolveResult", "Revival",
]  # fmt: skip
