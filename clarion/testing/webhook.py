"""A look-alike of a webhook's receiver, as the Standard Webhooks specification asks for it.

It takes signed JSON on every path, and refuses what such a receiver has to refuse: a wrong
signature, a time that is long over, a body of another shape. One delivery is counted by
`webhook-id`, each time: a real receiver would drop the second one of the same id. It verifies by
the specification, with nothing of what signs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from clarion.testing.fault import Fault
from clarion.testing.ledger import SeenRequest
from clarion.testing.lookalike import Lookalike
from clarion.testing.reply import Reply

SECRET = "whsec_" + base64.b64encode(b"a secret of the look-alike").decode()
TOLERANCE_S = 300.0
"""How far the time of a message may be from the receiver's, as in the reference libraries."""


class WebhookLookalike(Lookalike):
    """One receiver's host on loopback; `secret` "" takes unsigned messages."""

    provider: ClassVar[str] = "webhook"

    def __init__(self, secret: str = SECRET, **options: Any) -> None:
        """Verify with `secret`; `options` are those of `Lookalike`."""
        super().__init__(**options)
        self.secret = secret

    @property
    def hook(self) -> str:
        """An address to send to."""
        return f"{self.url}/hook"

    def is_send(self, method: str, path: str) -> bool:
        """Tell whether this is a message: every POST is."""
        return method == "POST"

    def parse(self, body: bytes) -> Any:
        """Read JSON; None when it is none."""
        try:
            return json.loads(body)
        except ValueError:
            return None

    def settings(self, **extra: Any) -> dict[str, Any]:
        """Return a `[providers.NAME]` table of kind "webhook" that may call loopback."""
        return {"kind": "webhook", "secret": self.secret, "allow_private": True, **extra}

    def own_error(self, fault: Fault) -> Reply:
        """Make some application's error answer; there is no shape that all hosts share."""
        return _refuse(fault.status, fault.message or "no")

    def answer(self, seen: SeenRequest, body: bytes) -> Reply:
        """Verify, and take the message."""
        if seen.method != "POST":
            return _refuse(405, "only POST")
        if self.secret and not self.verifies(seen.headers, body):
            return _refuse(401, "wrong signature")
        if seen.headers.get("Content-Type") != "application/json":
            return _refuse(415, "only application/json")
        message = seen.payload = self.parse(body)
        if not _is_message(message):
            return _refuse(400, "not of the shape of Standard Webhooks")
        return Reply(200, b'{"ok": true}', delivers=(seen.headers["webhook-id"],))

    def verifies(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether one of the signatures is right and its time is near."""
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        id_, timestamp, signatures = (headers.get(name, "") for name in names)
        if not id_ or not timestamp.isdigit() or abs(self.now() - int(timestamp)) > TOLERANCE_S:
            return False
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        right = base64.b64encode(
            hmac.new(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        ).decode()
        return any(hmac.compare_digest(each, f"v1,{right}") for each in signatures.split(" "))


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("type"), str)
        and isinstance(message.get("timestamp"), str)
        and isinstance(message.get("data"), dict)
    )


def _refuse(status: int, why: str) -> Reply:
    return Reply(status, json.dumps({"error": why}).encode())
