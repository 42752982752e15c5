"""What SendGrid's refusals mean, as data.

Its errors carry no machine codes, so a rule looks at the status, the field and the message of
each error. Rules are tried in order; what none of them knows is ruled by its status.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from clarion.domain.outcome import Outcome
from clarion.providers.http_status import Ruling


class Rule(NamedTuple):
    """Rules an answer of one of `statuses` that has an error whose texts match both patterns."""

    statuses: frozenset[int]
    field: re.Pattern[str]
    message: re.Pattern[str]
    ruling: Ruling


class SendGridError(NamedTuple):
    """One entry of `errors` in SendGrid's error document."""

    message: str
    field: str


def _rule(statuses: Sequence[int], field: str, message: str, ruling: Ruling) -> Rule:
    return Rule(
        frozenset(statuses), re.compile(field, re.IGNORECASE), re.compile(message, re.IGNORECASE),
        ruling,
    )  # fmt: skip


_RECIPIENT_FIELD = r"^personalizations\.\d+\.(to|cc|bcc)(\.\d+)?\.email$"

RULES: tuple[Rule, ...] = (
    # An exhausted plan is answered as 401, although the key is right.
    _rule(
        (401, 403, 429), "", r"credits? exceeded|exceeded .*credits?",
        Ruling(
            Outcome.THROTTLED, "sendgrid_credits_exceeded",
            "the SendGrid plan has no credits left",
        ),
    ),
    _rule(
        (403,), "", r"verified sender|sender identity|not match a verified",
        Ruling(
            Outcome.MISCONFIGURED, "sendgrid_sender_unverified",
            "SendGrid does not know the sender; verify from_address there",
        ),
    ),
    _rule(
        (403,), "", r"too many bad requests|temporar",
        Ruling(
            Outcome.MISCONFIGURED, "sendgrid_blocked",
            "SendGrid blocks the account for a while",
        ),
    ),
    _rule(
        (400,), _RECIPIENT_FIELD, "",
        Ruling(Outcome.RECIPIENT, "sendgrid_recipient", "SendGrid refuses the address"),
    ),
    _rule(
        (400,), r"^from(\.|$)", "",
        Ruling(
            Outcome.MISCONFIGURED, "sendgrid_sender",
            "SendGrid refuses the sender; check from_address",
        ),
    ),
)  # fmt: skip
"""Most telling first."""


def errors_of(document: Any) -> list[SendGridError] | None:
    """Read SendGrid's error document; None where it is not of SendGrid's shape."""
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list) or not errors:
        return None
    if not all(isinstance(one, dict) and isinstance(one.get("message"), str) for one in errors):
        return None
    return [SendGridError(one["message"], str(one.get("field") or "")) for one in errors]


def ruling_for(status: int, errors: Sequence[SendGridError]) -> Ruling | None:
    """Return what the first matching rule says; None when the status has to decide."""
    for rule in RULES:
        if status in rule.statuses and any(_matches(rule, error) for error in errors):
            return rule.ruling
    return None


def _matches(rule: Rule, error: SendGridError) -> bool:
    return bool(rule.field.search(error.field) and rule.message.search(error.message))
