"""Receipts: what a provider tells us later about a message that it took, or may have taken.

A receipt with a `status` says where the message stands now. One without is a fact beside it: the
message was opened, a link was clicked, the recipient complained.
"""

from __future__ import annotations

from dataclasses import dataclass

from clarion.domain.notification import Reason, Status


@dataclass(frozen=True, slots=True)
class Receipt:
    """One event of one message, verified and parsed."""

    notification_id: str
    provider: str
    event: str
    """The provider's own word: "delivered", "bounce", "open"."""
    key: str
    """Tells this event of the message from its others: an event that comes twice counts once."""
    at: float
    """When it happened, by the provider's clock."""
    status: Status | None = None
    """SENT (the provider has it), DELIVERED or UNDELIVERED; None for a fact beside the status."""
    call: int | None = None
    """The call that it tells of; None where the provider did not repeat the number."""
    provider_message_id: str | None = None
    reason: Reason | None = None
    """Why it is UNDELIVERED."""
    code: str = ""
    """A short stable code: "twilio_30003", "sendgrid_bounce"."""
    detail: str = ""
    """One sentence for a person; never an unmasked address."""


@dataclass(frozen=True, slots=True)
class CallPlace:
    """A call of a notification, as far as receipts ask for it."""

    number: int
    provider: str
    provider_message_id: str | None = None
