"""What every adapter owes, and what it may rely on.

An adapter turns a `Dispatched` call into one request and the answer into an `Answer`. It is
stateless between sends: nothing of one message may reach the next. It never retries, never
sleeps, has no timeout of its own (the Provider actor holds one total timeout around `send`) and
never raises for what a provider does: foreign errors become answers here. What still escapes is
our bug, and the Provider actor answers for it by `Wire.is_written`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Health


@dataclass(slots=True)
class Wire:
    """How far a request got; the difference between TRANSIENT and UNKNOWN."""

    is_written: bool = False
    """True from the moment at which the provider may have read the message."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One call, as an adapter sees it."""

    notification_id: str
    """Stable over retries; travels as correlation or message id where the provider has one."""
    channel: str
    content: Content
    call: int
    correlation_id: str
    tenant: str | None = None
    reference: str | None = None
    metadata: dict[str, Any] | None = None


class Adapter(Protocol):
    """One configured account at a sender."""

    kind: ClassVar[str]
    channels: ClassVar[frozenset[str]]

    async def open(self) -> None:
        """Make sessions and pools; called on the loop before the first send."""
        ...

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Make one request; set `wire.is_written` as soon as the provider may have the message."""
        ...

    async def probe(self) -> Health:
        """Find out whether the provider would take a message, without sending one."""
        ...

    async def close(self) -> None:
        """Release what `open` made; running sends have ended."""
        ...
