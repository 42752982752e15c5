"""Hide whom a message is for: what is masked may go into logs, details and health checks.

Enough stays readable to tell two recipients apart while looking at one incident: the first letter
and the domain of an e-mail address, the ends of a phone number, the host of a URL.
"""

from __future__ import annotations

import re

HIDDEN = "***"
_WHOLE_NUMBER_DIGITS = 11
"""From here on eight digits can be shown with at least three hidden between them."""

_EMAIL = re.compile(
    r"(?P<first>[^\s@<>\"',;:()\[\]=&/?#])[^\s@<>\"',;:()\[\]=&/?#]*@(?P<domain>[\w.-]+)"
)
_QUOTED_EMAIL = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"@(?P<domain>[\w.-]+)")
_PHONE = re.compile(
    r"(?P<plus>\+|%2[Bb])(?P<digits>\d(?:[ .()/-]{0,2}\d){6,17})"
    r"|(?<![\w.-])(?P<bare>\d{7,15})(?![\w]|[.-]\d)"
)
"""Separators inside a number count only after a plus: dates and IP addresses have them too."""
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>[^\s\"'<>]+)")
_SECRET = re.compile(
    r"(?P<word>(?:Bearer|Basic)\s+)[\w.~+/=-]+|(?P<prefix>\bSG\.|\bwhsec_|\bAC|\bSK)(?:[0-9a-f]{32}\b"
    r"|(?<=\.)[\w-]+(?:\.[\w-]+)?|(?<=_)[\w+/=-]+)"
)


def mask_address(text: str) -> str:
    """Mask one address of any channel: `a***@example.com`, `+1555***1234`, `https://host/***`."""
    if "://" in text:
        return _URL.sub(_mask_url, text)
    local, at, domain = text.rpartition("@")
    if at:
        first = local.lstrip('"')[:1]
        return f"{first}{HIDDEN}@{domain}"
    digits = re.sub(r"\D", "", text)
    if len(digits) < 7:
        return HIDDEN
    return ("+" if text.lstrip().startswith("+") else "") + _mask_digits(digits)


def mask_text(text: str, *secrets: str) -> str:
    """Mask every address, phone number, URL path and known kind of key in a sentence.

    `secrets` are further strings (a configured token, the recipient as written) to be hidden
    wherever they occur.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    text = _SECRET.sub(_mask_secret, text)
    text = _URL.sub(_mask_url, text)
    text = _EMAIL.sub(rf"\g<first>{HIDDEN}@\g<domain>", text)
    text = _QUOTED_EMAIL.sub(rf"{HIDDEN}@\g<domain>", text)
    return _PHONE.sub(_mask_phone, text)


def _mask_digits(digits: str) -> str:
    shown = 4 if len(digits) >= _WHOLE_NUMBER_DIGITS else 2
    return f"{digits[:shown]}{HIDDEN}{digits[-shown:]}"


def _mask_phone(match: re.Match[str]) -> str:
    digits = match["digits"] or match["bare"]
    return (match["plus"] or "") + _mask_digits(re.sub(r"\D", "", digits))


def _mask_url(match: re.Match[str]) -> str:
    authority, slash, rest = re.split(r"([/?#]|$)", match["rest"], maxsplit=1)
    user, at, host = authority.rpartition("@")
    shown = f"{HIDDEN}@{host}" if user or at else host
    # Paths and queries of hooks are credentials (Slack), so only their presence is told.
    return f"{match['scheme']}{shown}{slash}{HIDDEN if rest else ''}"


def _mask_secret(match: re.Match[str]) -> str:
    return f"{match['word'] or match['prefix']}{HIDDEN}"
