"""Writes e-mails: one recipient, seven-bit, and nothing of the content can become a header.

Everything that is not ASCII is encoded, so that no server needs 8BITMIME and none on the way has to
encode it anew, which would break a DKIM signature. Message-ID and boundary come from the
notification's id and stay the same over retries, so that a mailbox can tell a second copy.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8, EmailPolicy
from email.utils import format_datetime
from typing import Any

from clarion.domain.header import is_reserved
from clarion.providers.base import Outgoing

MAX_LINE_CHARS = 998
"""RFC 5322 section 2.1.1, without the line break."""

_WORD_BYTES = 45
"""Of UTF-8 in one encoded word: with base64 and its frame it has 72 characters (75 are allowed)."""
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")
_FOLD_CHARS = 76
_NAME = re.compile(r"[!-9;-~]+")
_BARE_BREAK = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_BREAK = re.compile(r"\r\n|\r|\n")


class NotAnEmail(ValueError):
    """The content cannot be put into an e-mail."""


class _Policy(EmailPolicy):
    """Folds headers of free text by itself.

    The standard library decodes what looks like an encoded word when a header is set, and loses
    blanks where it folds; a subject has to arrive as it was written.
    """

    def fold(self, name: str, value: Any) -> str:
        """Return the header as lines that end in CRLF."""
        if isinstance(value, _FreeText):
            return f"{name}: {_folded(name, value)}{self.linesep}"
        return super().fold(name, value)  # type: ignore[no-any-return]

    def fold_binary(self, name: str, value: Any) -> bytes:
        """Return the header as lines that end in CRLF."""
        if isinstance(value, _FreeText):
            return self.fold(name, value).encode("ascii")
        return super().fold_binary(name, value)

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        """Keep free text as it is; everything else is parsed and checked."""
        if isinstance(value, _FreeText):
            return name, value
        return super().header_store_parse(name, value)

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        """Return free text as it is."""
        return value if isinstance(value, _FreeText) else super().header_fetch_parse(name, value)


class _FreeText(str):
    """The value of a header that has no structure, such as Subject."""

    __slots__ = ()


_SEVEN_BIT = _Policy(linesep=SMTP.linesep, cte_type="7bit")
_UTF8_HEADERS = _Policy(linesep=SMTPUTF8.linesep, cte_type="7bit", utf8=True)


def compose(
    outgoing: Outgoing, *, from_address: str, from_name: str = "", now: float
) -> EmailMessage:
    """Write one e-mail, dated `now` (epoch seconds). Raises: NotAnEmail.

    An address in other scripts than ASCII is left as it is, which needs SMTPUTF8 of every server.
    """
    try:
        return _compose(outgoing, from_address, from_name, now)
    except (ValueError, MessageError, LookupError, AttributeError) as error:
        # The standard library's header parser raises any of these for odd input.
        raise NotAnEmail(str(error)) from error


def as_bytes(mail: EmailMessage) -> bytes:
    """Return the e-mail as it goes over the wire, every line ended by CRLF. Raises: NotAnEmail.

    A bare CR or LF would be read as the end of a line by some servers and not by others, which is
    how mails are smuggled; none can come out of here.
    """
    try:
        content = mail.as_bytes()
    except (ValueError, MessageError, LookupError, AttributeError) as error:
        raise NotAnEmail(str(error)) from error
    if _BARE_BREAK.search(content):
        raise NotAnEmail("a line does not end in CR LF")
    return content


def _compose(outgoing: Outgoing, from_address: str, from_name: str, now: float) -> EmailMessage:
    content = outgoing.content
    policy = _SEVEN_BIT if content.to.isascii() else _UTF8_HEADERS
    mail = EmailMessage(policy=policy)
    mail["From"] = Address(from_name, addr_spec=from_address) if from_name else from_address
    mail["To"] = content.to
    if len(mail["To"].addresses) != 1 or mail["To"].addresses[0].addr_spec != content.to:
        raise NotAnEmail("not one recipient")
    if content.subject:
        mail["Subject"] = _free_text(content.subject)
    mail["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    mail["Message-ID"] = f"<{outgoing.notification_id}@{from_address.rpartition('@')[2]}>"
    for name, value in (content.headers or {}).items():
        if is_reserved(name) or not _NAME.fullmatch(name):
            raise NotAnEmail("a header may not be set, or its name is none")
        mail[name] = _free_text(value)
    _set_body(mail, content.text, content.html)
    if mail.is_multipart():
        mail.set_boundary(_boundary(outgoing))
    return mail


def _free_text(value: str) -> _FreeText:
    if any(char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029" for char in value):
        raise NotAnEmail("a header contains a control character")
    return _FreeText(value)


def _set_body(mail: EmailMessage, text: str | None, html: str | None) -> None:
    if text or not html:
        mail.set_content(_unified(text or ""))
    if html and text:
        mail.add_alternative(_unified(html), subtype="html")
    elif html:
        mail.set_content(_unified(html), subtype="html")


def _unified(text: str) -> str:
    return _BREAK.sub("\n", text)


def _boundary(outgoing: Outgoing) -> str:
    body = f"{outgoing.content.text}{outgoing.content.html}"
    boundary = f"=_clarion_{re.sub(r'[^A-Za-z0-9]', '_', outgoing.notification_id)[:40]}"
    while boundary in body:
        boundary += "_"
    return boundary


# --- headers of free text (RFC 2047, RFC 5322 section 2.2.3) -----------------------------------


def _folded(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value) and "=?" not in value:
        lines = list(_lines(value.split(" "), len(name) + 2))
        if max(len(line) for line in lines) + len(name) + 2 <= MAX_LINE_CHARS:
            return "\r\n ".join(lines)
    return "\r\n ".join(_encoded_words(value))


def _lines(words: list[str], used_chars: int) -> Iterator[str]:
    line: list[str] = []
    for word in words:
        if line and used_chars + len(word) > _FOLD_CHARS:
            yield " ".join(line)
            line, used_chars = [], 1
        line.append(word)
        used_chars += len(word) + 1
    yield " ".join(line)


def _encoded_words(value: str) -> Iterator[str]:
    chunk = b""
    for char in value:
        encoded = char.encode()
        if len(chunk) + len(encoded) > _WORD_BYTES:
            yield _encoded_word(chunk)
            chunk = b""
        chunk += encoded
    yield _encoded_word(chunk)


def _encoded_word(chunk: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(chunk).decode('ascii')}?="
