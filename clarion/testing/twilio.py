"""A look-alike of Twilio's Create Message, as its published OpenAPI document describes it.

One delivery is counted per message, by the query parameter `clarion_id` of its StatusCallback;
without one by recipient and body, so give messages different bodies where they must be told
apart. Unknown parameters are refused (20001), which the real one does not do, so that a misspelt
one is found by a test. On demand it calls the StatusCallback of what it took, signed (`report`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

from clarion.testing.fault import Fault
from clarion.testing.ledger import SeenRequest
from clarion.testing.lookalike import Lookalike
from clarion.testing.reply import Reply
from clarion.testing.report import Report, Taken, twilio_report

_VERSION = "2010-04-01"
_BODY_LIMIT_CHARS = 1600
_MEDIA_LIMIT = 10

_REPEATABLE = frozenset({"MediaUrl", "PersistentAction"})
_PARAMETERS = _REPEATABLE | {
    "To", "From", "MessagingServiceSid", "Body", "ContentSid", "ContentVariables",
    "StatusCallback", "ApplicationSid", "MaxPrice", "ProvideFeedback", "Attempt",
    "ValidityPeriod", "ForceDelivery", "ContentRetention", "AddressRetention", "SmartEncoded",
    "TrafficType", "ShortenUrls", "ScheduleType", "SendAt", "SendAsMms", "RiskCheck",
    "FallbackFrom", "Tags",
}  # fmt: skip
_WORDS = {
    "ContentRetention": ("retain", "discard"),
    "AddressRetention": ("retain", "obfuscate"),
    "TrafficType": ("free",),
    "ScheduleType": ("fixed",),
    "RiskCheck": ("enable", "disable"),
    **dict.fromkeys(
        ("ProvideFeedback", "ForceDelivery", "SmartEncoded", "ShortenUrls", "SendAsMms"),
        ("true", "false", "True", "False"),
    ),
}
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_CHANNEL_ADDRESS = re.compile(r"(whatsapp|messenger|rcs):\S+")
_SENDER = re.compile(r"\+[1-9]\d{6,14}|\d{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}|[a-z]+:\S+")
_SID = {
    name: re.compile(prefix + "[0-9a-fA-F]{32}")
    for name, prefix in (
        ("MessagingServiceSid", "MG"), ("ContentSid", "HX"), ("ApplicationSid", "AP"),
    )
}  # fmt: skip
_BAD_SID = {"MessagingServiceSid": 21701, "ContentSid": 21655, "ApplicationSid": 21218}

_CODE_OF_STATUS = {
    400: 20001, 401: 20003, 403: 20403, 404: 20404, 405: 20004, 429: 20429, 500: 20500, 503: 20503,
}  # fmt: skip
_MESSAGE_OF_CODE = {
    20003: "Authenticate",
    20004: "Method not allowed",
    20429: "Too Many Requests",
    20500: "Internal Server Error",
    20503: "Service Unavailable",
    21610: "Attempt to send to unsubscribed recipient",
}

_GSM7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM7_EXTENDED = frozenset("^{}\\[~]|€\f")

Form = dict[str, list[str]]


class TwilioLookalike(Lookalike):
    """Twilio on loopback, for one account."""

    provider: ClassVar[str] = "twilio"

    def __init__(
        self,
        account_sid: str = "AC" + "0" * 32,
        auth_token: str = "test-token",  # noqa: S107 - opens nothing but this look-alike
        **options: Any,
    ) -> None:
        """Take these credentials as the only valid ones; `options` are those of `Lookalike`."""
        super().__init__(**options)
        self.account_sid = account_sid
        self.auth_token = auth_token
        credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self.authorization = f"Basic {credentials}"
        """The only Authorization header that is let in."""
        self._date = (0, "")
        self._taken = Taken()

    def is_send(self, method: str, path: str) -> bool:
        """Tell whether this is POST …/Messages.json."""
        return method == "POST" and path.endswith("/Messages.json")

    def parse(self, body: bytes) -> Any:
        """Read a form as name -> values; None when it is not UTF-8 text."""
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
        except ValueError:
            return None
        form: Form = {}
        for name, value in pairs:
            form.setdefault(name, []).append(value)
        return form

    def settings(self, **extra: Any) -> dict[str, Any]:
        """Return a `[providers.NAME]` table of kind "twilio" that points here."""
        return {
            "kind": "twilio", "account_sid": self.account_sid, "auth_token": self.auth_token,
            "base_url": self.url, "from_number": "+15005550006", **extra,
        }  # fmt: skip

    def own_error(self, fault: Fault) -> Reply:
        """Make Twilio's error document; `fault.code` and `.message` replace the usual ones."""
        code = fault.code or _CODE_OF_STATUS.get(fault.status) or 20000 + fault.status
        return self._refuse(fault.status, code, fault.message)

    def answer(self, seen: SeenRequest, body: bytes) -> Reply:
        """Answer Create Message and the account's own resource."""
        if seen.headers.get("Authorization") != self.authorization:
            return self._refuse(401, 20003)
        account = f"/{_VERSION}/Accounts/{self.account_sid}"
        allowed = {f"{account}.json": "GET", f"{account}/Messages.json": "POST"}.get(seen.path)
        if allowed is None:
            return self._refuse(404, 20404, f"The requested resource {seen.path} was not found")
        if seen.method != allowed:
            return self._refuse(405, 20004)
        return self._send(seen, body) if allowed == "POST" else self._account()

    def _account(self) -> Reply:
        return self._reply(
            200,
            {
                "sid": self.account_sid, "friendly_name": "Look-alike", "status": "active",
                "type": "Full", "owner_account_sid": self.account_sid,
                "date_created": self._now(), "date_updated": self._now(),
                "uri": f"/{_VERSION}/Accounts/{self.account_sid}.json",
            },
        )  # fmt: skip

    def _send(self, seen: SeenRequest, body: bytes) -> Reply:
        is_form = seen.headers.get("Content-Type", "").startswith(
            "application/x-www-form-urlencoded"
        )
        form = seen.payload = (self.parse(body) if is_form else None) or {}
        for code, message in flaws_of(form):
            return self._refuse(400, code, message)
        resource = self._resource(form)
        reply = self._reply(201, resource)
        reply.delivers = (correlation_id(form),)
        callback = _value(form, "StatusCallback") or ""
        self._taken.note(
            correlation_id(form),
            {"url": callback, "sid": resource["sid"], "to": resource["to"] or "",
             "from": resource["from"] or ""},
        )  # fmt: skip
        return reply

    def status_report(
        self, id: str, event: str, *, taken: int = -1, error_code: int | None = None, **more: str
    ) -> Report:
        """Make the signed callback that a message is `event`; `taken` of the times it was taken.

        `more` are further form fields. Raises KeyError for a message that was never taken, or so
        long ago that it is forgotten, and ValueError for one without StatusCallback.
        """
        message = self._taken.find(id, taken)
        if not message["url"]:
            raise ValueError(f"{id} has no StatusCallback")
        form = {
            "MessageSid": message["sid"], "SmsSid": message["sid"], "MessageStatus": event,
            "SmsStatus": event, "AccountSid": self.account_sid, "ApiVersion": _VERSION,
            "From": message["from"], "To": message["to"], **more,
        }  # fmt: skip
        if error_code is not None:
            form["ErrorCode"] = str(error_code)
        return twilio_report(message["url"], form, self.auth_token)

    async def report(self, id: str, event: str, **more: Any) -> int:
        """Send a `status_report`, and return the status of the answer."""
        return await self.status_report(id, event, **more).send()

    def _resource(self, form: Form) -> dict[str, Any]:
        media = len(form.get("MediaUrl", ()))
        service = _value(form, "MessagingServiceSid")
        sid = f"{'MM' if media else 'SM'}{self.next_serial():032x}"
        uri = f"/{_VERSION}/Accounts/{self.account_sid}/Messages/{sid}"
        body = _value(form, "Body") or ""
        return {
            "account_sid": self.account_sid, "api_version": _VERSION, "body": body,
            "date_created": self._now(), "date_sent": None, "date_updated": self._now(),
            "direction": "outbound-api", "error_code": None, "error_message": None,
            "from": _value(form, "From"), "messaging_service_sid": service,
            "num_media": str(media), "num_segments": "0" if service else str(segments(body)),
            "price": None, "price_unit": None, "sid": sid, "status": _first_status(form),
            "subresource_uris": {"media": f"{uri}/Media.json"}, "to": _value(form, "To"),
            "uri": f"{uri}.json",
        }  # fmt: skip

    def _refuse(self, status: int, code: int, message: str | None = None) -> Reply:
        text = message or _MESSAGE_OF_CODE.get(code) or HTTPStatus(status).phrase
        more_info = f"https://www.twilio.com/docs/errors/{code}"
        reply = self._reply(
            status, {"code": code, "message": text, "more_info": more_info, "status": status}
        )
        if status == 401:
            reply.headers = {**reply.headers, "WWW-Authenticate": 'Basic realm="Twilio API"'}
        return reply

    def _reply(self, status: int, document: dict[str, Any]) -> Reply:
        headers = {
            "Twilio-Concurrent-Requests": str(self.in_flight),
            "Twilio-Request-Id": f"RQ{self.next_serial():032x}",
            "Twilio-Request-Duration": "0.001",
            "Access-Control-Allow-Origin": "*",
            "X-API-Domain": "api.twilio.com",
        }
        return Reply(status, json.dumps(document).encode(), headers)

    def _now(self) -> str:
        second = int(self.now())
        if second != self._date[0]:
            # Formatting costs as much as the rest of an answer, and changes once a second.
            self._date = (second, format_datetime(datetime.fromtimestamp(second, UTC)))
        return self._date[1]


def correlation_id(form: Form) -> str:
    """Return our id of a message, or what stands for it when it carries none."""
    callback = _value(form, "StatusCallback")
    if callback is not None:
        own = parse_qs(urlsplit(callback).query).get("clarion_id")
        if own:
            return own[0]
    return f"{_value(form, 'To')} | {_value(form, 'Body') or ''}"


def segments(body: str) -> int:
    """Count the SMS segments that a text takes: GSM-7 where it can, else UCS-2."""
    if all(char in _GSM7 or char in _GSM7_EXTENDED for char in body):
        units = sum(2 if char in _GSM7_EXTENDED else 1 for char in body)
        single, joined = 160, 153
    else:
        units, single, joined = len(body.encode("utf-16-le")) // 2, 70, 67
    return max(1, 1 if units <= single else -(-units // joined))


def flaws_of(form: Form) -> Iterator[tuple[int, str]]:
    """Yield what Create Message refuses, as (code, message), in the order Twilio checks it."""
    for name, values in form.items():
        if name not in _PARAMETERS:
            yield 20001, f"Parameter '{name}' is not known"
        elif len(values) > 1 and name not in _REPEATABLE:
            yield 20001, f"Parameter '{name}' is given more than once"
    yield from _recipient_flaws(form)
    yield from _sender_flaws(form)
    yield from _content_flaws(form)
    yield from _option_flaws(form)


def _recipient_flaws(form: Form) -> Iterator[tuple[int, str]]:
    to = _value(form, "To")
    if not to:
        yield 21604, "A 'To' phone number is required."
    elif not _E164.fullmatch(to) and not _CHANNEL_ADDRESS.fullmatch(to):
        yield 21211, f"The 'To' number {to} is not a valid phone number."


def _sender_flaws(form: Form) -> Iterator[tuple[int, str]]:
    sender = _value(form, "From")
    if sender is None and _value(form, "MessagingServiceSid") is None:
        yield 21603, "A 'From' phone number is required."
    elif sender is not None and not _SENDER.fullmatch(sender):
        yield 21212, f"The 'From' number {sender} is not a valid phone number or sender ID."
    for name, pattern in _SID.items():
        sid = _value(form, name)
        if sid is not None and not pattern.fullmatch(sid):
            yield _BAD_SID[name], f"The {name} {sid} is invalid."


def _content_flaws(form: Form) -> Iterator[tuple[int, str]]:
    body = _value(form, "Body")
    if not body and "MediaUrl" not in form and "ContentSid" not in form:
        yield 21602, "Message body is required."
    elif body is not None and len(body) > _BODY_LIMIT_CHARS:
        yield 21617, "The concatenated message body exceeds the 1600 character limit"
    if len(form.get("MediaUrl", ())) > _MEDIA_LIMIT:
        yield 21623, "Number of media files exceeds allowed limit"


def _option_flaws(form: Form) -> Iterator[tuple[int, str]]:
    callback = _value(form, "StatusCallback")
    if callback is not None and not _is_callback(callback):
        yield 21609, f"The 'StatusCallback' URL {callback} is not a valid URL."
    for name, words in _WORDS.items():
        value = _value(form, name)
        if value is not None and value not in words:
            yield 20001, f"Parameter '{name}' must be one of {', '.join(words)}"
    validity = _value(form, "ValidityPeriod")
    if validity is not None and not (validity.isdecimal() and 1 <= int(validity) <= 36_000):
        yield 20001, "Parameter 'ValidityPeriod' must be between 1 and 36000"
    if "SendAt" in form and "ScheduleType" not in form:
        yield 35111, "The 'SendAt' parameter needs a 'ScheduleType'"


def _is_callback(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme in ("http", "https") and bool(host) and "_" not in host


def _first_status(form: Form) -> str:
    if "ScheduleType" in form:
        return "scheduled"
    return "accepted" if "MessagingServiceSid" in form else "queued"


def _value(form: Form, name: str) -> str | None:
    values = form.get(name)
    return values[0] if values else None
