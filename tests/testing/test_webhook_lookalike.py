"""The receiver of webhooks on loopback: it takes what the specification lets it take."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from clarion.testing import ManualClock, WebhookLookalike

# The example of the specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT_AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(SENT_AT), "webhook-signature": SIGNATURE}

MESSAGE = {"type": "a.b", "timestamp": "2021-02-25T15:02:10Z", "data": {}}


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookLookalike]:
    async with WebhookLookalike(SECRET, clock=ManualClock(now=SENT_AT)) as server:
        yield server


async def post(server: WebhookLookalike, message: Any, **changed: str) -> int:
    """Post a message signed as it should be, but for the headers named (with _ for -)."""
    body = json.dumps(message).encode()
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{ID}.{SENT_AT}.".encode() + body
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    headers = {**HEADERS, "webhook-signature": f"v1,{digest}", "Content-Type": "application/json"}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.hook, data=body, headers=headers) as answer,
    ):
        return answer.status


def test_the_example_of_the_specification_verifies(receiver: WebhookLookalike) -> None:
    """Also where an older signature stands before it."""
    assert receiver.verifies(HEADERS, BODY)
    assert receiver.verifies({**HEADERS, "webhook-signature": f"v1,bm9wZQ== {SIGNATURE}"}, BODY)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (HEADERS, BODY + b" "),
        ({**HEADERS, "webhook-id": "other"}, BODY),
        ({**HEADERS, "webhook-timestamp": str(SENT_AT + 1)}, BODY),
        ({**HEADERS, "webhook-signature": SIGNATURE.replace("v1", "v2")}, BODY),
        ({**HEADERS, "webhook-signature": ""}, BODY),
        ({}, BODY),
    ],
)
def test_whatever_was_changed_does_not_verify(
    receiver: WebhookLookalike, headers: dict[str, str], body: bytes
) -> None:
    """The id, the time, the body and the scheme are all signed, or part of the signature."""
    assert not receiver.verifies(headers, body)


async def test_a_signed_message_is_delivered_and_counted_by_its_id(
    receiver: WebhookLookalike,
) -> None:
    """Each time that it comes, so that duplicates can be counted."""
    statuses = [await post(receiver, MESSAGE) for _ in range(2)]

    assert statuses == [200, 200]
    assert receiver.duplicates() == {ID: 2}
    assert receiver.requests[0].payload == MESSAGE


@pytest.mark.parametrize(
    ("message", "changed", "status"),
    [
        (MESSAGE, {"webhook_signature": "v1,bm9wZQ=="}, 401),
        (MESSAGE, {"webhook_timestamp": str(SENT_AT - 301)}, 401),
        (MESSAGE, {"Content_Type": "text/plain"}, 415),
        ({"type": "a", "timestamp": "now"}, {}, 400),
        ([], {}, 400),
    ],
)
async def test_what_a_receiver_refuses_is_not_counted(
    receiver: WebhookLookalike, message: Any, changed: dict[str, str], status: int
) -> None:
    """Wrongly signed, too old, or of another shape."""
    assert await post(receiver, message, **changed) == status
    assert receiver.deliveries.total() == 0
