"""Any content that the service accepts becomes an e-mail that says the same, and nothing more."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clarion.domain.header import is_reserved
from clarion.domain.notification import Content
from clarion.providers.base import Outgoing
from clarion.providers.mail import NotAnEmail, as_bytes, compose

FIT_IN_LINE = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029")
FIT_IN_TEXT = st.one_of(
    st.characters(exclude_categories=["Cs", "Cc"]), st.sampled_from("\t\r\n. \x7f\x85\u2028")
)
LINES = st.text(FIT_IN_LINE, max_size=300)
TEXTS = st.text(FIT_IN_TEXT, max_size=2000)
NAMES = st.from_regex(r"X-[A-Za-z0-9-]{1,40}", fullmatch=True).filter(lambda n: not is_reserved(n))
HEADERS = st.dictionaries(NAMES, LINES, max_size=3).filter(
    lambda headers: len({name.lower() for name in headers}) == len(headers)
)


def written(content: Content, **more: Any) -> bytes:
    outgoing = Outgoing("01hzx", "email", content, 1, "c1")
    mail = compose(outgoing, **{"from_address": "news@example.com", "now": 0.0, **more})
    return as_bytes(mail)


def read(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[return-value]


def body(mail: EmailMessage, kind: str) -> str | None:
    part = mail.get_body((kind,))
    return None if part is None else plain(part.get_content())


def plain(text: str) -> str:
    """Return a text with one kind of line breaks, and one at its end."""
    unified = re.sub(r"\r\n|\r|\n", "\n", text)
    return unified if unified.endswith("\n") else unified + "\n"


@given(subject=LINES, text=TEXTS, html=TEXTS, headers=HEADERS)
@example(subject="=?utf-8?q?a=0ABcc:x?=", text=".\n..\n", html="", headers={})
@example(subject=" two  blanks ", text="a\r\n.\r\nb", html="\r.\r", headers={"X-A": " "})
@example(subject="x" * 998, text="y" * 5000, html="z" * 999, headers={"X-" + "a" * 70: "v" * 998})
def test_what_was_written_is_what_is_read(
    subject: str, text: str, html: str, headers: dict[str, str]
) -> None:
    """Subject, texts and headers survive; line breaks in texts become those of mail."""
    mail = read(written(Content("ada@example.com", subject, text, html, headers=headers)))

    assert (mail["Subject"] or "") == subject
    assert {name: mail[name] for name in headers} == headers
    if text:
        assert body(mail, "plain") == plain(text)
    if html:
        assert body(mail, "html") == plain(html)
    assert len(mail.items()) <= 8 + len(headers)


@given(subject=LINES, text=TEXTS, html=TEXTS, headers=HEADERS)
def test_every_line_is_ascii_short_enough_and_ended_by_crlf(
    subject: str, text: str, html: str, headers: dict[str, str]
) -> None:
    """What a server may break, re-encode or read in two ways is never sent."""
    raw = written(Content("ada@example.com", subject, text, html, headers=headers))

    assert raw.isascii()
    assert b"\0" not in raw
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", raw)
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


def test_both_texts_are_alternatives_of_each_other() -> None:
    """Plain first: the last one that a mail program can show is shown."""
    mail = read(written(Content("ada@example.com", "Hi", "text", "<b>html</b>")))

    assert mail.get_content_type() == "multipart/alternative"
    kinds = [part.get_content_type() for part in mail.iter_parts()]
    assert kinds == ["text/plain", "text/html"]


def test_a_retry_is_the_same_message_to_a_mailbox() -> None:
    """Message-ID and boundary come from the notification's id, the domain from the sender."""
    content = Content("ada@example.com", "Hi", "text", "<b>html</b>")

    first, again = written(content, now=1.0), written(content, now=9.0)

    assert read(first)["Message-ID"] == "<01hzx@example.com>"
    assert first.replace(b"00:00:01", b"00:00:09") == again


def test_a_text_that_holds_the_boundary_ends_no_part() -> None:
    """Whoever learns a notification's id cannot forge a part with it."""
    text = "before\n--=_clarion_01hzx\nContent-Type: text/html\n\nforged\n--=_clarion_01hzx--\n"

    mail = read(written(Content("ada@example.com", "Hi", text, "<b>html</b>")))

    assert body(mail, "plain") == text
    assert body(mail, "html") == "<b>html</b>\n"


def test_the_name_of_the_sender_is_quoted() -> None:
    """Commas, quotes and other scripts change nothing about who it is from."""
    mail = read(written(Content("ada@example.com", "Hi", "x"), from_name='Grüße, "Co" <e@evil>'))

    assert len(mail["From"].addresses) == 1
    assert mail["From"].addresses[0].addr_spec == "news@example.com"
    assert mail["From"].addresses[0].display_name == 'Grüße, "Co" <e@evil>'


@pytest.mark.parametrize(
    "content",
    [
        Content("ada@example.com, evil@example.com", "Hi", "x"),
        Content('"x" <evil@example.com>', "Hi", "x"),
        Content("ada@example.com\r\nBcc: evil@example.com", "Hi", "x"),
        Content("ada@example.com", "Hi\r\nBcc: evil@example.com", "x"),
        Content("ada@example.com", "Hi\u2028Bcc: evil@example.com", "x"),
        Content("ada@example.com", "Hi", "x", headers={"X-A": "1\r\n\r\nbody"}),
        Content("ada@example.com", "Hi", "x", headers={"X-A: 1\r\nBcc": "evil@example.com"}),
        Content("ada@example.com", "Hi", "x", headers={"To": "evil@example.com"}),
        Content("ada@example.com", "Hi", "x", headers={"bcc": "evil@example.com"}),
    ],
)
def test_nothing_of_the_content_can_become_a_header_or_a_recipient(content: Content) -> None:
    """The service refuses such content at its door; this is what stands behind the door."""
    with pytest.raises(NotAnEmail):
        written(content)


def test_an_address_in_another_script_is_written_as_it_is() -> None:
    """It needs SMTPUTF8 of every server; everything else stays ASCII."""
    raw = written(Content("adä@example.com", "Grüße", "ö"))

    assert "\r\nTo: adä@example.com\r\n" in raw.decode("utf-8")
    assert read(raw.replace("adä".encode(), b"ada"))["Subject"] == "Grüße"
