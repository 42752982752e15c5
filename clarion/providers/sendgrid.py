"""SendGrid's v3 Mail Send, over aiohttp.

Our id and the number of the call travel as `custom_args`, which SendGrid repeats in every event. It
has no key against duplicates. A 202 means taken, not delivered; its body is empty.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SecretStr, field_validator

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.policies.clock import Clock
from clarion.providers.base import Outgoing, Wire, answer_for_exception, flaw_in_headers
from clarion.providers.callback import ReceiptReader
from clarion.providers.http_session import BROKEN, HttpReply, HttpSession
from clarion.providers.http_status import (
    Ruling,
    http_default,
    reset_after_s,
    retry_after_s,
)
from clarion.providers.sendgrid_receipt import SendGridReceipts, verification_key
from clarion.providers.sendgrid_rule import SendGridError, errors_of, ruling_for
from clarion.providers.setting import AdapterConfig, Address, BaseUrl, OneLine, require
from clarion.telemetry.mask import mask_address, mask_text

NO_SUBJECT = "(no subject)"
"""SendGrid refuses a message without a subject."""


class SendGridConfig(AdapterConfig):
    """The keys of `[providers.NAME]` that belong to kind "sendgrid"."""

    api_key: SecretStr = Field(
        default=SecretStr(""), description='API key with the "mail.send" permission'
    )
    base_url: BaseUrl = Field(
        default="https://api.sendgrid.com",
        description="where the API is; https://api.eu.sendgrid.com for EU subusers",
    )
    from_address: Address = Field(default="", description="verified sender of every message")
    from_name: OneLine = Field(default="", description='name shown beside the sender; "" for none')
    event_public_key: str = Field(
        default="",
        description='public key of the event webhook (base64 DER); "" refuses every receipt',
    )

    @field_validator("api_key")
    @classmethod
    def _has_key(cls, key: SecretStr) -> SecretStr:
        return require(key, 'set a key with the "mail.send" scope, such as "env:SENDGRID_API_KEY"')

    @field_validator("event_public_key")
    @classmethod
    def _is_public_key(cls, text: str) -> str:
        if text:
            verification_key(text)
        return text


class SendGrid:
    """One SendGrid account."""

    kind: ClassVar[str] = "sendgrid"
    channels: ClassVar[frozenset[str]] = frozenset({"email"})
    Config: ClassVar[type[SendGridConfig]] = SendGridConfig

    def __init__(
        self,
        name: str,
        config: SendGridConfig,
        *,
        max_concurrent: int,
        clock: Clock,
        public_url: str = "",
        base_dir: Path = Path(),
        executor: Executor | None = None,
    ) -> None:
        """Hold at most `max_concurrent` connections; the last three are for other kinds."""
        self.name = name
        self._config = config
        self._clock = clock
        self._key = config.api_key.get_secret_value()
        self._send_url = f"{config.base_url}/v3/mail/send"
        self._scopes_url = f"{config.base_url}/v3/scopes"
        self._sender = {"email": config.from_address}
        if config.from_name:
            self._sender["name"] = config.from_name
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        self._http = HttpSession(max_concurrent, headers)

    @classmethod
    def receipts(
        cls,
        name: str,
        config: SendGridConfig,
        *,
        public_url: str = "",  # noqa: ARG003 - Twilio signs it, SendGrid does not
    ) -> ReceiptReader:
        """Return what reads the event webhook of the provider `name`."""
        return SendGridReceipts(name, config.event_public_key)

    async def open(self) -> None:
        """Make the session."""
        await self._http.open()

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Post one mail to one recipient."""
        flaw = flaw_in_headers(outgoing.content)
        if flaw is not None:
            return flaw
        body = _encode(self._mail(outgoing)).encode()
        try:
            reply = await self._http.request("POST", self._send_url, wire, headers=_JSON, body=body)
        except BROKEN as error:
            return answer_for_exception(error, wire)
        return self._judge(reply, outgoing.content.to)

    async def probe(self) -> Health:
        """Ask for the scopes of the key: mail.send has to be among them."""
        try:
            reply = await self._http.request("GET", self._scopes_url, Wire())
        except BROKEN as error:
            return Health(False, answer_for_exception(error, Wire()).detail)
        if reply.status == 200:
            return _health_of_scopes(_document(reply))
        answer = self._refusal(reply)
        return Health(False, answer.detail, answer.outcome is Outcome.MISCONFIGURED)

    def _mail(self, outgoing: Outgoing) -> dict[str, Any]:
        content = outgoing.content
        mail = {
            "personalizations": [
                {
                    "to": [{"email": content.to}],
                    "custom_args": {
                        "clarion_id": outgoing.notification_id,
                        "clarion_call": str(outgoing.call),
                    },
                }
            ],
            "from": self._sender,
            "subject": content.subject or NO_SUBJECT,
            "content": _parts(content),
        }
        if content.headers:
            mail["headers"] = content.headers
        return mail

    def _judge(self, reply: HttpReply, to: str) -> Answer:
        if reply.status == 202 and reply.is_whole and not _is_page(reply):
            message_id = reply.headers.get("X-Message-Id")
            return Answer(
                Outcome.ACCEPTED, "http_202", "SendGrid took the message",
                provider_message_id=message_id,
            )  # fmt: skip
        return self._refusal(reply, to)

    def _refusal(self, reply: HttpReply, to: str = "") -> Answer:
        errors = errors_of(_document(reply))
        ruling = self._ruling(reply.status, errors)
        wait_s = None
        if ruling.outcome in (Outcome.THROTTLED, Outcome.TRANSIENT):
            wait_s = retry_after_s(reply.headers, self._clock.now())
        if reply.status == 429 and wait_s is None:
            wait_s = reset_after_s(reply.headers, self._clock.now())
        return ruling.answer(self._said(errors or [], to), wait_s)

    def _ruling(self, status: int, errors: list[SendGridError] | None) -> Ruling:
        default = http_default(status, is_own_shape=errors is not None)
        if errors is None or default.outcome is Outcome.UNKNOWN:
            return default
        return ruling_for(status, errors) or default

    def _said(self, errors: list[SendGridError], to: str) -> str:
        said = "; ".join(
            f"{one.message} ({one.field})" if one.field else one.message for one in errors[:3]
        )
        if to:
            said = said.replace(to, mask_address(to))
        return mask_text(said, self._key)


_JSON = {"Content-Type": "application/json"}

# One encoder for all: `json.dumps` makes a new one for each text that is not all defaults.
_encode = json.JSONEncoder(ensure_ascii=False).encode


def _parts(content: Content) -> list[dict[str, str]]:
    # SendGrid wants text before HTML.
    parts = (("text/plain", content.text), ("text/html", content.html))
    return [{"type": kind, "value": value} for kind, value in parts if value]


def _document(reply: HttpReply) -> Any:
    try:
        return json.loads(reply.body) if reply.is_whole else None
    except (ValueError, RecursionError):
        return None


def _is_page(reply: HttpReply) -> bool:
    return "html" in reply.headers.get("Content-Type", "").lower()


def _health_of_scopes(document: Any) -> Health:
    scopes = document.get("scopes") if isinstance(document, dict) else None
    if not isinstance(scopes, list):
        return Health(False, "the answer is not SendGrid's; check base_url")
    if "mail.send" not in scopes:
        return Health(False, 'the API key lacks the "mail.send" permission', is_misconfigured=True)
    return Health(True, "SendGrid answers and the key may send mail")
