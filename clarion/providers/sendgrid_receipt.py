"""SendGrid's Event Webhook: verified over the raw body, and read event by event.

The signature covers a timestamp and the body to the last byte. SendGrid repeats for a day what it
could not deliver, and does not say whether it signs that anew: so a request may be that old, and
it is the id of each event that keeps a repeated one from counting twice.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from clarion.domain.notification import Reason, Status
from clarion.domain.receipt import Receipt
from clarion.providers.callback import (
    MAX_DETAIL_CHARS,
    MAX_KEY_CHARS,
    Callback,
    CallbackRefused,
    Reading,
    call_number,
    event_word,
    instant,
    notification_id,
    plain,
)
from clarion.telemetry.mask import mask_address, mask_text

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"

MAX_AGE_S = 25 * 3600.0
"""Of a signature: the day in which SendGrid repeats, and what clocks may differ."""
MAX_AHEAD_S = 300.0

MAX_SAID_CHARS = 4000
"""Of a foreign server's words that are looked at; what is masked is cut down further."""

STATUS_OF_EVENT: Mapping[str, Status | None] = {
    "processed": Status.SENT,
    "deferred": Status.SENT,
    "delivered": Status.DELIVERED,
    "bounce": Status.UNDELIVERED,
    "blocked": Status.UNDELIVERED,
    "dropped": Status.UNDELIVERED,
    "open": None,
    "click": None,
    "spamreport": None,
    "unsubscribe": None,
    "group_unsubscribe": None,
    "group_resubscribe": None,
}
"""What SendGrid's words mean for the notification; None for facts beside its status."""

_DROPPED: Mapping[str, tuple[Reason, str]] = {
    "bounced address": (Reason.RECIPIENT, "it bounced there before"),
    "unsubscribed address": (Reason.RECIPIENT, "the recipient has unsubscribed"),
    "spam reporting address": (Reason.RECIPIENT, "the recipient has reported spam before"),
    "invalid": (Reason.RECIPIENT, "the address is not valid"),
    "invalid smtpapi header": (Reason.PERMANENT, "the message is not valid"),
    "spam content (if spam checker app is enabled)": (Reason.PERMANENT, "it looks like spam"),
    "spam content": (Reason.PERMANENT, "it looks like spam"),
}
"""Why SendGrid did not even try, by its own words in small letters."""


def verification_key(text: str) -> EllipticCurvePublicKey:
    """Read the key of the settings page (base64 DER, P-256). Raises ValueError with advice."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("copy the verification key of the Event Webhook settings page as it is")
    return key


class SendGridReceipts:
    """Reads the event webhook of the provider `name`; without a key it refuses everything."""

    def __init__(self, name: str, public_key: str) -> None:
        self._name = name
        self._key = verification_key(public_key) if public_key else None

    @property
    def hindrance(self) -> str:
        """Say why none can be verified; "" where they can."""
        return "event_public_key is not set" if self._key is None else ""

    def read(self, callback: Callback) -> Reading:
        """Verify and parse one batch of events. Raises CallbackRefused."""
        self._verify(callback)
        events = _events(callback.body)
        found = [self._receipt(event, callback.now) for event in events]
        receipts = tuple(receipt for receipt in found if receipt is not None)
        return Reading(receipts, unread=len(found) - len(receipts))

    def _verify(self, callback: Callback) -> None:
        if self._key is None:
            raise CallbackRefused(self.hindrance)
        signature, timestamp = callback.headers.get(SIGNATURE), callback.headers.get(TIMESTAMP)
        if not signature or not timestamp:
            raise CallbackRefused("no signature; is Signed Event Webhook switched on at SendGrid?")
        _check_time(timestamp, callback.now)
        try:
            given = base64.b64decode(signature, validate=True)
            self._key.verify(given, timestamp.encode() + callback.body, ECDSA(SHA256()))
        except (ValueError, InvalidSignature) as error:
            raise CallbackRefused("another signature than that of event_public_key") from error

    def _receipt(self, event: Any, now: float) -> Receipt | None:
        if not isinstance(event, dict):
            return None
        id, word = notification_id(event.get("clarion_id")), event_word(event.get("event"))
        if id is None or word is None or word not in STATUS_OF_EVENT:
            return None
        status = STATUS_OF_EVENT[word]
        reason, code, detail = _story(event, word)
        return Receipt(
            notification_id=id,
            provider=self._name,
            event=word,
            key=_key(event, word),
            at=instant(event.get("timestamp"), now),
            status=status,
            call=call_number(event.get("clarion_call")),
            provider_message_id=_message_id(event),
            reason=reason,
            code=code,
            detail=detail,
        )


def _check_time(timestamp: str, now: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise CallbackRefused("the timestamp is none")
    age_s = now - int(timestamp)
    if not -MAX_AHEAD_S <= age_s <= MAX_AGE_S:
        raise CallbackRefused(f"signed {age_s:.0f} s ago; {MAX_AGE_S:.0f} s are the most")


def _events(body: bytes) -> list[Any]:
    """Return the events of a genuine body; one that is no array counts as one unread event."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, list) else [None]


def _key(event: dict[str, Any], word: str) -> str:
    own = plain(event.get("sg_event_id"), MAX_KEY_CHARS)
    message = plain(event.get("sg_message_id"), 100)
    return own or f"{word}:{plain(str(event.get('timestamp')), 20)}:{message}"


def _message_id(event: dict[str, Any]) -> str | None:
    # X-Message-Id, which the answer to the request had, is the part before the first dot.
    return plain(event.get("sg_message_id"), 100).partition(".")[0] or None


def _story(event: dict[str, Any], word: str) -> tuple[Reason | None, str, str]:
    """Return why it is undelivered, a code, and the words of whoever said so, masked."""
    match word:
        case "bounce" | "blocked":
            is_blocked = "blocked" in (word, event.get("type"))
            code = "sendgrid_blocked" if is_blocked else "sendgrid_bounce"
            said = _said(event, "reason") or "the recipient's mail server refused it"
            return Reason.RECIPIENT, code, said
        case "dropped":
            said = _said(event, "reason")
            reason, words = _DROPPED.get(said.lower(), (Reason.PROVIDER, said))
            detail = f"SendGrid did not try: {words}" if words else "SendGrid did not try"
            return reason, "sendgrid_dropped", detail
        case "delivered" | "deferred":
            return None, "", _said(event, "response")
        case "click":
            return None, "", _said(event, "url")
        case _:
            return None, "", ""


def _said(event: dict[str, Any], name: str) -> str:
    words, email = event.get(name), event.get("email")
    said = plain(words, MAX_SAID_CHARS)
    if isinstance(words, str) and len(words) > MAX_SAID_CHARS:
        # The last word may be half an address, which no mask would know.
        said = said.rpartition(" ")[0]
    if isinstance(email, str) and email:
        said = said.replace(email, mask_address(email))
    return mask_text(said)[:MAX_DETAIL_CHARS]
