"""One connection to the look-alike of a mail server: its commands, and what can go wrong."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from clarion.testing import misbehaviour
from clarion.testing.fault import Fault, FaultKind
from clarion.testing.ledger import Ledger, SeenRequest
from clarion.testing.smtp_stage import ERRORS

_MESSAGE_ID = re.compile(rb"(?im)^Message-ID:\s*<([^@>\r\n]+)@")


class Server(Protocol):
    """What a session needs of the look-alike that it belongs to."""

    username: str
    password: str
    tls: ssl.SSLContext | None
    is_tls_first: bool
    extensions: tuple[str, ...]
    commands: list[str]
    ledger: Ledger
    latency_s: float

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch."""
        ...

    def next_serial(self) -> int:
        """Return a number for the server's own ids."""
        ...

    def fault_at(self, stage: str, seen: SeenRequest) -> Fault | None:
        """Return what goes wrong at this stage."""
        ...


class Closed(ConnectionError):
    """The session is over."""


@dataclass(slots=True)
class _Mail:
    """One mail from MAIL on."""

    seen: SeenRequest
    sender: str
    recipients: list[str]


class Session:
    """One connection; everything that it counts is the look-alike's."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._is_encrypted = server.is_tls_first
        self._is_logged_in = not server.username
        self._is_in_content = False
        self._mail: _Mail | None = None
        self._visit = SeenRequest(server.now(), "CONNECT", "", {}, False)
        self._verbs: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo, "HELO": self._helo, "STARTTLS": self._starttls,
            "AUTH": self._auth, "MAIL": self._mail_from, "RCPT": self._rcpt, "DATA": self._data,
            "RSET": self._rset, "NOOP": self._noop, "QUIT": self._quit,
        }  # fmt: skip

    async def run(self) -> None:
        """Serve until one side closes."""
        self._server.ledger.arrive(self._visit)
        if not await self._goes_wrong("greeting"):
            await self._say(220, "look-alike ESMTP")
        while True:
            line = (await self._reader.readuntil(b"\r\n"))[:-2].decode("utf-8", "replace")
            verb, _, rest = line.partition(" ")
            await self._obey(verb.upper(), rest)

    def end(self) -> None:
        """Note that the connection is gone."""
        self._finish("abandoned")
        self._visit.outcome = "answered"
        self._server.ledger.leave(self._visit)

    async def _obey(self, verb: str, rest: str) -> None:
        self._server.commands.append(verb)
        del self._server.commands[:-10_000]
        if verb in self._verbs:
            await self._verbs[verb](rest)
        else:
            await self._say(500, "5.5.1 Unknown command")

    # --- before a mail -------------------------------------------------------------------------

    async def _ehlo(self, name: str) -> None:
        self._finish("abandoned")
        if await self._goes_wrong("EHLO"):
            return
        lines = ["look-alike greets you", *self._server.extensions]
        if self._server.tls is not None and not self._is_encrypted:
            lines.append("STARTTLS")
        if self._server.username:
            lines.append("AUTH PLAIN LOGIN")
        await self._say(250, *lines)

    async def _helo(self, name: str) -> None:
        await self._say(250, "look-alike")

    async def _starttls(self, _: str) -> None:
        if await self._goes_wrong("STARTTLS"):
            return
        if self._server.tls is None or self._is_encrypted:
            await self._say(454, "4.7.0 TLS not available")
            return
        await self._say(220, "2.0.0 Ready to start TLS")
        await self._writer.start_tls(self._server.tls)
        self._is_encrypted = True

    async def _auth(self, rest: str) -> None:
        if await self._goes_wrong("AUTH"):
            return
        method, _, initial = rest.partition(" ")
        match method.upper():
            case "PLAIN":
                given = _decoded(initial or await self._ask("")).split("\0")[1:]
            case "LOGIN":
                name = _decoded(initial or await self._ask("Username:"))
                given = [name, _decoded(await self._ask("Password:"))]
            case _:
                await self._say(504, "5.5.4 Unrecognized authentication type")
                return
        self._is_logged_in = given == [self._server.username, self._server.password]
        if self._is_logged_in:
            await self._say(235, "2.7.0 Authentication successful")
        else:
            await self._say(535, "5.7.8 Authentication credentials invalid")

    async def _ask(self, question: str) -> str:
        await self._say(334, base64.b64encode(question.encode()).decode())
        return (await self._reader.readuntil(b"\r\n"))[:-2].decode("ascii", "replace")

    async def _noop(self, _: str) -> None:
        if not await self._goes_wrong("NOOP"):
            await self._say(250, "2.0.0 Ok")

    async def _rset(self, _: str) -> None:
        self._finish("rejected")
        if not await self._goes_wrong("RSET"):
            await self._say(250, "2.0.0 Ok")

    async def _quit(self, _: str) -> None:
        await self._say(221, "2.0.0 Bye")
        raise Closed

    # --- a mail --------------------------------------------------------------------------------

    async def _mail_from(self, rest: str) -> None:
        seen = SeenRequest(self._server.now(), "MAIL", rest, {}, True, {"from": _path(rest)})
        self._finish("abandoned")
        self._server.ledger.arrive(seen)
        self._mail = _Mail(seen, _path(rest), [])
        if await self._goes_wrong("MAIL"):
            return
        if not self._is_logged_in:
            await self._refuse(530, "5.7.0 Authentication required")
            return
        await self._say(250, "2.1.0 Ok")

    async def _rcpt(self, rest: str) -> None:
        if self._mail is None:
            await self._say(503, "5.5.1 Need MAIL")
            return
        self._mail.seen.payload["to"] = _path(rest)
        if await self._goes_wrong("RCPT"):
            return
        self._mail.recipients.append(_path(rest))
        await self._say(250, "2.1.5 Ok")

    async def _data(self, _: str) -> None:
        if self._mail is None or not self._mail.recipients:
            await self._say(503, "5.5.1 Need RCPT")
            return
        if await self._goes_wrong("DATA"):
            return
        await self._say(354, "End data with <CR><LF>.<CR><LF>")
        self._is_in_content = True
        if await self._goes_wrong("content"):
            return
        self._is_in_content = False
        await self._take(self._mail.seen, await self._content())

    async def _content(self) -> bytes:
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    async def _take(self, seen: SeenRequest, content: bytes) -> None:
        seen.payload["content"] = content
        fault = self._server.fault_at("END", seen)
        if fault is not None and not fault.accepts:
            await self._misbehave(fault, seen)
            return
        found = _MESSAGE_ID.search(content.partition(b"\r\n\r\n")[0])
        seen.correlation_id = found[1].decode("ascii", "replace") if found else ""
        seen.outcome = "accepted"
        self._server.ledger.deliver(seen, [seen.correlation_id])
        if fault is not None:
            await self._misbehave(fault, seen)
            return
        if self._server.latency_s:
            await asyncio.sleep(self._server.latency_s)
        await self._say(250, self._thanks())
        seen.status = 250
        self._finish("accepted")

    def _thanks(self) -> str:
        return f"2.0.0 Ok: queued as {self._server.next_serial() & 0xFFFFFFFF:08X}"

    # --- what goes wrong -----------------------------------------------------------------------

    async def _goes_wrong(self, stage: str) -> bool:
        seen = self._mail.seen if self._mail is not None else self._visit
        fault = self._server.fault_at(stage, seen)
        if fault is not None:
            await self._misbehave(fault, seen)
        return fault is not None

    async def _misbehave(  # noqa: C901, PLR0912 - one case for each fault
        self, fault: Fault, seen: SeenRequest
    ) -> None:
        seen.outcome = fault.kind.value
        match fault.kind:
            case FaultKind.ERROR:
                _, code, text = ERRORS.get(fault.status, ERRORS[500])
                await self._refuse(fault.code or code, fault.message or text)
            case FaultKind.REDIRECT:
                await self._refuse(551, f"5.1.6 User not local; please try <{fault.location}>")
            case FaultKind.HTML:
                await self._write(b"<html><head><title>Bad Gateway</title></head></html>\r\n")
            case FaultKind.HANG:
                await self._hang()
            case FaultKind.RESET:
                misbehaviour.reset(self._writer.transport)
                raise Closed
            case FaultKind.TRUNCATED:
                await self._write_and_close(b"25")
            case FaultKind.CUT_OFF:
                await self._write_and_close(b"250-2.0.0 Ok: queued as\r\n")
            case FaultKind.NO_CONTENT:
                await self._write(b"250\r\n")
                self._finish("accepted")
            case FaultKind.DRIP:
                await self._drip(f"250 {self._thanks()}\r\n".encode(), fault.interval_s)
            case FaultKind.HUGE:
                await self._write(b"250-" + b"x" * fault.size_bytes + b"\r\n")
            case FaultKind.KEEPALIVE_CLOSE:
                self._finish("accepted")
                await self._write_and_close(f"250 {self._thanks()}\r\n".encode())
            case FaultKind.SLOW:
                await asyncio.sleep(fault.interval_s)
                await self._say(250, self._thanks())
                self._finish("accepted")
            case _:
                assert_never(fault.kind)

    async def _hang(self) -> None:
        if self._is_in_content:
            # Reading would let the whole mail in; until `stop` nothing more is read.
            self._writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.get_running_loop().create_future()
        # Until the client gives up: what it still says is read and forgotten.
        while await self._reader.read(64 * 1024):
            pass
        raise Closed

    async def _drip(self, reply: bytes, interval_s: float) -> None:
        for at in range(len(reply)):
            await self._write(reply[at : at + 1])
            await asyncio.sleep(interval_s)
        self._finish("accepted")

    async def _refuse(self, code: int, *lines: str) -> None:
        mail = self._mail
        await self._say(code, *lines)
        if mail is not None:
            mail.seen.status = code
            # At RCPT the mail is still open; RSET, another MAIL or the end of the session ends it.
            if not mail.recipients or mail.seen.payload.get("content") is not None:
                self._finish("rejected")
        if code == 421:
            raise Closed

    def _finish(self, outcome: str) -> None:
        mail, self._mail = self._mail, None
        if mail is None:
            return
        if mail.seen.outcome == "in_flight":
            mail.seen.outcome = outcome
        self._server.ledger.leave(mail.seen)

    async def _say(self, code: int, *lines: str) -> None:
        *first, last = lines
        text = "".join(f"{code}-{line}\r\n" for line in first) + f"{code} {last}\r\n"
        await self._write(text.encode())

    async def _write(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()

    async def _write_and_close(self, text: bytes) -> None:
        await self._write(text)
        raise Closed


def _path(text: str) -> str:
    return text.partition("<")[2].partition(">")[0]


def _decoded(text: str) -> str:
    with contextlib.suppress(binascii.Error):
        return base64.b64decode(text).decode("utf-8", "replace")
    return ""
