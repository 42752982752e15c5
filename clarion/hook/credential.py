"""Who may call a hook: what a sender has to show, compared in constant time.

A token travels in the Authorization header, as `Bearer TOKEN` or as the password of HTTP Basic. It
is not taken from the query: URLs are written down by every proxy on the way. A signature is made
over the raw body; those of Standard Webhooks and of Stripe hold the time, too, and an old one is
refused, so that a request that was overheard cannot be repeated later.

https://www.standardwebhooks.com · https://docs.stripe.com/webhooks#verify-manually ·
https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from clarion.providers.webhook_signature import secret_keys, signature

TOLERANCE_S = 300.0
"""How far a signature's time may be from ours, both ways; what both schemes recommend."""

MIN_SECRET = 16
"""Characters of a token or secret at least: shorter ones can be guessed."""

Headers = Mapping[str, str]
"""Headers whose names know no case."""


class Credential(Protocol):
    """What a sender has to show."""

    def refusal(self, headers: Headers, body: bytes, now: float) -> str | None:
        """Return why a request is refused, for the log alone, or None; `now` is epoch seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, or the password of HTTP Basic under any name."""

    token: str = field(repr=False)

    def refusal(self, headers: Headers, body: bytes, now: float) -> str | None:
        """Return why not; the body does not matter."""
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        match scheme.lower():
            case "bearer":
                shown = given.strip()
            case "basic":
                shown = _password(given.strip())
            case _:
                return "no Authorization header of Bearer or Basic"
        return None if _is_same(shown, self.token) else "another token"


@dataclass(frozen=True, slots=True)
class StandardSignature:
    """The `webhook-signature` of Standard Webhooks, by one of several secrets."""

    keys: Sequence[bytes] = field(repr=False)

    def refusal(self, headers: Headers, body: bytes, now: float) -> str | None:
        """Return why not."""
        message_id, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not message_id or not time:
            return "no webhook-id or webhook-timestamp"
        late = _lateness(time, now)
        if late is not None:
            return late
        try:
            wanted = signature(self.keys, message_id, int(time), body).split()
        except UnicodeEncodeError:
            return "a webhook-id that is no text"
        return _judged(headers.get("webhook-signature", "").split(), wanted)


@dataclass(frozen=True, slots=True)
class GithubSignature:
    """GitHub's `X-Hub-Signature-256`; it holds no time."""

    secret: str = field(repr=False)

    def refusal(self, headers: Headers, body: bytes, now: float) -> str | None:
        """Return why not."""
        wanted = f"sha256={_hex_digest(self.secret, body)}"
        given = headers.get("X-Hub-Signature-256")
        return _judged([given] if given else [], [wanted])


@dataclass(frozen=True, slots=True)
class StripeSignature:
    """Stripe's `Stripe-Signature`: a time, and while a secret is rolled several signatures."""

    secret: str = field(repr=False)

    def refusal(self, headers: Headers, body: bytes, now: float) -> str | None:
        """Return why not."""
        parts = [
            part.strip().partition("=") for part in headers.get("Stripe-Signature", "").split(",")
        ]
        time = next((value for name, _, value in parts if name == "t"), "")
        late = _lateness(time, now)
        if late is not None:
            return late
        wanted = _hex_digest(self.secret, time.encode() + b"." + body)
        return _judged([value for name, _, value in parts if name == "v1"], [wanted])


def credential_of(token: str, secret: str, scheme: str) -> Credential:
    """Return the credential of a hook's settings, one of `token` and `secret` being empty.

    Raises ValueError, whose text does not repeat a secret.
    """
    if token:
        return Token(_long_enough(token))
    match scheme:
        case "github":
            return GithubSignature(_long_enough(secret))
        case "stripe":
            return StripeSignature(_long_enough(secret))
        case _:
            return StandardSignature(secret_keys(secret))


def _long_enough(secret: str) -> str:
    if len(secret) < MIN_SECRET:
        raise ValueError(f"must have {MIN_SECRET} characters at least, or it can be guessed")
    return secret


def _lateness(time: str, now: float) -> str | None:
    """Say what is wrong with a time in seconds since the epoch, or None."""
    if not (time.isascii() and time.isdigit() and len(time) <= 12):
        return "no time in the signature"
    late_s = now - int(time)
    if abs(late_s) > TOLERANCE_S:
        return f"signed {late_s:.0f} s ago; {TOLERANCE_S:.0f} s are the most"
    return None


def _judged(given: Sequence[str], wanted: Sequence[str]) -> str | None:
    if not given:
        return "no signature"
    # Every pair, whatever the first ones were: how long it takes tells nothing.
    matches = [_is_same(each, right) for each in given for right in wanted]
    return None if any(matches) else "another signature"


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _hex_digest(secret: str, signed: bytes) -> str:
    return hmac.new(_bytes(secret), signed, hashlib.sha256).hexdigest()


def _password(credentials: str) -> str:
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return text.partition(":")[2]
