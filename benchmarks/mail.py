"""What every contestant sends to the provider: one notification as SendGrid wants it.

The standard library alone: this module is imported in the environments of the peers, too.
"""

from __future__ import annotations

from typing import Any

PATH = "/v3/mail/send"
_FROM = {"email": "bench@example.com"}


def from_notification(notification: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON body of the call that delivers it."""
    return {
        "personalizations": [{"to": [{"email": notification["to"]}]}],
        "from": _FROM,
        "subject": notification["subject"],
        "content": [{"type": "text/plain", "value": notification["text"]}],
    }
