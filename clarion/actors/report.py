"""What the runtime reports about actors: how they stand, why one crashed, what was taken out."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Literal

import structlog

log = structlog.get_logger(__name__)

State = Literal["starting", "running", "crashed", "stopped"]


@dataclass(frozen=True, slots=True)
class CrashReport:
    """Why an instance was discarded; its address waits for `Runtime.restart`."""

    name: str
    exception: BaseException
    traceback_text: str
    message_type: str
    """"" when it did not come from a message."""
    is_start_failure: bool
    crash_number: int
    """1 for the first crash of this address."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that crashed two instances in a row and was taken out."""

    name: str
    message: Any
    exception: BaseException


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """How an address stands."""

    name: str
    state: State
    mailbox: int
    """Messages that wait."""
    handled: int
    crashes: int
    message_type: str
    """What is in hand; "" when nothing is."""
    age_s: float | None
    """How long it has been in hand; None when nothing is, or a sync handler runs."""


def log_crash(report: CrashReport) -> None:
    """Log a crash with its cause, for whoever repairs the bug."""
    log.error(
        "actor_crashed",
        actor=report.name,
        error=repr(report.exception),
        message_type=report.message_type,
        crash_number=report.crash_number,
        traceback=report.traceback_text,
    )


def log_failure(event: str, name: str, error: BaseException, **fields: str) -> None:
    """Log an exception that stops at the boundary of the actor `name`."""
    log.error(event, actor=name, error=repr(error), traceback=traceback_text(error), **fields)


def traceback_text(error: BaseException) -> str:
    """Format an exception with its traceback and causes."""
    return "".join(traceback.format_exception(error))
