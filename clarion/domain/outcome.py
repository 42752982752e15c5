"""What a call to a provider came to: a closed vocabulary, and the answer that carries it.

DESIGN: the meaning of each outcome for the notification lives in `policies.verdict`, for the
circuit in `actors.breaker`; how a provider's codes become outcomes lives with each adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clarion.domain.text import storable
from clarion.domain.value import value_class


class Outcome(StrEnum):
    """What a call came to."""

    ACCEPTED = "accepted"
    """The provider took the message."""
    THROTTLED = "throttled"
    """Too fast or over quota; surely not processed."""
    TRANSIENT = "transient"
    """Provider trouble that the provider itself reported, or no connection at all."""
    UNKNOWN = "unknown"
    """The request was written and no complete answer came: the provider may have it."""
    RECIPIENT = "recipient"
    """This address is bad or opted out."""
    PERMANENT = "permanent"
    """This message is bad."""
    MISCONFIGURED = "misconfigured"
    """Our credentials, sender or account are wrong: every message would fail."""
    REFUSED = "refused"
    """Our own breaker gave no permit; nothing was sent."""
    RECALLED = "recalled"
    """The Supervisor took the call back before the wire; nothing was sent."""


HOST_BUSY = "host_busy"
HOST_THROTTLED = "host_throttled"
"""Reasons of THROTTLED where not the provider but the recipient's host takes no more just now."""


@value_class
class Answer:
    """The end of one call, as its provider's adapter understood it.

    A provider may say what is no text; an answer holds what a store can keep all the same, or
    the end of the call could not be written down, and its notification would never end.
    """

    outcome: Outcome
    reason: str
    """A short stable code: "http_500", "twilio_21610", "timeout", "connect_failed"."""
    detail: str = ""
    """One sentence for a person; never a secret, never an unmasked address."""
    surely_not_accepted: bool = False
    """True where the provider cannot have taken the message."""
    retry_after_s: float | None = None
    """The provider's wish, in seconds from now; None when it named none."""
    provider_message_id: str | None = None
    """The provider's own id of the message, to match its receipts."""
    suppress: bool = False
    """True where the recipient opted out and should not be written to again."""
    is_host_only: bool = False
    """True where it tells of this recipient's host alone (a webhook's), nothing of the provider."""
    is_recipient_only: bool = False
    """True where it tells of this recipient alone, as greylisting does: neutral to the provider's
    circuit, though another provider may be tried."""
    is_bug: bool = False
    """True where our own code failed; the traceback is in the log."""

    @property
    def tells_of_provider(self) -> bool:
        """Whether a failure counts against the provider."""
        return not (self.is_host_only or self.is_recipient_only)

    def __post_init__(self) -> None:
        # Nobody changes a value, but this is still its making.
        for name in ("detail", "provider_message_id"):
            said = getattr(self, name)
            if said and not said.isprintable():
                object.__setattr__(self, name, storable(said))


@dataclass(frozen=True, slots=True)
class Health:
    """What a health probe, which sends nothing, found out about a provider."""

    is_healthy: bool
    detail: str
    is_misconfigured: bool = False
    checked_at: float = 0.0
    """Seconds since the Unix epoch."""
