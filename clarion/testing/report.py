"""Receipts that the look-alikes of Twilio and SendGrid send: signed as the real ones sign.

A `Report` is one request, ready to be sent once, often, late, out of order, or forged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from yarl import URL

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
TWILIO_SIGNATURE = "X-Twilio-Signature"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Report:
    """One signed request to a status callback or an event webhook."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def forged(self) -> Report:
        """Return the same words with a signature that somebody made up."""
        made_up = base64.b64encode(b"made up by somebody").decode()
        names = (SIGNATURE, TWILIO_SIGNATURE)
        return replace(
            self,
            headers={name: made_up if name in names else value
                     for name, value in self.headers.items()},
        )  # fmt: skip

    async def send(self, times: int = 1) -> int:
        """Post it, and return the status of the last answer; raises aiohttp.ClientError."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for _ in range(times):
                async with session.post(
                    # Not quoted anew: Twilio's signature covers the URL as it is.
                    URL(self.url, encoded=True),
                    data=self.body,
                    headers=self.headers,
                    allow_redirects=False,
                ) as answer:
                    await answer.read()
        return answer.status


class Taken:
    """The messages that a look-alike took, by our id, as far as its receipts repeat them."""

    def __init__(self, keep: int = 10_000) -> None:
        self._keep = keep
        self._messages: dict[str, list[dict[str, str]]] = {}

    def note(self, id: str, message: dict[str, str]) -> None:
        """Note a message; beyond `keep` ids the one whose last is oldest is forgotten."""
        self._messages[id] = [*self._messages.pop(id, ()), message]
        if len(self._messages) > self._keep:
            del self._messages[next(iter(self._messages))]

    def find(self, id: str, taken: int) -> dict[str, str]:
        """Return what was noted, by default (-1) the last of it. Raises KeyError."""
        try:
            return self._messages[id][taken]
        except LookupError:
            raise KeyError(f"{id} was not taken, or not so often") from None


class EventSigner:
    """The key pair of one event webhook."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_key(self) -> str:
        """What SendGrid's settings page shows: base64 DER."""
        public = self._key.public_key()
        return base64.b64encode(
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()

    def report(self, url: str, events: Sequence[Mapping[str, Any]], at: float) -> Report:
        """Write and sign a batch as SendGrid does: an event a line, CRLF between and behind."""
        body = b"[" + b",\r\n".join(json.dumps(event).encode() for event in events) + b"]\r\n"
        timestamp = str(int(at))
        signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        headers = {
            "Content-Type": "application/json", TIMESTAMP: timestamp,
            SIGNATURE: base64.b64encode(signature).decode(),
        }  # fmt: skip
        return Report(url, headers, body)


def twilio_report(url: str, form: Mapping[str, str], auth_token: str) -> Report:
    """Sign a form as Twilio does: over the URL, and each name with its value in order."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    digest = hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        TWILIO_SIGNATURE: base64.b64encode(digest).decode(),
    }
    return Report(url, headers, urlencode(form).encode())
