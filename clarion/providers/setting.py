"""Checks that the settings of several adapters share; each message says what to do."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".test")


class AdapterConfig(BaseModel):
    """Base of what `[providers.NAME]` holds for one kind, beside the keys that all kinds share."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    default_max_concurrent: ClassVar[int | None] = None
    """What `bulkhead.max_concurrent` is for this kind where it is not set; None: as for all."""


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as https://api.example.com")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must hold no credentials, query or fragment, only scheme, host and path")
    if parts.scheme == "http" and not _is_private(parts.hostname):
        raise ValueError("use https: plain http would show the credentials to the network")
    return url.rstrip("/")


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_SUFFIXES)


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("set the sender as one bare address, such as news@example.com")
    return text


def _one_line(text: str) -> str:
    if any(char < " " or char in "\x7f\x85\u2028\u2029" for char in text):
        raise ValueError("must be one line without control characters")
    return text


def require(secret: SecretStr, advice: str) -> SecretStr:
    """Return a secret that is set and can travel in a header; ValueError with `advice` if not."""
    text = secret.get_secret_value()
    if not text:
        raise ValueError(advice)
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError(
            "must be printable ASCII without blanks around it; check how it was copied"
        )
    return secret


BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""Where a provider's API is; https, or http within a private network. No slash at its end."""

Address = Annotated[str, AfterValidator(_address)]
"""A bare e-mail address."""

OneLine = Annotated[str, AfterValidator(_one_line)]
"""Text that may stand in a header."""
