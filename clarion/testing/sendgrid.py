"""A look-alike of SendGrid's v3 Mail Send, as its published OpenAPI document describes it.

It takes what the real one takes and nothing more: unknown members are refused too, which the
published schema does not ask for, so that a misspelt one is found by a test. One delivery is
counted per personalization, by `custom_args.clarion_id` there or at the top, else by recipient,
subject and text. On demand it posts events of what it took, signed (`report`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from clarion.testing.fault import Fault
from clarion.testing.ledger import SeenRequest
from clarion.testing.lookalike import Lookalike
from clarion.testing.reply import Reply
from clarion.testing.report import EventSigner, Report, Taken
from clarion.testing.shape import (
    Flaw,
    address,
    array,
    boolean,
    integer,
    mapping,
    one_of,
    record,
    text,
)  # fmt: skip

_SEND = "/v3/mail/send"
_SCOPES = "/v3/scopes"
_HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html"
_MESSAGE_LIMIT_BYTES = 30 * 1024 * 1024
_RECIPIENT_LIMIT = 1000
_CUSTOM_ARGS_LIMIT_BYTES = 10_000
_SCHEDULE_LIMIT_S = 72 * 3600
_RATE_LIMIT = 10_000
"""Requests in a minute that the rate headers talk about; nothing is refused by it."""

_RESERVED_HEADERS = frozenset(
    {
        "x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type",
        "content-transfer-encoding", "to", "from", "subject", "reply-to", "cc", "bcc",
    }
)  # fmt: skip

_PERSON = record({"email": address, "name": text()}, "email")
_PEOPLE = array(_PERSON, max_items=1000)
_SWITCH = record({"enable": boolean})
_PERSONALIZATION = record(
    {
        "from": _PERSON,
        "to": array(_PERSON, min_items=1, max_items=1000),
        "cc": _PEOPLE,
        "bcc": _PEOPLE,
        "subject": text(1),
        "headers": mapping(text()),
        "substitutions": mapping(text()),
        "dynamic_template_data": mapping(),
        "custom_args": mapping(text()),
        "send_at": integer,
    },
    "to",
)
_ATTACHMENT = record(
    {
        "content": text(1),
        "type": text(1),
        "filename": text(),
        "disposition": one_of("inline", "attachment"),
        "content_id": text(),
    },
    "content",
    "filename",
)
_TRACKING = record(
    {
        "click_tracking": record({"enable": boolean, "enable_text": boolean}),
        "open_tracking": record({"enable": boolean, "substitution_tag": text()}),
        "subscription_tracking": record(
            {"enable": boolean, "text": text(), "html": text(), "substitution_tag": text()}
        ),
        "ganalytics": record(
            {
                "enable": boolean,
                **dict.fromkeys(
                    ("utm_source", "utm_medium", "utm_term", "utm_content", "utm_campaign"), text()
                ),
            }
        ),
    }
)
_MAIL_SETTINGS = record(
    {
        "bypass_list_management": _SWITCH,
        "bypass_spam_management": _SWITCH,
        "bypass_bounce_management": _SWITCH,
        "bypass_unsubscribe_management": _SWITCH,
        "footer": record({"enable": boolean, "text": text(), "html": text()}),
        "sandbox_mode": _SWITCH,
    }
)
_MAIL = record(
    {
        "personalizations": array(_PERSONALIZATION, min_items=1, max_items=1000),
        "from": _PERSON,
        "reply_to": _PERSON,
        "reply_to_list": _PEOPLE,
        "subject": text(1),
        "content": array(record({"type": text(1), "value": text(1)}, "type", "value")),
        "attachments": array(_ATTACHMENT),
        "template_id": text(1),
        "headers": mapping(text()),
        "categories": array(text(0, 255), max_items=10),
        # The published schema says string although the API takes an object; an adapter that
        # keeps to personalizations[].custom_args is right by both.
        "custom_args": text(),
        "send_at": integer,
        "batch_id": text(),
        "asm": record(
            {"group_id": integer, "groups_to_display": array(integer, max_items=25)}, "group_id"
        ),
        "ip_pool_name": text(2, 64),
        "mail_settings": _MAIL_SETTINGS,
        "tracking_settings": _TRACKING,
    },
    "personalizations",
    "from",
)

_MESSAGES = {
    400: "Bad Request",
    401: "The provided authorization grant is invalid, expired, or revoked",
    403: "access forbidden",
    404: "not found",
    405: "method not allowed",
    406: "The Accept header is missing.",
    413: "content too large",
    415: "Content-Type should be application/json.",
    429: "too many requests",
    500: "internal server error",
    503: "service unavailable",
}


class SendGridLookalike(Lookalike):
    """SendGrid on loopback, for one API key."""

    provider: ClassVar[str] = "sendgrid"

    def __init__(self, api_key: str = "SG.test", **options: Any) -> None:
        """Take `api_key` as the only valid one; `options` are those of `Lookalike`."""
        super().__init__(**options)
        self.api_key = api_key
        """Where `report` posts its events."""
        self._signer = EventSigner()
        self._taken = Taken()

    @property
    def event_public_key(self) -> str:
        """What events are verified by (base64 DER)."""
        return self._signer.public_key

    def is_send(self, method: str, path: str) -> bool:
        """Tell whether this is POST /v3/mail/send."""
        return path == _SEND and method == "POST"

    def parse(self, body: bytes) -> Any:
        """Read JSON; None when it is none."""
        try:
            return json.loads(body)
        except ValueError:
            return None

    def settings(self, **extra: Any) -> dict[str, Any]:
        """Return a `[providers.NAME]` table of kind "sendgrid" that points here."""
        return {
            "kind": "sendgrid", "api_key": self.api_key, "base_url": self.url,
            "from_address": "clarion@example.com", "event_public_key": self.event_public_key,
            **extra,
        }  # fmt: skip

    def own_error(self, fault: Fault) -> Reply:
        """Make SendGrid's error document; `fault.message` and `.field` replace the usual ones."""
        return self._refuse(fault.status, Flaw(fault.field or "", fault.message or ""))

    def answer(self, seen: SeenRequest, body: bytes) -> Reply:
        """Answer Mail Send and the scopes of the key."""
        if seen.path not in (_SEND, _SCOPES):
            return self._refuse(404)
        if seen.headers.get("Authorization") != f"Bearer {self.api_key}":
            return self._refuse(401)
        if seen.method != ("POST" if seen.path == _SEND else "GET"):
            return self._refuse(405)
        if seen.path == _SCOPES:
            return self._reply(200, {"scopes": ["mail.send", "scopes.read"]})
        return self._send(seen, body)

    def _send(self, seen: SeenRequest, body: bytes) -> Reply:
        if "Accept" not in seen.headers:
            return self._refuse(406)
        if not seen.headers.get("Content-Type", "").startswith("application/json"):
            return self._refuse(415)
        if len(body) > _MESSAGE_LIMIT_BYTES:
            return self._refuse(413)
        mail = seen.payload = self.parse(body)
        if mail is None:
            return self._refuse(400)
        flaws = list(flaws_of(mail, self.now()))
        if flaws:
            return self._refuse(400, *flaws)
        return self._take(mail)

    def _take(self, mail: dict[str, Any]) -> Reply:
        if mail.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return Reply(200, headers=self._headers())
        headers = {**self._headers(), "X-Message-Id": f"{self.next_serial():022x}"[-22:]}
        ids = [correlation_id(mail, one) for one in mail["personalizations"]]
        for id, one in zip(ids, mail["personalizations"], strict=True):
            self._taken.note(
                id,
                {**one.get("custom_args", {}), "email": one["to"][0]["email"],
                 "sg_message_id": f"{headers['X-Message-Id']}.filter0001.1.0"},
            )  # fmt: skip
        return Reply(202, b"", headers, "text/plain", ids)

    def event(self, id: str, event: str, *, taken: int = -1, **more: Any) -> dict[str, Any]:
        """Make an event of a message; `taken` of the times it was taken, `more` further members.

        Raises KeyError for a message that was never taken, or so long ago that it is forgotten.
        """
        return {
            "event": event, "timestamp": int(self.now()),
            "sg_event_id": f"{self.next_serial():022x}", **self._taken.find(id, taken), **more,
        }  # fmt: skip

    def event_report(self, *events: Mapping[str, Any]) -> Report:
        """Make the signed request that posts these events to `event_webhook_url`."""
        if not self.event_webhook_url:
            raise ValueError("set event_webhook_url first")
        return self._signer.report(self.event_webhook_url, events, self.now())

    async def report(self, id: str, event: str, **more: Any) -> int:
        """Post one event, and return the status of the answer."""
        return await self.event_report(self.event(id, event, **more)).send()

    def _refuse(self, status: int, *flaws: Flaw) -> Reply:
        usual = _MESSAGES.get(status) or HTTPStatus(status).phrase.lower()
        errors = [
            {"message": flaw.message or usual, "field": flaw.field or None, "help": _help(flaw)}
            for flaw in flaws or (Flaw("", ""),)
        ]
        return self._reply(status, {"errors": errors})

    def _reply(self, status: int, document: dict[str, Any]) -> Reply:
        headers = self._headers(0 if status == 429 else None)
        return Reply(status, json.dumps(document).encode(), headers)

    def _headers(self, remaining: int | None = None) -> dict[str, str]:
        minute_end = (int(self.now()) // 60 + 1) * 60
        return {
            "X-RateLimit-Limit": str(_RATE_LIMIT),
            "X-RateLimit-Remaining": str(_RATE_LIMIT - 1 if remaining is None else remaining),
            "X-RateLimit-Reset": str(minute_end),
            "Strict-Transport-Security": "max-age=600; includeSubDomains",
        }


def correlation_id(mail: dict[str, Any], personalization: dict[str, Any]) -> str:
    """Return our id of one message, or what stands for it when it carries none."""
    own = personalization.get("custom_args", {}).get("clarion_id")
    if own:
        return str(own)
    return " | ".join(
        (
            ",".join(person["email"] for person in personalization["to"]),
            personalization.get("subject") or mail.get("subject") or "",
            *(part["value"] for part in mail.get("content", ())[:1]),
        )
    )


def flaws_of(mail: Any, now: float) -> Iterator[Flaw]:
    """Yield everything that Mail Send refuses in a document; `now` is in epoch seconds."""
    shape_flaws = list(_MAIL(mail, ""))
    if shape_flaws:
        yield from shape_flaws
        return
    yield from _envelope_flaws(mail)
    yield from _content_flaws(mail)
    for place, part in _parts(mail):
        yield from _part_flaws(place, part, now)


def _envelope_flaws(mail: dict[str, Any]) -> Iterator[Flaw]:
    total = 0
    for at, personalization in enumerate(mail["personalizations"]):
        seen: set[str] = set()
        for group in ("to", "cc", "bcc"):
            for person in personalization.get(group, ()):
                total += 1
                email = person["email"].lower()
                if email in seen:
                    yield Flaw(
                        f"personalizations.{at}.{group}",
                        "Each email address in the personalization block should be unique between "
                        f"to, cc, and bcc. We found the first duplicate instance of [{email}] in "
                        f"the personalizations.{at}.{group} field.",
                    )
                seen.add(email)
    if total > _RECIPIENT_LIMIT:
        yield Flaw("personalizations", f"There are {total} recipients; the limit is 1000.")
    if "reply_to" in mail and "reply_to_list" in mail:
        yield Flaw("reply_to", "Use either reply_to or reply_to_list, not both.")


def _content_flaws(mail: dict[str, Any]) -> Iterator[Flaw]:
    if "template_id" in mail:
        return
    if not mail.get("content"):
        yield Flaw(
            "content",
            "Unless a valid template_id is provided, the content parameter is required. There must "
            "be at least one defined content block.",
        )
    if "subject" not in mail and not all("subject" in one for one in mail["personalizations"]):
        yield Flaw(
            "subject",
            "The subject is required. You can get around this requirement if you use a template "
            "with a subject defined or if every personalization has a subject defined.",
        )
    kinds = [part["type"].partition(";")[0] for part in mail.get("content", ())]
    order = [_CONTENT_ORDER.get(kind, 2) for kind in kinds]
    if order != sorted(order):
        yield Flaw(
            "content",
            "If present, text/plain and text/html may only be provided once, and in that order, "
            "before any other content.",
        )


_CONTENT_ORDER = {"text/plain": 0, "text/html": 1}


def _parts(mail: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", mail
    for at, personalization in enumerate(mail["personalizations"]):
        yield f"personalizations.{at}.", personalization


def _part_flaws(place: str, part: dict[str, Any], now: float) -> Iterator[Flaw]:
    for name in part.get("headers", ()):
        if name.lower() in _RESERVED_HEADERS:
            yield Flaw(f"{place}headers.{name}", f"The header {name} is reserved.")
    custom_args = part.get("custom_args", "")
    if custom_args and len(json.dumps(custom_args).encode()) > _CUSTOM_ARGS_LIMIT_BYTES:
        yield Flaw(f"{place}custom_args", "The custom_args may not exceed 10,000 bytes.")
    if part.get("send_at", 0) > now + _SCHEDULE_LIMIT_S:
        yield Flaw(f"{place}send_at", "Scheduling more than 72 hours in advance is forbidden.")
    for at, name in enumerate(part.get("categories", ())):
        if name in part["categories"][:at]:
            yield Flaw(f"{place}categories.{at}", "Each category must be unique.")


def _help(flaw: Flaw) -> str | None:
    return f"{_HELP}#message.{flaw.field}" if flaw.field else None
