"""Twilio's status callbacks: verified by the SDK, and read by the table of `twilio_code`.

The signature covers the public URL and the form, nothing of when: a request that is sent again is
as genuine as the first, and told by its message and status. Statuses come in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, parse_qsl

from multidict import MultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from clarion.domain.notification import Reason, Status
from clarion.domain.outcome import Outcome
from clarion.domain.receipt import Receipt
from clarion.providers.callback import (
    MAX_KEY_CHARS,
    Callback,
    CallbackRefused,
    Reading,
    call_number,
    event_word,
    notification_id,
    plain,
)
from clarion.providers.twilio_code import RULINGS

MAX_FIELDS = 200

STATUS_OF_EVENT: Mapping[str, Status] = {
    "accepted": Status.SENT,
    "scheduled": Status.SENT,
    "queued": Status.SENT,
    "sending": Status.SENT,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.DELIVERED,
    "undelivered": Status.UNDELIVERED,
    "failed": Status.UNDELIVERED,
    "canceled": Status.UNDELIVERED,
}
"""What Twilio's words mean for the notification."""

_DETAILS = {
    Status.SENT: "Twilio has the message",
    Status.DELIVERED: "the carrier confirmed that it arrived",
    Status.UNDELIVERED: "Twilio could not deliver it",
}


class TwilioReceipts:
    """Reads the status callbacks of the provider `name`, signed with `auth_token`."""

    def __init__(self, name: str, auth_token: str, public_url: str) -> None:
        self._name = name
        self._public_url = public_url.rstrip("/")
        self._validator = RequestValidator(auth_token)

    @property
    def hindrance(self) -> str:
        """Say why none can be verified; "" where they can."""
        is_missing = not self._public_url
        return "server.public_url is not set, which the signature covers" if is_missing else ""

    def read(self, callback: Callback) -> Reading:
        """Verify and parse one callback. Raises CallbackRefused."""
        form = _form(callback.body)
        self._verify(callback, form)
        receipt = self._receipt(callback, form)
        return Reading(unread=1) if receipt is None else Reading((receipt,))

    def _verify(self, callback: Callback, form: MultiDict[str]) -> None:
        if self.hindrance:
            raise CallbackRefused(self.hindrance)
        signature = callback.headers.get("X-Twilio-Signature")
        if not signature:
            # The validator would raise a TypeError.
            raise CallbackRefused("no signature")
        url = self._public_url + callback.path_qs
        try:
            is_genuine = self._validator.validate(url, form, signature)
        except ValueError as error:
            raise CallbackRefused("the URL or the form cannot be signed") from error
        if not is_genuine:
            raise CallbackRefused(
                "another signature: auth_token is not the account's primary one, or Twilio calls"
                " another URL than server.public_url leads to"
            )

    def _receipt(self, callback: Callback, form: MultiDict[str]) -> Receipt | None:
        query = parse_qs(callback.path_qs.partition("?")[2])
        id = notification_id(query.get("clarion_id", [None])[0])
        event = event_word(form.get("MessageStatus") or form.get("SmsStatus"))
        status = STATUS_OF_EVENT.get(event or "")
        if id is None or event is None or status is None:
            return None
        sid = plain(form.get("MessageSid") or form.get("SmsSid"), 64)
        reason, code, detail = _failure(form.get("ErrorCode", ""), status)
        return Receipt(
            notification_id=id,
            provider=self._name,
            event=event,
            key=f"{sid}:{event}"[:MAX_KEY_CHARS],
            at=callback.now,
            status=status,
            call=call_number(query.get("clarion_call", [None])[0]),
            provider_message_id=sid or None,
            reason=reason,
            code=code,
            detail=detail,
        )


def _form(body: bytes) -> MultiDict[str]:
    try:
        # Values are not trimmed: the signature covers blanks, too.
        return MultiDict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        )
    except ValueError as error:
        raise CallbackRefused("the body is no form") from error


def _failure(text: str, status: Status) -> tuple[Reason | None, str, str]:
    """Return why it is undelivered, a code and a sentence; only the last for other statuses."""
    if status is not Status.UNDELIVERED:
        return None, "", _DETAILS[status]
    if not text.isdecimal() or len(text) > 6:
        return Reason.PROVIDER, "", _DETAILS[status]
    ruling = RULINGS.get(int(text))
    if ruling is None:
        return Reason.PROVIDER, f"twilio_{text}", f"Twilio could not deliver it (error {text})"
    return _REASONS.get(ruling.outcome, Reason.PROVIDER), ruling.reason, ruling.words


_REASONS = {Outcome.RECIPIENT: Reason.RECIPIENT, Outcome.PERMANENT: Reason.PERMANENT}
