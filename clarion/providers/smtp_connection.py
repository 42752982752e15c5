"""One connection to an SMTP server, from the greeting to QUIT.

::

    connect -> greeting -> EHLO [-> STARTTLS -> EHLO] [-> AUTH]      open
    [RSET ->] MAIL -> RCPT -> DATA -> content, final dot             deliver, again and again

No time limit of its own. It knows exactly when the server may have the message: from the final dot
on, and not before, since a server that lost the connection earlier has to forget the message
(RFC 5321 section 3.8). That is why the content is written here and not by the library, which
writes it in one piece with the dot. Addresses are written here too: the library parses them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import aiosmtplib

from clarion.domain.outcome import Outcome
from clarion.providers.base import Wire
from clarion.providers.smtp_code import Refusal, Stage

BROKEN = (aiosmtplib.SMTPException, OSError, EOFError)
"""What is raised when the exchange ended without a complete reply."""

GARBLED = -1
"""The code of a reply that has none, as the library says it too."""
_AUTH_METHODS = ("plain", "login", "cram-md5")
"""In this order: CRAM-MD5 is offered by servers that cannot check it, and TLS hides the others."""
_HOST_NAME = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*")

Security = Literal["starttls", "tls", "none"]


class Refused(Exception):
    """The server answered with something else than what the stage needs."""

    def __init__(self, stage: Stage, code: int, text: str) -> None:
        super().__init__(stage, code)
        self.refusal = Refusal(stage, code, text)

    @property
    def is_end_of_session(self) -> bool:
        """Whether the server closes the connection, or nobody knows what it will say next."""
        return self.refusal.code == 421 or not 400 <= self.refusal.code <= 599


class Unfit(Exception):
    """The server cannot do what the settings or the message need; nothing was sent."""

    def __init__(self, outcome: Outcome, reason: str, words: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.words = words


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect and how to log in."""

    host: str
    port: int
    security: Security
    username: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What goes out: one sender, one recipient, and the content with CRLF line ends."""

    sender: str
    recipient: str
    content: bytes


class SmtpConnection:
    """An open session; made by `open_connection`, used by one call at a time."""

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self._smtp = smtp
        self._writer: asyncio.StreamWriter | None = None
        self._needs_reset = False
        self.messages = 0
        """Messages that were begun on it."""
        self.has_begun = False
        """Whether the server has taken the sender of the last one: the rest of it is a message."""

    @property
    def is_open(self) -> bool:
        """Whether both sides keep it open, as far as this machine was told."""
        return self._smtp.is_connected

    async def deliver(self, envelope: Envelope, wire: Wire) -> str:
        """Hand one message over and return what the server said.

        Sets `wire.is_written` right before the final dot. Raises: Refused, Unfit, one of BROKEN.
        """
        self.has_begun = False
        options = self._options(envelope)
        self.messages += 1
        try:
            return await self._exchange(envelope, options, wire)
        except Refused as refused:
            if refused.is_end_of_session:
                self.abort()
            raise

    async def noop(self) -> None:
        """Ask for nothing. Raises: Refused, one of BROKEN."""
        await self._command(Stage.NOOP, "NOOP")

    async def quit(self) -> None:
        """Say goodbye and close, whatever the server says to it."""
        with contextlib.suppress(*BROKEN):
            await self._smtp.quit()
        self.abort()

    def abort(self) -> None:
        """Close at once and drop what is unsent: a message that was given up must not go out."""
        if self._smtp.transport is not None:
            cast(asyncio.WriteTransport, self._smtp.transport).abort()
        self._smtp.close()

    async def begin(self, server: Server) -> None:
        """Introduce us, encrypt and log in, as the settings say. Raises: Refused, Unfit, BROKEN."""
        await self._ehlo()
        if server.security == "starttls":
            await self._encrypt()
        if server.username:
            await self._login(server.username, server.password)
        self._open_writer()

    async def _exchange(self, envelope: Envelope, options: list[str], wire: Wire) -> str:
        if self._needs_reset:
            await self._command(Stage.RSET, "RSET")
            self._needs_reset = False
        encoding = "ascii" if envelope.recipient.isascii() else "utf-8"
        await self._command(Stage.MAIL, f"MAIL FROM:<{envelope.sender}>", *options)
        self.has_begun = self._needs_reset = True
        await self._command(Stage.RCPT, f"RCPT TO:<{envelope.recipient}>", encoding=encoding)
        await self._command(Stage.DATA, "DATA", wanted=3)
        text = await self._write(envelope.content, wire)
        self._needs_reset = False
        return text

    def _options(self, envelope: Envelope) -> list[str]:
        size_bytes = len(envelope.content)
        options = []
        if self._smtp.supports_extension("size"):
            limit = self._smtp.esmtp_extensions["size"]
            # RFC 1870: zero or nothing is no limit.
            if limit.isdecimal() and 0 < int(limit) < size_bytes:
                words = f"the message has {size_bytes:,} bytes; the server takes {int(limit):,}"
                raise Unfit(Outcome.PERMANENT, "message_too_large", words)
            options.append(f"SIZE={size_bytes}")
        if not envelope.recipient.isascii():
            if not self._smtp.supports_extension("smtputf8"):
                words = "the address has other than ASCII characters, the server has no SMTPUTF8"
                raise Unfit(Outcome.RECIPIENT, "smtputf8_missing", words)
            options += ["BODY=8BITMIME", "SMTPUTF8"]
        return options

    async def _ehlo(self) -> None:
        with _refusals_of(Stage.EHLO):
            await self._smtp.ehlo(hostname=self._own_name())

    def _own_name(self) -> str:
        name = socket.gethostname()
        if _HOST_NAME.fullmatch(name):
            return name
        # RFC 5321 section 4.1.4: a machine without a name in the DNS gives its address.
        address = str(self._smtp.get_transport_info("sockname")[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    async def _encrypt(self) -> None:
        if not self._smtp.supports_extension("starttls"):
            words = (
                "the server does not offer STARTTLS, and nothing is sent in the clear;"
                ' is it the right port, or is security = "tls" meant?'
            )
            raise Unfit(Outcome.MISCONFIGURED, "starttls_missing", words)
        with _refusals_of(Stage.STARTTLS):
            await self._smtp.starttls()
        await self._ehlo()

    async def _login(self, username: str, password: str) -> None:
        offered = set(self._smtp.server_auth_methods)
        methods = [method for method in _AUTH_METHODS if method in offered]
        if not methods:
            words = "the server offers no way to log in that we know (PLAIN, LOGIN, CRAM-MD5)"
            raise Unfit(Outcome.MISCONFIGURED, "auth_missing", words)
        for method in methods[:-1]:
            try:
                await self._login_by(method, username, password)
            except Refused as refused:
                # Any other answer was a try, and more of them lock accounts.
                if refused.refusal.code != 504:
                    raise
            else:
                return
        await self._login_by(methods[-1], username, password)

    async def _login_by(self, method: str, username: str, password: str) -> None:
        authenticate = {
            "plain": self._smtp.auth_plain,
            "login": self._smtp.auth_login,
            "cram-md5": self._smtp.auth_crammd5,
        }[method]
        try:
            with _refusals_of(Stage.AUTH):
                await authenticate(username, password)
        except ValueError as error:
            # A challenge that is not what it has to be.
            raise Refused(Stage.AUTH, GARBLED, "") from error

    async def _command(
        self, stage: Stage, *words: str, wanted: int = 2, encoding: str = "ascii"
    ) -> None:
        with _refusals_of(stage):
            reply = await self._smtp.execute_command(*(word.encode(encoding) for word in words))
        if reply.code // 100 != wanted:
            raise Refused(stage, reply.code, reply.message)

    def _open_writer(self) -> None:
        transport, protocol = self._smtp.transport, self._smtp.protocol
        if transport is None or protocol is None:
            raise ConnectionResetError("the connection was lost")
        transport = cast(asyncio.WriteTransport, transport)
        # `drain` is to end when the kernel has everything before the dot. Not with a limit of 0,
        # for which asyncio's TLS pauses an empty buffer too, and does not always resume it.
        transport.set_write_buffer_limits(high=1)
        loop = asyncio.get_running_loop()
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def _write(self, content: bytes, wire: Wire) -> str:
        writer, protocol = self._writer, self._smtp.protocol
        if writer is None or protocol is None:
            raise ConnectionResetError("the connection was lost")
        writer.write(stuffed(content))
        await writer.drain()
        if not self.is_open:
            raise ConnectionResetError("the connection was lost")
        wire.is_written = True
        protocol.write(b".\r\n")
        with _refusals_of(Stage.CONTENT):
            reply = await protocol.read_response()
        if reply.code // 100 != 2:
            raise Refused(Stage.CONTENT, reply.code, reply.message)
        return reply.message


async def open_connection(server: Server, tls: ssl.SSLContext | None) -> SmtpConnection:
    """Connect and log in; what fails leaves nothing open. Raises: Refused, Unfit, BROKEN."""
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        # Only to keep the library from asking the resolver for our own name.
        local_hostname="localhost",
        use_tls=server.security == "tls",
        start_tls=False,
        tls_context=tls,
        timeout=None,
    )
    with _refusals_of(Stage.GREETING):
        await smtp.connect()
    connection = SmtpConnection(smtp)
    try:
        await connection.begin(server)
    except BaseException:
        connection.abort()
        raise
    return connection


@contextlib.contextmanager
def _refusals_of(stage: Stage) -> Iterator[None]:
    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        raise Refused(stage, error.code, error.message) from error


def stuffed(content: bytes) -> bytes:
    """Double each dot that begins a line (RFC 5321 section 4.5.2), and end the last line."""
    if content.startswith(b"."):
        content = b"." + content
    content = content.replace(b"\r\n.", b"\r\n..")
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"
