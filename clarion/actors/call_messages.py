"""The messages to a Breaker and a Provider: calls on their way out, and back; see `messages`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clarion.actors.messages import Internal
from clarion.domain.notification import Call
from clarion.domain.outcome import Answer


@dataclass(slots=True, eq=False)
class Deliver(Internal):
    """Supervisor -> Breaker -> Provider: one call; the Breaker adds its permit."""

    call: Call
    permit: Any = None


@dataclass(slots=True, eq=False)
class Record(Internal):
    """Provider -> Breaker: the outcome of a permit."""

    permit: Any
    call: Call
    answer: Answer


@dataclass(frozen=True, slots=True)
class Lingering(Internal):
    """Provider -> Supervisor: all calls that are settled though their threads have not returned."""

    provider: str
    calls: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ReportCircuit(Internal):
    """Supervisor -> Breaker: tell me your state."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Steer(Internal):
    """Supervisor -> Breaker: an operator's "open", "close" or "reset"."""

    action: str


@dataclass(frozen=True, slots=True)
class ProbeHealth(Internal):
    """Supervisor -> Provider: run the health probe now (it sends nothing)."""
