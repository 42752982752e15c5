"""One hook: its credential, its mapping, and the headers that a template may see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clarion.hook.credential import Credential
from clarion.hook.mapping import PayloadMapping

_PRIVATE = re.compile("auth|cookie|token|secret|signature|password|api-key")
"""Names of headers that may hold a credential: none of them gets into a message."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One inbound hook, ready to be called."""

    name: str
    credential: Credential
    mapping: PayloadMapping


def visible_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that templates see, under names in lower case."""
    lowered = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in lowered if not _PRIVATE.search(name)}
