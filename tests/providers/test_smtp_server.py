"""The adapter against a mail server that is not ours: aiosmtpd, answering what a test wants."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import ssl
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import example, given
from hypothesis import strategies as st

from clarion.domain.notification import Content
from clarion.domain.outcome import Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.providers.smtp import Smtp, SmtpConfig
from clarion.testing import ManualClock
from clarion.testing.certificate import CertificateAuthority

PASSWORD = "correct horse"
USER = {"username": "clarion", "password": PASSWORD}


class MailServer:
    """aiosmtpd in this loop; a hook may answer for it at any stage."""

    def __init__(self, **options: Any) -> None:
        self.options = {"hostname": "mail.test", **options}
        self.tls: ssl.SSLContext | None = options.pop("from_first_byte", None)
        self.taken: list[Envelope] = []
        self.logins: list[str] = []
        self.sessions: list[SMTP] = []
        self.replies: dict[str, str] = {}
        self.on_data: Callable[[SMTP], str | None] = lambda _server: None
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._session, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _session(self) -> SMTP:
        options = {key: value for key, value in self.options.items() if key != "from_first_byte"}
        server = SMTP(self, authenticator=self._authenticate, **options)
        self.sessions.append(server)
        return server

    def _authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str,
                      login: LoginPassword) -> AuthResult:  # fmt: skip
        self.logins.append(mechanism)
        is_right = login == LoginPassword(b"clarion", PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, sender: str, options: list[str]
    ) -> str:
        if "MAIL" in self.replies:
            return self.replies["MAIL"]
        envelope.mail_from, envelope.mail_options = sender, options
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, to: str, _options: list[str]
    ) -> str:
        if "RCPT" in self.replies:
            return self.replies["RCPT"]
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if "DATA" in self.replies:
            return self.replies["DATA"]
        self.taken.append(envelope)
        return self.on_data(server) or "250 2.0.0 Ok: queued as 4F1C"

    def close(self) -> None:
        self._listener.close()
        for server in self.sessions:
            if server.transport is not None:
                server.transport.abort()

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "kind": "smtp", "host": "127.0.0.1", "port": self.port, "security": "none",
            "from_address": "news@example.com", **more,
        }  # fmt: skip


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a mail server; it is closed after the test."""
    started: list[MailServer] = []

    async def serve(**options: Any) -> MailServer:
        server = MailServer(**options)
        await server.start()
        started.append(server)
        return server

    yield serve
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


def outgoing(id_: str = "n1", **content: Any) -> Outgoing:
    given = {"to": "ada@example.org", "subject": "Hi", "text": "hello", **content}
    return Outgoing(id_, "email", Content(**given), 1, "c1")


def parsed(envelope: Envelope) -> EmailMessage:
    content = envelope.original_content or b""
    return email.message_from_bytes(content, policy=email.policy.default)  # type: ignore[return-value]


# --- what is sent ------------------------------------------------------------------------------


async def test_a_mail_is_handed_over_with_its_envelope(serve: Serve, make: Serve) -> None:
    """Sender, one recipient, our id; the name that the server gives it is kept."""
    server = await serve()
    adapter = await make(server.settings(from_name="News"))
    wire = Wire()

    answer = await adapter.send(outgoing(html="<b>hello</b>", headers={"X-Tag": "a"}), wire)

    assert (answer.outcome, answer.provider_message_id) == (Outcome.ACCEPTED, "4F1C")
    assert wire.is_written
    (envelope,) = server.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("news@example.com", ["ada@example.org"])
    mail = parsed(envelope)
    assert mail["From"] == "News <news@example.com>"
    assert mail["To"] == "ada@example.org"
    assert (mail["Subject"], mail["X-Tag"]) == ("Hi", "a")
    assert mail["Message-ID"] == "<n1@example.com>"


TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cc"]), st.sampled_from("\t\r\n.. \x7f\x85\u2028")
    ),
    min_size=1,
    max_size=1500,
)
LINES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=200
)


@given(subject=LINES, text=TEXTS, html=TEXTS, tag=LINES)
@example(subject=".", text=".\r\n..\r\n.\n", html="\r\n.\r\n", tag="=?x?=")
@example(subject="s", text="a\r.\rMAIL FROM:<evil@example.com>\r", html="a\n.\nQUIT\n", tag="")
def test_any_content_arrives_as_it_was_written(
    subject: str, text: str, html: str, tag: str
) -> None:
    """Over a real connection: dots, line breaks and other scripts; and one mail stays one."""

    async def send() -> list[Envelope]:
        server = MailServer()
        await server.start()
        settings = {key: each for key, each in server.settings().items() if key != "kind"}
        adapter = Smtp("one", SmtpConfig(**settings), max_concurrent=1, clock=ManualClock())
        await adapter.open()
        message = outgoing(subject=subject, text=text, html=html, headers={"X-Tag": tag})
        answer = await adapter.send(message, Wire())
        await adapter.close()
        server.close()
        assert answer.outcome is Outcome.ACCEPTED, answer
        return server.taken

    (envelope,) = asyncio.run(send())

    mail = parsed(envelope)
    assert (mail["Subject"] or "", mail["X-Tag"]) == (subject, tag)
    assert body(mail, "plain") == plain(text)
    assert body(mail, "html") == plain(html)


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return plain(part.get_content())


def plain(text: str) -> str:
    """Return a text with one kind of line breaks, and one at its end."""
    unified = re.sub(r"\r\n|\r|\n", "\n", text)
    return unified if unified.endswith("\n") else unified + "\n"


async def test_a_large_mail_is_announced_and_arrives_whole(serve: Serve, make: Serve) -> None:
    """Larger than every buffer on the way."""
    server = await serve()
    adapter = await make(server.settings())
    text = "line of text\n" * 400_000

    answer = await adapter.send(outgoing(text=text), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    (envelope,) = server.taken
    assert envelope.mail_options == [f"SIZE={len(envelope.original_content)}"]
    assert body(parsed(envelope), "plain") == text


async def test_a_mail_that_the_server_says_is_too_large_is_not_begun(
    serve: Serve, make: Serve
) -> None:
    """The limit is in its EHLO."""
    server = await serve(data_size_limit=5000)
    adapter = await make(server.settings())

    answer = await adapter.send(outgoing(text="x" * 6000), Wire())
    after = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.PERMANENT, "message_too_large")
    assert answer.surely_not_accepted
    assert "5,000" in answer.detail
    assert after.outcome is Outcome.ACCEPTED
    assert len(server.sessions) == 1


async def test_an_address_in_another_script_needs_a_server_that_takes_it(
    serve: Serve, make: Serve
) -> None:
    """SMTPUTF8: with it the address arrives, without it the answer says what is missing."""
    without, server = await serve(), await serve(enable_SMTPUTF8=True)
    message = outgoing(to="adä@example.org")

    refused = await (await make(without.settings())).send(message, Wire())
    taken = await (await make(server.settings())).send(message, Wire())

    assert (refused.outcome, refused.reason) == (Outcome.RECIPIENT, "smtputf8_missing")
    assert "SMTPUTF8" in refused.detail
    assert not without.taken
    assert taken.outcome is Outcome.ACCEPTED
    assert server.taken[0].rcpt_tos == ["adä@example.org"]
    assert "SMTPUTF8" in server.taken[0].mail_options


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.org, evil@example.org", '"x" <evil@example.org>', "a@b@c.example",
        "ada@example.org>", "ada@example.org BODY=8BITMIME", "ada", "",
    ],
)  # fmt: skip
async def test_only_one_bare_address_is_sent_to(serve: Serve, make: Serve, to: str) -> None:
    """The service refuses others at its door; behind it they are refused again."""
    server = await serve()
    adapter = await make(server.settings())

    answer = await adapter.send(outgoing(to=to), Wire())

    assert answer.outcome in (Outcome.RECIPIENT, Outcome.PERMANENT)
    assert answer.surely_not_accepted
    assert not server.sessions


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "reply", "outcome", "reason"),
    [
        ("MAIL", "550 5.7.1 Sender rejected", Outcome.MISCONFIGURED, "smtp_550_5.7.1"),
        ("MAIL", "451 4.3.0 Try later", Outcome.TRANSIENT, "smtp_451_4.3.0"),
        ("MAIL", "530 5.7.0 Authentication required", Outcome.MISCONFIGURED, "smtp_530_5.7.0"),
        ("RCPT", "550 5.1.1 No such user", Outcome.RECIPIENT, "smtp_550_5.1.1"),
        ("RCPT", "550-5.1.1 No such\r\n550 5.1.1 user", Outcome.RECIPIENT, "smtp_550_5.1.1"),
        ("RCPT", "452 4.2.2 Mailbox full", Outcome.RECIPIENT, "smtp_452_4.2.2"),
        ("RCPT", "450 4.7.1 Greylisted, try later", Outcome.TRANSIENT, "smtp_450_4.7.1"),
        ("RCPT", "554 5.7.1 Relay access denied", Outcome.MISCONFIGURED, "smtp_554_5.7.1"),
        ("DATA", "554 5.7.1 Spam", Outcome.PERMANENT, "smtp_554_5.7.1"),
        ("DATA", "552 5.3.4 Too big", Outcome.PERMANENT, "smtp_552_5.3.4"),
        ("DATA", "452 4.3.1 Disk full", Outcome.TRANSIENT, "smtp_452_4.3.1"),
        ("DATA", "454 Throttling failure: rate", Outcome.THROTTLED, "smtp_454"),
    ],
)
async def test_a_refusal_means_what_its_stage_says_and_leaves_a_clean_session(
    serve: Serve, make: Serve, stage: str, reply: str, outcome: Outcome, reason: str
) -> None:
    """Surely not accepted at every stage, and the next mail goes over the same connection."""
    server = await serve()
    adapter = await make(server.settings())
    server.replies[stage] = reply

    refused = await adapter.send(outgoing("n1"), Wire())
    server.replies.clear()
    taken = await adapter.send(outgoing("n2"), Wire())

    assert (refused.outcome, refused.reason) == (outcome, reason)
    assert refused.surely_not_accepted
    assert taken.outcome is Outcome.ACCEPTED
    assert len(server.sessions) == 1
    assert [parsed(one)["Message-ID"] for one in server.taken] == ["<n2@example.com>"]


async def test_a_lost_reply_after_the_final_dot_is_unknown(serve: Serve, make: Serve) -> None:
    """The server took the mail; nobody will ever say so."""
    server = await serve()
    server.on_data = lambda session: session.transport.abort()
    adapter = await make(server.settings())

    answer = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.surely_not_accepted) == (Outcome.UNKNOWN, False)
    assert len(server.taken) == 1


# --- encryption and login ----------------------------------------------------------------------


async def test_the_session_is_encrypted_before_the_login(
    serve: Serve, make: Serve, authority: CertificateAuthority
) -> None:
    """STARTTLS, EHLO again, AUTH."""
    server = await serve(
        tls_context=authority.server_context(), require_starttls=True, auth_required=True
    )
    table = server.settings(security="starttls", ca_file=str(authority.ca_file), **USER)
    adapter = await make(table)

    answer = await adapter.send(outgoing(), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert server.logins == ["PLAIN"]
    assert (await adapter.probe()).detail == "the server answers, and the login works"


async def test_encryption_from_the_first_byte(
    serve: Serve, make: Serve, authority: CertificateAuthority
) -> None:
    """What port 465 is for; `ca_file` counts from the settings file."""
    server = await serve(from_first_byte=authority.server_context(), auth_require_tls=False)
    table = server.settings(security="tls", ca_file=str(authority.ca_file), **USER)
    adapter = await make(table)

    assert (await adapter.send(outgoing(), Wire())).outcome is Outcome.ACCEPTED
    assert server.logins == ["PLAIN"]


async def test_nothing_is_sent_in_the_clear_where_starttls_is_missing(
    serve: Serve, make: Serve
) -> None:
    """No downgrade: neither the mail nor the password."""
    server = await serve(auth_require_tls=False)
    adapter = await make(server.settings(security="starttls", **USER))
    wire = Wire()

    answer = await adapter.send(outgoing(), wire)

    assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, "starttls_missing")
    assert answer.surely_not_accepted
    assert not wire.is_written
    assert not server.logins
    assert (await adapter.probe()).is_misconfigured


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["unknown authority", "wrong host", "expired"])
async def test_a_certificate_that_is_not_trusted_ends_it(
    serve: Serve, make: Serve, authority: CertificateAuthority, fault: str, security: str
) -> None:
    """Not before a login, and not silently."""
    context = authority.server_context(
        "other.example" if fault == "wrong host" else "127.0.0.1", is_expired=fault == "expired"
    )
    options = {"from_first_byte": context} if security == "tls" else {"tls_context": context}
    server = await serve(**options)
    trusted = {} if fault == "unknown authority" else {"ca_file": str(authority.ca_file)}
    adapter = await make(server.settings(security=security, **trusted, **USER))

    answer = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, "tls_refused")
    assert "certificate" in answer.detail
    assert not server.logins


async def test_a_port_that_does_not_begin_with_tls_is_a_setting_to_mend(
    serve: Serve, make: Serve
) -> None:
    """security = "tls" with the port of STARTTLS."""
    server = await serve()
    adapter = await make(server.settings(security="tls"))

    answer = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, "tls_refused")
    assert "starttls" in answer.detail


async def test_a_file_of_certificates_that_is_not_there_is_a_setting_to_mend(
    serve: Serve, make: Serve, tmp_path: Path
) -> None:
    """The provider starts, and says what is wrong; when the file is there it works."""
    server = await serve()
    adapter = await make(server.settings(security="tls", ca_file="none.pem"))

    answer = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, "ca_file_unreadable")
    (tmp_path / "none.pem").write_text("nonsense")
    assert (await adapter.send(outgoing(), Wire())).reason == "ca_file_unreadable"


async def test_a_wrong_password_is_tried_once_and_never_shown(serve: Serve, make: Serve) -> None:
    """Servers lock accounts after a few tries."""
    server = await serve(auth_require_tls=False)
    adapter = await make(server.settings(username="clarion", password="wrong-secret"))

    answer = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, "smtp_535_5.7.8")
    assert server.logins == ["PLAIN"]
    assert "wrong-secret" not in answer.detail + repr(adapter)


async def test_a_server_without_a_way_to_log_in_says_so(serve: Serve, make: Serve) -> None:
    """AUTH is offered over TLS alone, and there is none here."""
    server = await serve()
    adapter = await make(server.settings(**USER))

    answer = await adapter.send(outgoing(), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, "auth_missing")


async def test_a_server_that_knows_login_alone_is_logged_in_to(serve: Serve, make: Serve) -> None:
    """PLAIN is the first choice, not the only one."""
    server = await serve(auth_require_tls=False, auth_exclude_mechanism=["PLAIN"])
    adapter = await make(server.settings(**USER))

    answer = await adapter.send(outgoing(), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert server.logins == ["LOGIN"]
