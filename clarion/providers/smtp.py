"""SMTP, over aiosmtplib: any mail server, one's own or a provider's.

Our id travels as the Message-ID, which stays the same over retries; SMTP has no key against
duplicates. A message is given to one recipient, so a refusal is never partial, and it is refused
for sure until the final dot is out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import aiosmtplib
from pydantic import Field, SecretStr, field_validator, model_validator

from clarion.domain.outcome import Answer, Health, Outcome
from clarion.policies.clock import Clock
from clarion.providers.base import Outgoing, Wire, answer_for_exception, flaw_in_headers
from clarion.providers.mail import NotAnEmail, as_bytes, compose
from clarion.providers.setting import AdapterConfig, Address, OneLine
from clarion.providers.smtp_code import Refusal, meaning_of
from clarion.providers.smtp_connection import (
    BROKEN,
    Envelope,
    Refused,
    Security,
    Server,
    SmtpConnection,
    Unfit,
    open_connection,
)
from clarion.providers.smtp_pool import SmtpPool
from clarion.telemetry.mask import mask_address, mask_text

PORTS: dict[Security, int] = {"starttls": 587, "tls": 465, "none": 25}
"""RFC 8314 and RFC 5321."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|[0-9A-Fa-f:.]+")
_RECIPIENT = re.compile(r"[^\x00-\x20\x7f<>,;:\"()\[\]\\@]+@[^\x00-\x20\x7f<>,;:\"()\[\]\\@]+")


class SmtpConfig(AdapterConfig):
    """The keys of `[providers.NAME]` that belong to kind "smtp"."""

    default_max_concurrent: ClassVar[int | None] = 4
    """Each slot is a connection, and servers allow few of them from one address."""

    host: str = Field(default="", description="the server's name, to which its certificate belongs")
    port: int = Field(
        default=0, ge=0, le=65535,
        description='0 is 587 for "starttls", 465 for "tls", 25 for "none"',
    )  # fmt: skip
    username: OneLine = Field(default="", description='whom to log in as; "" for no login')
    password: SecretStr = Field(default=SecretStr(""), description="the password to username")
    security: Security = Field(
        default="starttls",
        description='"starttls", "tls" from the first byte, or "none" (in the clear)',
    )
    from_address: Address = Field(default="", description="sender of every message")
    from_name: OneLine = Field(default="", description='name shown beside the sender; "" for none')
    ca_file: str = Field(
        default="",
        description="certificates (PEM) to trust instead of the system's; \"\" for the system's",
    )

    @field_validator("host")
    @classmethod
    def _is_host(cls, host: str) -> str:
        if not _HOST.fullmatch(host):
            raise ValueError("set the name of the mail server, such as smtp.example.com")
        return host

    @field_validator("from_address")
    @classmethod
    def _is_ascii(cls, address: str) -> str:
        if not address.isascii():
            raise ValueError("must be ASCII: not every server knows other senders")
        return address

    @field_validator("password")
    @classmethod
    def _is_password(cls, password: SecretStr) -> SecretStr:
        text = password.get_secret_value()
        if text != text.strip() or "\0" in text:
            raise ValueError("has blanks around it; check how it was copied")
        return password

    @model_validator(mode="after")
    def _fits_together(self) -> SmtpConfig:
        if bool(self.username) != bool(self.password.get_secret_value()):
            raise ValueError("set username and password, or neither")
        if self.username and self.security == "none" and not _is_loopback(self.host):
            raise ValueError(
                'a login over security = "none" would show the password to the network:'
                ' use "starttls" or "tls"'
            )
        return self

    @property
    def server(self) -> Server:
        """Where to connect and how to log in."""
        return Server(
            self.host, self.port or PORTS[self.security], self.security,
            self.username, self.password.get_secret_value(),
        )  # fmt: skip


class Smtp:
    """One account at one mail server."""

    kind: ClassVar[str] = "smtp"
    channels: ClassVar[frozenset[str]] = frozenset({"email"})
    Config: ClassVar[type[SmtpConfig]] = SmtpConfig

    def __init__(
        self,
        name: str,
        config: SmtpConfig,
        *,
        max_concurrent: int,
        clock: Clock,
        public_url: str = "",
        base_dir: Path = Path(),
        executor: Executor | None = None,
    ) -> None:
        """Hold at most `max_concurrent` connections; `ca_file` is looked for in `base_dir`."""
        self.name = name
        self._config = config
        self._clock = clock
        self._ca_file = base_dir / config.ca_file if config.ca_file else None
        self._executor = executor
        self._max_concurrent = max_concurrent
        self._tls: ssl.SSLContext | None = None
        self._pool: SmtpPool | None = None

    async def open(self) -> None:
        """Make the pool; connections are made when they are needed."""
        self._pool = SmtpPool(self._max_concurrent, self._connect)

    async def close(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Hand one mail to the server, for one recipient."""
        flaw = flaw_in_headers(outgoing.content) or _flaw_in_recipient(outgoing.content.to)
        if flaw is not None:
            return flaw
        try:
            envelope = self._envelope(outgoing)
        except NotAnEmail:
            detail = "the message cannot be written as an e-mail"
            return Answer(Outcome.PERMANENT, "not_an_email", detail, surely_not_accepted=True)
        answer = await self._attempt(envelope, wire)
        if answer is None:
            # An idle connection was gone, and nothing of the message was taken over it.
            answer = await self._attempt(envelope, wire, is_fresh=True)
        return answer or _GONE

    async def probe(self) -> Health:
        """Connect anew, log in and ask for nothing."""
        try:
            async with self._lender.connection(is_fresh=True) as connection:
                await connection.noop()
        except FAILURES as error:
            answer = self._answer_for(error, Wire())
            return Health(False, answer.detail, answer.outcome is Outcome.MISCONFIGURED)
        how = ", and the login works" if self._config.username else ""
        return Health(True, f"the server answers{how}")

    @property
    def _lender(self) -> SmtpPool:
        if self._pool is None:
            raise RuntimeError("the provider is not open")
        return self._pool

    def _envelope(self, outgoing: Outgoing) -> Envelope:
        mail = compose(
            outgoing,
            from_address=self._config.from_address,
            from_name=self._config.from_name,
            now=self._clock.now(),
        )
        return Envelope(self._config.from_address, outgoing.content.to, as_bytes(mail))

    async def _attempt(
        self, envelope: Envelope, wire: Wire, *, is_fresh: bool = False
    ) -> Answer | None:
        try:
            async with self._lender.connection(is_fresh=is_fresh) as connection:
                return await self._deliver(connection, envelope, wire)
        except FAILURES as error:
            return self._answer_for(error, wire, envelope.recipient)

    async def _deliver(
        self, connection: SmtpConnection, envelope: Envelope, wire: Wire
    ) -> Answer | None:
        """Send over a connection; None where it was used before and turned out to be dead."""
        is_used = connection.messages > 0
        try:
            said = await connection.deliver(envelope, wire)
        except FAILURES as error:
            if isinstance(error, BROKEN):
                connection.abort()
            if is_used and not connection.is_open and not connection.has_begun:
                return None
            return self._answer_for(error, wire, envelope.recipient)
        queued = _QUEUED.search(said)
        return Answer(
            Outcome.ACCEPTED, "smtp_250", "the server took the message",
            provider_message_id=queued[1] if queued else None,
        )  # fmt: skip

    async def _connect(self) -> SmtpConnection:
        tls = None if self._config.security == "none" else await self._trust()
        return await open_connection(self._config.server, tls)

    async def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            loop = asyncio.get_running_loop()
            try:
                # Reading the system's certificates takes tens of milliseconds.
                self._tls = await loop.run_in_executor(self._executor, self._read_certificates)
            except OSError as error:
                words = "ca_file cannot be read, or holds no certificate (PEM)"
                raise Unfit(Outcome.MISCONFIGURED, "ca_file_unreadable", words) from error
        return self._tls

    def _read_certificates(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)

    def _answer_for(self, error: BaseException, wire: Wire, to: str = "") -> Answer:
        match error:
            case Refused():
                return self._judge(error.refusal, to)
            case Unfit():
                return Answer(error.outcome, error.reason, error.words, surely_not_accepted=True)
        fault = _fault_in_tls(error)
        if fault is not None and not wire.is_written:
            words = f"{fault}; nothing was sent"
            return Answer(Outcome.MISCONFIGURED, "tls_refused", words, surely_not_accepted=True)
        if isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None:
            # What the socket said tells more than that there was no connection.
            error = error.__cause__
        return answer_for_exception(error, wire)

    def _judge(self, refusal: Refusal, to: str = "") -> Answer:
        meaning = meaning_of(refusal)
        said = _one_line(refusal.text)
        if to:
            said = said.replace(to, mask_address(to))
        masked = mask_text(said, self._config.password.get_secret_value())
        answer = meaning.ruling.answer(masked, meaning.wait_s)
        return replace(answer, is_recipient_only=meaning.is_recipient_only)


FAILURES = (Refused, Unfit, *BROKEN)
"""Everything that a server or the way to it can do."""

_GONE = Answer(
    Outcome.TRANSIENT, "connection_lost", "the connection broke; nothing was sent",
    surely_not_accepted=True,
)  # fmt: skip
_QUEUED = re.compile(r"(?:queued as|\bid=)\s*([\w.-]{1,100})", re.IGNORECASE)
"""What Postfix and Exim call a message that they took; not every server has a name for it."""
_PLAIN_TEXT = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})
"""What OpenSSL says to an answer that is not TLS at all."""


def _flaw_in_recipient(to: str) -> Answer | None:
    """Refuse what the service refuses at its door: more than one bare address."""
    if _RECIPIENT.fullmatch(to):
        return None
    detail = "the recipient is not one bare e-mail address"
    return Answer(Outcome.RECIPIENT, "not_an_address", detail, surely_not_accepted=True)


def _fault_in_tls(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            words = error.verify_message or "it cannot be verified"
            return f"the server's certificate is not trusted ({words}); check host and ca_file"
        if isinstance(error, ssl.SSLError) and error.reason in _PLAIN_TEXT:
            return 'the server does not begin with TLS; is security = "starttls" meant?'
        error = error.__cause__
    return None


def _one_line(text: str) -> str:
    # The library keeps bytes that are not UTF-8 as surrogates.
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in readable).split())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
