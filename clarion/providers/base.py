"""What every adapter owes, and what it may rely on.

An adapter turns a `Dispatched` call into one request and the answer into an `Answer`. It is
stateless between sends: nothing of one message may reach the next. It never retries, never
sleeps, has no timeout of its own (the Provider actor holds one total timeout around `send`) and
never raises for what a provider does: foreign errors become answers here. What still escapes is
our bug, and the Provider actor answers for it by `Wire.is_written`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.domain.value import value_class


@dataclass(slots=True)
class Wire:
    """How far a request got; the difference between TRANSIENT and UNKNOWN."""

    is_written: bool = False
    """True from the moment at which the provider may have read the message."""
    is_host_only: bool = False
    """True where the call goes to a host of the recipient's: what breaks it tells of that host."""
    lingering: asyncio.Future[Any] | None = None
    """What still runs of a call that was cut off, such as a thread; its slot is taken until then.
    Set by `actors.blocking` alone."""


@value_class
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
    created_at: float = 0.0
    """When the notification was accepted, in seconds since the Unix epoch."""


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


_BREAKS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((TimeoutError,), "timeout", "no complete answer within the time limit"),
    ((socket.gaierror,), "dns_failed", "the name of the {owner}'s host cannot be resolved"),
    ((ssl.SSLError,), "tls_failed", "the secure connection could not be set up"),
    ((ConnectionRefusedError,), "connect_failed", "the {owner}'s host refuses connections"),
    ((ConnectionError, EOFError), "connection_lost", "the connection broke"),
    ((OSError,), "connect_failed", "the {owner}'s host cannot be reached"),
)
"""What can break a request, most telling first: exception types, reason, words for a person."""

_LINE_BREAKERS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


def answer_for_exception(exc: BaseException, wire: Wire) -> Answer:
    """Tell what a request that broke without a complete answer came to.

    Once the request was written the provider may have the message (UNKNOWN); before, it surely
    has not (TRANSIENT). The detail never quotes the exception, which may quote addresses.
    """
    owner = "recipient" if wire.is_host_only else "provider"
    reason, template = _break_of(exc)
    words = template.format(owner=owner)
    if wire.is_written:
        detail = f"{words}; the request was out, so the {owner} may have the message"
        return Answer(Outcome.UNKNOWN, reason, detail, is_host_only=wire.is_host_only)
    return Answer(
        Outcome.TRANSIENT, reason, f"{words}; nothing was sent",
        surely_not_accepted=True, is_host_only=wire.is_host_only,
    )  # fmt: skip


def flaw_in_headers(content: Content) -> Answer | None:
    """Refuse (PERMANENT) what could break out of a header; None where nothing can.

    The service refuses such content at its door; no line break may pass even if it failed to.
    """
    lines = [content.to, content.subject or ""]
    for name, value in (content.headers or {}).items():
        lines += (name, value)
    if not _LINE_BREAKERS.search("".join(lines)):
        return None
    detail = "the address, the subject or a header contains a line break or control character"
    return Answer(Outcome.PERMANENT, "header_injection", detail, surely_not_accepted=True)


def _break_of(exc: BaseException) -> tuple[str, str]:
    chain = list(_chain(exc))
    for types, reason, words in _BREAKS:
        if any(isinstance(one, types) for one in chain):
            return reason, words
    return "no_answer", "the exchange ended without a complete answer"


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        # aiohttp keeps what the socket said in `os_error`.
        inner = getattr(exc, "os_error", None)
        exc = inner if isinstance(inner, BaseException) else exc.__cause__ or exc.__context__
