"""Standard Webhooks signatures: https://www.standardwebhooks.com, scheme v1 (HMAC-SHA256).

What is signed is `id.timestamp.body`, each as it travels. A secret is `whsec_` and the base64 form
of 24 to 64 random bytes. While a secret is being replaced there are two, and a message carries a
signature by each, so that every receiver finds the one that it knows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
MIN_BYTES = 24
MAX_BYTES = 64
"""Sizes of a secret that Standard Webhooks allows."""


def secret_keys(text: str) -> tuple[bytes, ...]:
    """Read secrets that are parted by blanks; none of them gives none.

    Raises ValueError, whose text does not repeat a secret.
    """
    return tuple(_key(word) for word in text.split())


def signature(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` of a message: one for each key, parted by blanks."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    return " ".join(f"v1,{_digest(key, signed)}" for key in keys)


def _digest(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _key(word: str) -> bytes:
    if not word.startswith(PREFIX):
        raise ValueError(f"must be {PREFIX} and the base64 form of {MIN_BYTES} random bytes")
    try:
        key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        # The cause would show the secret.
        raise ValueError(f"what follows {PREFIX} is not base64; copy it as it is") from None
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ValueError(
            f"holds {len(key)} bytes; Standard Webhooks wants {MIN_BYTES} to {MAX_BYTES}"
        )
    return key
