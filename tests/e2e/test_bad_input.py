"""Bad input of every kind: a 4xx problem with a pointer, never a 500, never a delivery."""

from __future__ import annotations

import io
import json

import aiohttp
import pytest

GOOD = {"channel": "email", "to": "ada@example.com", "subject": "Hi", "text": "Hello"}


def changed(**fields):
    """Return a good notification as JSON text with some fields changed."""
    return json.dumps({**GOOD, **fields}).encode()


NESTED = json.dumps({**GOOD, "data": {}}).encode().replace(b'"data": {}', b'"data": %s' % (
    b'{"a":' * 60 + b"1" + b"}" * 60))  # fmt: skip
BOMB = b'{"data":' + b"[" * 100_000

BAD_BODIES = {
    "no JSON": (b"hello", None),
    "empty": (b"", None),
    "an array": (b"[]", None),
    "a number": (b"7", None),
    "truncated": (b'{"channel": "email"', None),
    "invalid UTF-8": (b'{"channel": "email", "subject": "\xff\xfe"}', None),
    "a lone surrogate": (changed(subject="\ud800"), "/subject"),
    "NaN": (b'{"channel": "email", "data": {"x": NaN}}', None),
    "infinity": (b'{"channel": "email", "data": {"x": 1e999}}', None),
    "a deep object": (NESTED, None),
    "a depth bomb": (BOMB, None),
    "a duplicate key": (b'{"channel": "email", "channel": "sms"}', None),
    "an unknown field": (changed(subjekt="Hi"), "/subjekt"),
    "an unknown channel": (changed(channel="pigeon"), "/channel"),
    "an unconfigured channel": (changed(channel="push"), "/channel"),
    "no recipient": (b'{"channel": "email", "text": "Hello"}', "/to"),
    "a list of recipients": (changed(to=["a@example.com", "b@example.com"]), "/to"),
    "two recipients": (changed(to="a@example.com, b@example.com"), "/to"),
    "a display name": (changed(to="Ada <ada@example.com>"), "/to"),
    "a display name with an address": (changed(to='"x@bank.com" <a@evil.com>'), "/to"),
    "a newline in the address": (changed(to="a@example.com\nBcc: b@example.com"), "/to"),
    "no domain": (changed(to="ada"), "/to"),
    "a newline in the subject": (changed(subject="Hi\r\nBcc: b@example.com"), "/subject"),
    "a control character": (changed(text="Hello\x00"), "/text"),
    "a number as text": (changed(text=7), "/text"),
    "a boolean as subject": (changed(subject=True), "/subject"),
    "nothing to send": (b'{"channel": "email", "to": "ada@example.com"}', "/text"),
    "a routing header": (changed(headers={"Bcc": "b@example.com"}), "/headers/Bcc"),
    "a newline in a header": (changed(headers={"X-A": "1\r\nBcc: b@x.com"}), "/headers/X-A"),
    "a newline in a header's name": (changed(headers={"X-A\r\nBcc": "1"}), None),
    "a zoneless time": (changed(send_at="2030-01-01T00:00:00"), "/send_at"),
    "no time": (changed(send_at="tomorrow"), "/send_at"),
    "an expiry in the past": (changed(expires_at="2020-01-01T00:00:00Z"), "/expires_at"),
    "a bad priority": (changed(priority="urgent"), "/priority"),
    "a bad policy": (changed(delivery="exactly_once"), "/delivery"),
    "a long tenant": (changed(tenant="x" * 201), "/tenant"),
    "metadata that is a list": (changed(metadata=[1]), "/metadata"),
}


async def post(url, body, path="/v1/notifications", content_type="application/json"):
    """Post raw bytes and return status, headers and parsed answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url + path, data=io.BytesIO(body), headers={"Content-Type": content_type}
        ) as answer,
    ):
        return answer.status, answer.headers, await answer.json(content_type=None)


@pytest.fixture
async def served(house):
    """A server with one e-mail and one text message provider, and nothing delivered."""
    mail, texts = await house.sendgrid(), await house.twilio()
    house.configure(
        {"mail": mail.settings(), "texts": texts.settings()},
        {"email": ["mail"], "sms": ["texts"]},
    )
    clarion = await house.start()
    return clarion, mail


async def test_each_kind_of_bad_body_is_a_problem_that_says_where(served):
    """4xx, problem+json, a pointer where there is a place to point at; nothing is delivered."""
    clarion, mail = served
    wrong = {}
    for name, (body, pointer) in BAD_BODIES.items():
        status, headers, answer = await post(clarion.url, body)
        pointers = [fault["pointer"] for fault in answer.get("errors", [])]
        is_told = pointer is None or pointer in pointers
        is_problem = headers["Content-Type"].startswith("application/problem+json")
        if not (400 <= status < 500 and is_problem and is_told and answer["detail"]):
            wrong[name] = (status, answer)
    assert wrong == {}
    assert mail.deliveries.total() == 0
    assert (await clarion.client.stats())["accepted"] == 0


async def test_a_huge_body_is_refused_without_being_read(served):
    """413, whether it says its length or not."""
    clarion, _mail = served
    status, _headers, answer = await post(clarion.url, b'{"text": "' + b"x" * 3_000_000 + b'"}')
    assert status == 413
    assert "1" in answer["detail"]


async def test_one_bad_item_does_not_spoil_a_batch(served):
    """The good ones are delivered, each bad one has its own problem, in order."""
    clarion, mail = served
    items = [GOOD, {**GOOD, "to": "nobody"}, "text", {**GOOD, "subjekt": "x"}, GOOD]
    status, _headers, answer = await post(
        clarion.url, json.dumps(items).encode(), "/v1/notifications/batch"
    )
    assert status == 202
    assert (answer["accepted"], answer["rejected"]) == (2, 3)
    assert ["id" in each for each in answer["results"]] == [True, False, False, False, True]
    assert answer["results"][1]["problem"]["errors"][0]["pointer"] == "/to"
    await mail.wait_for(2)

    lines = b"\n".join([json.dumps(GOOD).encode(), b"{broken", json.dumps(GOOD).encode()])
    status, _headers, answer = await post(
        clarion.url, lines, "/v1/notifications/batch", "application/x-ndjson"
    )
    assert status == 202
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    await mail.wait_for(4)


async def test_unknown_paths_and_methods_are_problems_too(served):
    """404 and 405 in the same shape, with what is allowed."""
    clarion, _mail = served
    missing = await clarion.client.request("GET", "/v1/nothing")
    assert missing.status == 404
    assert missing.headers["Content-Type"].startswith("application/problem+json")
    wrong = await clarion.client.request("DELETE", "/v1/notifications")
    assert wrong.status == 405
    assert "POST" in wrong.headers["Allow"]
    absent = await clarion.client.request("GET", "/v1/notifications/no-such-id")
    assert absent.status == 404


async def test_an_idempotency_key_is_answered_once(served):
    """The same answer again for the same body; 422 for another; one delivery."""
    clarion, mail = served
    first = await clarion.client.post("key-1", **GOOD)
    again = await clarion.client.request(
        "POST", "/v1/notifications", json=GOOD, headers={"Idempotency-Key": "key-1"}
    )
    assert again.status == 202
    assert again.body == first
    other = await clarion.client.request(
        "POST", "/v1/notifications", json={**GOOD, "text": "x"},
        headers={"Idempotency-Key": "key-1"},
    )  # fmt: skip
    assert other.status == 422
    await clarion.client.wait_drained()
    assert mail.deliveries.total() == 1
