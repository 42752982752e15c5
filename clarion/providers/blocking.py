"""What an adapter owes whose library blocks: the same as every other, but from a thread.

`actors.blocking` runs it. Each call has a thread for itself, as many at once as the provider has
slots, so an adapter is called by several threads at the same time, and shares between them only
what its library says may be shared. A thread cannot be stopped: a call that is over its time limit
is UNKNOWN, and keeps its slot until it returns. Set a time limit in the library, too, a little
above the provider's `timeout`, or a hung connection keeps its slot for as long as it likes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

from clarion.domain.outcome import Answer, Health
from clarion.providers.base import Outgoing, Wire


class BlockingAdapter(Protocol):
    """One configured account at a sender, whose library blocks."""

    kind: ClassVar[str]
    channels: ClassVar[frozenset[str]]
    is_blocking: ClassVar[Literal[True]]

    def open(self) -> None:
        """Make sessions and pools; called before the first send."""
        ...

    def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Make one request; set `wire.is_written` as soon as the provider may have the message.

        Time-outs of the library and other foreign errors become answers here
        (`base.answer_for_exception`), as in every adapter.
        """
        ...

    def probe(self) -> Health:
        """Find out whether the provider would take a message, without sending one.

        Has a thread of its own, so that calls which hang do not hide how the provider is.
        """
        ...

    def close(self) -> None:
        """Release what `open` made; every send has returned, those that hung as well."""
        ...
