"""Webhooks, as Standard Webhooks describes them: signed JSON, posted to the recipient's own URL.

There is no account here and no provider: each URL has a host of its own. Whatever a host does is
said of that host alone (`Answer.is_host_only`), and at most `max_per_host` calls are out to one; a
message that comes on top goes back before the wire. The notification's id is the `webhook-id`, the
same over all retries, by which a receiver drops what it has already.
"""

from __future__ import annotations

import errno
import json
import re
import socket
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SecretStr, field_validator

from clarion.domain.address import recipient_host
from clarion.domain.header import is_reserved
from clarion.domain.instant import rfc3339
from clarion.domain.notification import Content
from clarion.domain.outcome import HOST_BUSY, Answer, Health, Outcome
from clarion.policies.clock import Clock
from clarion.providers.base import Outgoing, Wire, answer_for_exception, flaw_in_headers
from clarion.providers.http_session import BROKEN, HttpReply, HttpSession
from clarion.providers.http_status import retry_after_s
from clarion.providers.setting import AdapterConfig
from clarion.providers.webhook_guard import Guard, Lookup, url_fault, was_blocked
from clarion.providers.webhook_signature import secret_keys, signature
from clarion.providers.webhook_status import ruling_of

DEFAULT_TYPE = "notification"
_EVENT_TYPE = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")

LOOKUP_THREADS = 64
"""Names that are looked up at once, at most."""

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENETDOWN})
"""What no host can do to us: these are said of the provider, and open its circuit."""


class WebhookConfig(AdapterConfig):
    """The keys of `[providers.NAME]` that belong to kind "webhook"."""

    secret: SecretStr = Field(
        default=SecretStr(""),
        description='signs each message, "whsec_…"; two while one replaces the other; "": unsigned',
    )
    allow_private: bool = Field(
        default=False,
        description="call loopback and private networks too; only where every sender is trusted",
    )
    max_per_host: int = Field(
        default=4, ge=1, le=10_000, description="calls that may be out to one host at once"
    )

    @field_validator("secret")
    @classmethod
    def _holds_keys(cls, secret: SecretStr) -> SecretStr:
        secret_keys(secret.get_secret_value())
        return secret


class Webhook:
    """Posts to whatever public host a notification names."""

    kind: ClassVar[str] = "webhook"
    channels: ClassVar[frozenset[str]] = frozenset({"webhook"})
    Config: ClassVar[type[WebhookConfig]] = WebhookConfig

    lookup: Lookup = staticmethod(socket.getaddrinfo)
    """How names become addresses; a test gives its own."""

    def __init__(
        self,
        name: str,
        config: WebhookConfig,
        *,
        max_concurrent: int,
        clock: Clock,
        public_url: str = "",
        base_dir: Path = Path(),
        executor: Executor | None = None,
    ) -> None:
        """Hold at most `max_concurrent` connections; looks names up through `executor`."""
        self.name = name
        self._config = config
        self._clock = clock
        self._keys = secret_keys(config.secret.get_secret_value())
        self._own_threads = executor is None
        self._executor = executor or ThreadPoolExecutor(
            min(max_concurrent, LOOKUP_THREADS), thread_name_prefix=f"{name}-lookup"
        )
        guard = Guard(self._executor, self.lookup, allow_private=config.allow_private)
        self._http = HttpSession(
            max_concurrent,
            {"User-Agent": "Clarion"},
            make_connector=lambda: guard.connector(max_concurrent),
            answer_limit_bytes=0,
        )
        self._out: Counter[str] = Counter()

    async def open(self) -> None:
        """Make the session."""
        await self._http.open()

    async def close(self) -> None:
        """Close the session; a name that is still being looked up is left to its thread."""
        await self._http.close()
        if self._own_threads:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def probe(self) -> Health:
        """Say that there is nothing to ask: no host stands for all."""
        return Health(True, "each recipient has a host of its own; there is none to ask")

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Post one message to its URL, unless its host has `max_per_host` of them already."""
        flaw = _flaw_in(outgoing.content)
        if flaw is not None:
            return flaw
        wire.is_host_only = True
        host = recipient_host(outgoing.content.to)
        if self._out[host] >= self._config.max_per_host:
            return _host_is_full(self._config.max_per_host)
        self._out[host] += 1
        try:
            return await self._post(outgoing, wire)
        finally:
            self._leave(host)

    def _leave(self, host: str) -> None:
        self._out[host] -= 1
        if not self._out[host]:
            # Hosts come from outside: those that are done with must not add up.
            del self._out[host]

    async def _post(self, outgoing: Outgoing, wire: Wire) -> Answer:
        body = json.dumps(payload(outgoing), ensure_ascii=False, separators=(",", ":")).encode()
        headers = self._headers(outgoing, body)
        url = outgoing.content.to
        try:
            reply = await self._http.request("POST", url, wire, headers=headers, body=body)
        except BROKEN as error:
            return _answer_for(error, wire)
        return self._judge(reply)

    def _headers(self, outgoing: Outgoing, body: bytes) -> dict[str, str]:
        added = outgoing.content.headers or {}
        timestamp_s = int(self._clock.now())
        headers = {name: value for name, value in added.items() if not is_reserved(name)}
        headers["Content-Type"] = "application/json"
        headers["webhook-id"] = outgoing.notification_id
        headers["webhook-timestamp"] = str(timestamp_s)
        if self._keys:
            headers["webhook-signature"] = signature(
                self._keys, outgoing.notification_id, timestamp_s, body
            )
        return headers

    def _judge(self, reply: HttpReply) -> Answer:
        wait_s = retry_after_s(reply.headers, self._clock.now())
        return replace(ruling_of(reply.status).answer("", wait_s), is_host_only=True)


def payload(outgoing: Outgoing) -> dict[str, Any]:
    """Return what is posted: the same over all retries, so that a receiver may compare.

    `type`, `timestamp` and `data` are those of Standard Webhooks. A subject that has the form of
    an event type ("invoice.paid") is the type.
    """
    content = outgoing.content
    subject = content.subject or ""
    optional = {
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
        "tenant": outgoing.tenant,
        "reference": outgoing.reference,
        "metadata": outgoing.metadata or None,
    }
    return {
        "id": outgoing.notification_id,
        "type": subject if _EVENT_TYPE.fullmatch(subject) else DEFAULT_TYPE,
        "timestamp": rfc3339(outgoing.created_at),
        "data": content.data or {},
        **{name: value for name, value in optional.items() if value is not None},
    }


def _flaw_in(content: Content) -> Answer | None:
    flaw = flaw_in_headers(content)
    if flaw is not None:
        return flaw
    fault = url_fault(content.to)
    return None if fault is None else _recipient("bad_url", fault)


def _recipient(reason: str, words: str) -> Answer:
    return Answer(Outcome.RECIPIENT, reason, words, surely_not_accepted=True, is_host_only=True)


def _host_is_full(max_per_host: int) -> Answer:
    words = "1 message is" if max_per_host == 1 else f"{max_per_host} messages are"
    return Answer(
        Outcome.THROTTLED, HOST_BUSY, f"{words} out to its host, as many as may be",
        surely_not_accepted=True, is_host_only=True,
    )  # fmt: skip


def _answer_for(error: BaseException, wire: Wire) -> Answer:
    if was_blocked(error):
        return _recipient("private_address", "the URL leads to an address that is not public")
    if isinstance(error, ValueError):
        return _recipient("bad_url", "the URL cannot be called")
    if isinstance(error, OSError) and error.errno in _OURS:
        wire.is_host_only = False
    return answer_for_exception(error, wire)
