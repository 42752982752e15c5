"""Addresses: exactly one recipient, written so that no provider can read more into it.

Decided here: an e-mail address is a bare addr-spec. Quoted local parts, comments and literals
(`"a b"@x`, `a@[127.0.0.1]`) are refused, because mail libraries parse them again and may find
another recipient. A domain in other scripts is turned into its `xn--` form, unless that would
change it (`ß`, capitals of other scripts, wide forms): then the sender has to write `xn--` itself.
A local part in other scripts is refused, since few providers can deliver to one.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import SplitResult, urlsplit

from clarion.domain.notification import Channel
from clarion.domain.text import line_fault, size_bytes

MAX_LOCAL = 64
MAX_EMAIL = 254
"""RFC 5321 section 4.5.3.1, and the erratum that puts a whole path at 254."""
MAX_URL = 2048
MAX_TOKEN_BYTES = 2048
"""Push tokens and chat addresses; the longest known push endpoint has some 1,000. PostgreSQL puts
2,704 bytes into an index at most, and whoever looks for a recipient needs one."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ORDINARY = re.compile(rf"{_LOCAL.pattern}@(?:{_LABEL}\.)+[A-Za-z]{{2,63}}")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")

_PORT_OF_SCHEME = {"http": 80, "https": 443}

_NO_EMAIL = "is no bare e-mail address such as ada@example.com"


def parse_address(channel: str, to: str) -> str:
    """Return the address of a channel as it is stored and sent.

    Raises ValueError; its text says what is wrong and does not repeat the address.
    """
    match channel:
        case Channel.EMAIL:
            return _email(to)
        case Channel.SMS:
            return _phone(to)
        case Channel.WEBHOOK:
            return _url(to)
        case _:
            return _token(to)


def recipient_host(url: str) -> str:
    """Return host and port of a webhook's URL, "example.com:443"; "" where it names none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT_OF_SCHEME.get(parts.scheme, 0)
    except ValueError:
        return ""
    host = (parts.hostname or "").rstrip(".")
    return f"{host}:{port}" if host else ""


def wire_form(to: str) -> str:
    """Return how an address that is searched for was stored; itself where it is none."""
    if to.isascii() or "@" not in to:
        return to
    try:
        return _email(to)
    except ValueError:
        return to


# --- e-mail ----------------------------------------------------------------------------------


def _email(to: str) -> str:
    if len(to) <= MAX_LOCAL and _ORDINARY.fullmatch(to):
        return to
    return _checked_email(to)


def _checked_email(to: str) -> str:
    if len(to) > MAX_EMAIL:
        raise ValueError(f"is {len(to)} characters long; {MAX_EMAIL} are the most")
    if any(sign in to for sign in ' \t\r\n<>,;"()'):
        raise ValueError(f"{_NO_EMAIL}: one address, without name, quotes, brackets or blanks")
    local, at, domain = to.rpartition("@")
    if not at or not local or not domain or "@" in local:
        raise ValueError(_NO_EMAIL)
    if len(local) > MAX_LOCAL:
        raise ValueError(f"has {len(local)} characters before the @; {MAX_LOCAL} are the most")
    if not local.isascii():
        raise ValueError("has other than ASCII characters before the @; few providers deliver so")
    if not _LOCAL.fullmatch(local):
        raise ValueError(_NO_EMAIL)
    return _within(f"{local}@{_domain(domain)}")


def _within(address: str) -> str:
    if len(address) > MAX_EMAIL:
        raise ValueError(f"is longer than {MAX_EMAIL} characters in its xn-- form")
    return address


def _domain(domain: str) -> str:
    ascii_domain = domain if domain.isascii() else _ascii_domain(domain)
    if not _DOMAIN.fullmatch(ascii_domain):
        raise ValueError("has no valid domain behind the @")
    *rest, top = ascii_domain.split(".")
    if top.isdigit():
        raise ValueError("has an IP address behind the @; a domain is needed")
    if not rest and top.lower() != "localhost":
        raise ValueError("has a domain without a dot behind the @; is the end missing?")
    return ascii_domain


def _ascii_domain(domain: str) -> str:
    composed = unicodedata.normalize("NFC", domain)
    try:
        encoded = composed.encode("idna")
        # The codec maps some letters onto others; that would be another domain.
        is_same = encoded.decode("idna") == composed
    except UnicodeError as error:
        raise ValueError("has no valid domain behind the @") from error
    if not is_same:
        raise ValueError("has a domain that can be read in two ways; write its xn-- form")
    return encoded.decode("ascii")


# --- the other channels ----------------------------------------------------------------------


def _phone(to: str) -> str:
    if not _E164.fullmatch(to):
        raise ValueError("is no phone number in E.164, such as +14155550123")
    return to


def _url(to: str) -> str:
    if len(to) > MAX_URL:
        raise ValueError(f"is {len(to)} characters long; {MAX_URL} are the most")
    if not _VISIBLE.fullmatch(to) or "\\" in to:
        raise ValueError("is no URL: it holds blanks, backslashes or other than ASCII characters")
    try:
        parts = urlsplit(to)
        port = parts.port
    except ValueError as error:
        raise ValueError("is no valid URL") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("must be an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("holds credentials; a URL is shown in logs and lists")
    if port == 0 or not _is_host(parts):
        raise ValueError("is a URL without a valid host")
    return to


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if ":" not in host:
        return "[" not in parts.netloc and _HOST.fullmatch(host) is not None
    try:
        return bool(IPv6Address(host)) and "%" not in host
    except AddressValueError:
        return False


def _token(to: str) -> str:
    fault = line_fault(to, MAX_TOKEN_BYTES)
    if fault is not None:
        raise ValueError(fault)
    if size_bytes(to) > MAX_TOKEN_BYTES:
        raise ValueError(f"is {size_bytes(to)} bytes long; {MAX_TOKEN_BYTES} are the most")
    if to.strip() != to or not to:
        raise ValueError("is empty, or has blanks around it")
    return to
