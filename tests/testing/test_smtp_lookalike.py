"""The look-alike of a mail server, seen by the standard library's client."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from clarion.testing import CertificateAuthority, Fault, SmtpLookalike, at_stage


def mail(id_: str) -> EmailMessage:
    written = EmailMessage()
    written["From"], written["To"], written["Subject"] = "a@example.com", "b@example.com", "Hi"
    written["Message-ID"] = f"<{id_}@example.com>"
    written.set_content(".\n..hello\n")
    return written


async def talk(server: SmtpLookalike, say: Callable[[smtplib.SMTP], Any]) -> Any:
    """Connect in a thread, since the client blocks."""

    def run() -> Any:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=5.0) as client:
            return say(client)

    return await asyncio.to_thread(run)


async def test_a_mail_is_counted_by_the_id_in_its_message_id(tmp_path: Path) -> None:
    """And kept with its envelope and content, dots undone."""
    async with SmtpLookalike() as server:
        refused = await talk(server, lambda client: client.send_message(mail("n1")))

    assert refused == {}
    assert server.deliveries == {"n1": 1}
    seen = next(one for one in server.requests if one.is_send)
    assert (seen.outcome, seen.status) == ("accepted", 250)
    assert (seen.payload["from"], seen.payload["to"]) == ("a@example.com", "b@example.com")
    assert seen.payload["content"].endswith(b"\r\n\r\n.\r\n..hello\r\n")


async def test_a_counted_fault_is_used_up_by_mails_alone() -> None:
    """The next mail is taken."""
    async with SmtpLookalike() as server:
        server.behave(Fault.error(404), times=1)

        with pytest.raises(smtplib.SMTPRecipientsRefused):
            await talk(server, lambda client: client.send_message(mail("n1")))
        await talk(server, lambda client: client.send_message(mail("n2")))

    assert server.deliveries == {"n2": 1}
    assert server.in_flight == 0


async def test_without_a_login_nothing_is_taken(tmp_path: Path) -> None:
    """Encryption first, then the right password."""
    authority = CertificateAuthority(tmp_path)
    tls = ssl.create_default_context(cafile=authority.ca_file)

    def log_in(client: smtplib.SMTP, password: str) -> None:
        client.starttls(context=tls)
        client.login("clarion", password)
        client.send_message(mail("n1"))

    async with SmtpLookalike("clarion", "right", tls=authority.server_context()) as server:
        with pytest.raises(smtplib.SMTPSenderRefused, match="Authentication required"):
            await talk(server, lambda client: client.send_message(mail("n0")))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await talk(server, lambda client: log_in(client, "wrong"))
        await talk(server, lambda client: log_in(client, "right"))

    assert server.deliveries == {"n1": 1}


async def test_it_misbehaves_at_the_stage_that_it_is_told() -> None:
    """A greeting that refuses, for as long as the rule stands."""
    async with SmtpLookalike() as server:
        server.behave(at_stage("greeting", Fault.error(code=554, message="5.7.1 No")))

        with pytest.raises(smtplib.SMTPConnectError):
            await talk(server, lambda client: client.noop())
        server.recover()
        assert (await talk(server, lambda client: client.noop()))[0] == 250


async def test_it_dies_and_comes_back_on_its_port() -> None:
    """Open connections are reset, whatever they wait for."""
    async with SmtpLookalike() as server:
        server.behave(Fault.hang())
        port = server.port
        waiting = asyncio.create_task(talk(server, lambda client: client.send_message(mail("n1"))))
        await server.wait_for(lambda: server.in_flight == 1)

        await server.stop()
        with pytest.raises((smtplib.SMTPException, OSError)):
            await waiting
        server.recover()
        await server.start()

        assert server.port == port
        await talk(server, lambda client: client.send_message(mail("n2")))
    assert server.deliveries == {"n2": 1}


def test_a_stage_that_there_is_not_is_refused() -> None:
    """A typing error must not be a fault that never happens."""
    with pytest.raises(ValueError, match="there is no stage 'RCTP'"):
        at_stage("RCTP", Fault.hang())
