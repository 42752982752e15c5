"""Headers that a request may add: never one that names who it is from or to, or how it travels.

One list for all channels: what is an address in mail is none in HTTP, but a header that means two
things is not worth the doubt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from clarion.domain.text import Report, line_fault, pointer_to, shown, type_name

MAX_HEADERS = 50
MAX_NAME = 76
MAX_VALUE = 998
"""RFC 5322 section 2.1.1: the characters of a line."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

RESERVED = frozenset(
    {
        # addresses
        "from", "to", "cc", "bcc", "sender", "reply-to", "return-path", "errors-to",
        "delivered-to", "envelope-to", "apparently-to", "x-original-to", "x-envelope-to",
        "x-envelope-from", "disposition-notification-to", "return-receipt-to",
        "mail-followup-to", "mail-reply-to", "x-confirm-reading-to",
        # what the message is, and the rest of its envelope
        "subject", "date", "message-id", "mime-version", "received", "received-spf",
        "authentication-results", "domainkey-signature", "x-smtpapi",
        # how an HTTP request travels
        "host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade",
        "expect", "via", "forwarded",
        # how a webhook is signed and told apart
        "webhook-id", "webhook-timestamp", "webhook-signature", "idempotency-key",
    }
)  # fmt: skip
"""Names that are refused, in lower case."""

RESERVED_PREFIXES = (
    "content-", "resent-", "dkim-", "arc-", "proxy-", "x-forwarded-", "svix-", "webhook-",
    # steering fields of providers
    "x-sg-", "x-twilio-", "x-mailgun-", "x-pm-", "x-ses-", "x-mj-", "x-mc-", "x-msys-",
)  # fmt: skip


def is_reserved(name: str) -> bool:
    """Say whether a header of this name belongs to Clarion or to the provider."""
    lowered = name.lower()
    return lowered in RESERVED or lowered.startswith(RESERVED_PREFIXES)


def read_headers(value: object, pointer: str, report: Report) -> dict[str, str]:
    """Return the headers that may be added; `report` is told of every other one."""
    if not isinstance(value, Mapping):
        report(f"must be an object of strings, not {type_name(value)}", pointer)
        return {}
    if len(value) > MAX_HEADERS:
        report(f"holds {len(value)} headers; {MAX_HEADERS} are the most", pointer)
        return {}
    return _read(value, pointer, report)


def _read(value: Mapping[Any, Any], pointer: str, report: Report) -> dict[str, str]:
    headers: dict[str, str] = {}
    seen: set[str] = set()
    for name, text in value.items():
        fault = _name_fault(name, seen) or _value_fault(text)
        if fault is None:
            headers[str(name)] = str(text)
        else:
            report(fault, pointer_to(pointer, name))
    return headers


def _name_fault(name: object, seen: set[str]) -> str | None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        return f"{shown(name)} is no name of a header"
    if len(name) > MAX_NAME:
        return f"the name is {len(name)} characters long; {MAX_NAME} are the most"
    if is_reserved(name):
        return f"the header {shown(name)} is set by Clarion or by the provider alone"
    if name.lower() in seen:
        return f"the header {shown(name)} is there twice, in other letters"
    seen.add(name.lower())
    return None


def _value_fault(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {type_name(value)}"
    return line_fault(value, MAX_VALUE)
