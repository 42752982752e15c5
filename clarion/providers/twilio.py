"""Twilio's Programmable Messaging (SMS), through the official SDK.

The SDK makes the requests; the answers are judged here, from the raw reply. Its own HTTP client
ignores its time limit, may repeat a POST, logs what it sends and drops the headers of errors, and
its exceptions are siblings without the answer: `_Transport` takes the place of all that.

Our id travels in the query of the status callback, since a message has no other field that Twilio
repeats; the number of the call beside it, for a receipt of a message whose answer got lost. Twilio
has no key against duplicates.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr, field_validator, model_validator
from twilio.base.exceptions import TwilioException  # type: ignore[import-untyped]
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

from clarion.domain.outcome import Answer, Health, Outcome
from clarion.policies.clock import Clock
from clarion.providers.base import Outgoing, Wire, answer_for_exception, flaw_in_headers
from clarion.providers.callback import ReceiptReader
from clarion.providers.http_session import BROKEN, HttpReply, HttpSession
from clarion.providers.http_status import Ruling, http_default, retry_after_s
from clarion.providers.setting import AdapterConfig, BaseUrl, require
from clarion.providers.twilio_code import RULINGS
from clarion.providers.twilio_receipt import TwilioReceipts
from clarion.telemetry.mask import mask_address, mask_text

_SENDER = re.compile(r"\+[1-9]\d{6,14}|\d{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_ENVIRONMENT = {"TWILIO": "settings only"}
"""Not empty on purpose: for an empty one the SDK reads the process's environment, where
TWILIO_REGION or TWILIO_EDGE would rewrite the host of every request."""


class TwilioConfig(AdapterConfig):
    """The keys of `[providers.NAME]` that belong to kind "twilio"."""

    account_sid: str = Field(default="", description="the account, AC and 32 hexadecimal digits")
    auth_token: SecretStr = Field(
        default=SecretStr(""),
        description="primary auth token of the account; status callbacks are signed with it",
    )
    base_url: BaseUrl = Field(default="https://api.twilio.com", description="where the API is")
    from_number: str = Field(
        default="",
        description='sender, such as "+15005550006", a short code or a name; or a service instead',
    )
    messaging_service_sid: str = Field(
        default="", description="messaging service that chooses the sender; or from_number instead"
    )
    status_callback: bool = Field(
        default=True,
        description="ask Twilio to report what became of a message; needs server.public_url",
    )

    @field_validator("account_sid")
    @classmethod
    def _is_account(cls, sid: str) -> str:
        if not re.fullmatch(r"AC[0-9A-Za-z]+", sid):
            raise ValueError("set the account SID of the Twilio console; it starts with AC")
        return sid

    @field_validator("auth_token")
    @classmethod
    def _has_token(cls, token: SecretStr) -> SecretStr:
        return require(token, 'set the auth token, such as "env:TWILIO_AUTH_TOKEN"')

    @field_validator("from_number")
    @classmethod
    def _is_sender(cls, sender: str) -> str:
        if sender and not _SENDER.fullmatch(sender):
            raise ValueError("write the sender as +15005550006, a short code, or up to 11 letters")
        return sender

    @field_validator("messaging_service_sid")
    @classmethod
    def _is_service(cls, sid: str) -> str:
        if sid and not re.fullmatch(r"MG[0-9a-fA-F]{32}", sid):
            raise ValueError("set the SID of a messaging service: MG and 32 hexadecimal digits")
        return sid

    @model_validator(mode="after")
    def _has_one_sender(self) -> TwilioConfig:
        if bool(self.from_number) == bool(self.messaging_service_sid):
            raise ValueError("set one of from_number and messaging_service_sid, not both or none")
        return self


@dataclass(slots=True)
class _Exchange:
    """One request and its reply; belongs to the task that makes it."""

    wire: Wire
    reply: HttpReply | None = None


_exchange: ContextVar[_Exchange] = ContextVar("twilio_exchange")


class Twilio:
    """One Twilio account."""

    kind: ClassVar[str] = "twilio"
    channels: ClassVar[frozenset[str]] = frozenset({"sms"})
    Config: ClassVar[type[TwilioConfig]] = TwilioConfig

    def __init__(
        self,
        name: str,
        config: TwilioConfig,
        *,
        max_concurrent: int,
        clock: Clock,
        public_url: str = "",
        base_dir: Path = Path(),
        executor: Executor | None = None,
    ) -> None:
        """Hold at most `max_concurrent` connections; status callbacks go to `public_url`."""
        self.name = name
        self._config = config
        self._clock = clock
        self._token = config.auth_token.get_secret_value()
        self._callback_url = ""
        if public_url and config.status_callback:
            self._callback_url = f"{public_url.rstrip('/')}/callbacks/{quote(name, safe='')}"
        self._http = HttpSession(max_concurrent)
        self._client = Client(
            config.account_sid, self._token, http_client=_Transport(self._http),
            environment=_ENVIRONMENT,
        )  # fmt: skip
        self._client.api.base_url = config.base_url

    @classmethod
    def receipts(cls, name: str, config: TwilioConfig, *, public_url: str = "") -> ReceiptReader:
        """Return what reads the status callbacks of the provider `name`."""
        return TwilioReceipts(name, config.auth_token.get_secret_value(), public_url)

    async def open(self) -> None:
        """Make the session."""
        await self._http.open()

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Create one message to one recipient."""
        flaw = flaw_in_headers(outgoing.content)
        if flaw is not None:
            return flaw
        form = self._form(outgoing)
        try:
            reply = await self._carry(wire, lambda: self._client.messages.create_async(**form))
        except BROKEN as error:
            return answer_for_exception(error, wire)
        return self._judge(reply, outgoing.content.to)

    async def probe(self) -> Health:
        """Fetch the account; it has to be active."""
        account = self._client.api.v2010.accounts(self._config.account_sid)
        try:
            reply = await self._carry(Wire(), account.fetch_async)
        except BROKEN as error:
            return Health(False, answer_for_exception(error, Wire()).detail)
        return self._health(reply)

    async def _carry(self, wire: Wire, ask: Callable[[], Awaitable[Any]]) -> HttpReply:
        exchange = _Exchange(wire)
        token = _exchange.set(exchange)
        try:
            await ask()
        except TwilioException:
            # For a refusal, which is read from the reply; without a reply it is a bug of ours.
            if exchange.reply is None:
                raise
        finally:
            _exchange.reset(token)
        if exchange.reply is None:
            raise RuntimeError("the SDK returned without having made a request")
        return exchange.reply

    def _form(self, outgoing: Outgoing) -> dict[str, Any]:
        content = outgoing.content
        form: dict[str, Any] = {"to": content.to, "body": content.text or ""}
        if self._config.messaging_service_sid:
            form["messaging_service_sid"] = self._config.messaging_service_sid
        else:
            form["from_"] = self._config.from_number
        if self._callback_url:
            query = urlencode(
                {"clarion_id": outgoing.notification_id, "clarion_call": outgoing.call}
            )
            form["status_callback"] = f"{self._callback_url}?{query}"
        return form

    def _judge(self, reply: HttpReply, to: str) -> Answer:
        if not 200 <= reply.status < 300:
            return self._refusal(reply, to)
        sid = _document(reply).get("sid")
        if reply.status == 201 and isinstance(sid, str) and sid:
            return Answer(
                Outcome.ACCEPTED, "http_201", "Twilio took the message", provider_message_id=sid
            )
        detail = f"Twilio answered {reply.status} without a readable message"
        return Answer(Outcome.UNKNOWN, "unreadable_success", detail)

    def _refusal(self, reply: HttpReply, to: str = "") -> Answer:
        document = _document(reply)
        wait_s = None
        ruling = _ruling(reply.status, document)
        if ruling.outcome in (Outcome.THROTTLED, Outcome.TRANSIENT):
            wait_s = retry_after_s(reply.headers, self._clock.now())
        said = _said(document)
        if to:
            said = said.replace(to, mask_address(to))
        return ruling.answer(mask_text(said, self._token), wait_s)

    def _health(self, reply: HttpReply) -> Health:
        if reply.status != 200:
            answer = self._refusal(reply)
            return Health(False, answer.detail, answer.outcome is Outcome.MISCONFIGURED)
        status = _document(reply).get("status")
        if status == "active":
            return Health(True, "Twilio answers and the account is active")
        if status in ("suspended", "closed"):
            return Health(False, f"the Twilio account is {status}", is_misconfigured=True)
        return Health(False, "the answer is not Twilio's; check base_url")


class _Transport:
    """Carries the SDK's requests over our session and keeps each reply for its task.

    It is what the SDK calls an asynchronous HTTP client, of which it needs these two names.
    """

    is_async = True

    def __init__(self, http: HttpSession) -> None:
        self._http = http

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the name that the SDK uses
        allow_redirects: bool = False,
    ) -> Response:
        """Make the request; the SDK gets nothing to parse, the reply is judged by `Twilio`."""
        exchange = _exchange.get()
        headers = dict(headers or {})
        if auth is not None:
            credentials = base64.b64encode(":".join(auth).encode()).decode()
            headers["Authorization"] = f"Basic {credentials}"
        body = urlencode(data, doseq=True).encode() if method == "POST" and data else None
        exchange.reply = await self._http.request(
            method, uri, exchange.wire, headers=headers, body=body
        )
        # Half a document would make the SDK raise whatever its parser raises.
        return Response(exchange.reply.status, "{}", exchange.reply.headers)


def _document(reply: HttpReply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body) if reply.is_whole else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _ruling(status: int, document: dict[str, Any]) -> Ruling:
    code = document.get("code")
    is_own = isinstance(code, int) and ("message" in document or "title" in document)
    default = http_default(status, is_own_shape=is_own)
    if not is_own or default.outcome is Outcome.UNKNOWN:
        return default
    if code in RULINGS:
        return RULINGS[code]
    return default._replace(reason=f"twilio_{code}")


def _said(document: dict[str, Any]) -> str:
    for key in ("message", "detail", "title"):
        if isinstance(document.get(key), str):
            return str(document[key])
    return ""
