"""SendGrid's event webhook: what is genuine, and what a genuine batch tells."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from clarion.domain.notification import Reason, Status
from clarion.providers.callback import MAX_DETAIL_CHARS, Callback, CallbackRefused
from clarion.providers.registry import receipt_reader
from clarion.providers.sendgrid import SendGridConfig
from clarion.providers.sendgrid_receipt import (
    MAX_AGE_S,
    MAX_AHEAD_S,
    MAX_SAID_CHARS,
    SIGNATURE,
    TIMESTAMP,
    verification_key,
)

NOW = 1_800_000_000.0
ID = "01JC0000000000000000000001"
PRIVATE = ec.generate_private_key(ec.SECP256R1())


def der(private=PRIVATE):
    public = private.public_key()
    return base64.b64encode(
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()


def reader(key=None):
    config = SendGridConfig(
        api_key="SG.x", from_address="a@example.com",
        event_public_key=der() if key is None else key,
    )  # fmt: skip
    return receipt_reader("sendgrid", "mail-one", config, public_url="")


def event(word="delivered", **fields):
    usual = {
        "email": "ada@example.com", "timestamp": int(NOW) - 5, "event": word,
        "sg_event_id": f"id-{word}", "sg_message_id": "abc.filter0001.16648", "clarion_id": ID,
        "clarion_call": "2",
    }  # fmt: skip
    return {name: value for name, value in (usual | fields).items() if value is not ...}


def written(*events):
    """Write a batch as SendGrid does: an event a line, each line ended by CRLF."""
    return b"[" + b",\r\n".join(json.dumps(each).encode() for each in events) + b"]\r\n"


def callback(*events, body=None, at=NOW, key=PRIVATE, **changes):
    """Sign a batch as SendGrid does; `changes` are made after that."""
    body = written(*events) if body is None else body
    timestamp = at if isinstance(at, str) else str(int(at))
    signature = key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    headers = {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: timestamp}
    values = {"path_qs": "/callbacks/mail-one", "headers": headers, "body": body, "now": NOW}
    return Callback(**(values | changes))


def read(*events):
    return reader().read(callback(*events)).receipts


def test_the_published_vector_is_genuine():
    """From the tests of SendGrid's own libraries; its batch holds nothing of ours."""
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1"
        "flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
    )
    body = (
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
        b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
        b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18'
        b'-5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",'
        b'"timestamp":1600112492}]\r\n'
    )
    signature = (
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15Tl"
        "uLtEZtM="
    )
    headers = {SIGNATURE: signature, TIMESTAMP: "1600112502"}

    reading = reader(key).read(Callback("/callbacks/x", headers, body, 1_600_112_503.0))

    assert reading.unread == 1


def test_a_genuine_batch_is_receipts():
    """Our id and call from the custom arguments, flattened beside SendGrid's own fields."""
    [receipt] = read(event())

    assert (receipt.notification_id, receipt.call) == (ID, 2)
    assert (receipt.provider, receipt.event, receipt.key) == (
        "mail-one",
        "delivered",
        "id-delivered",
    )
    assert receipt.status is Status.DELIVERED
    assert receipt.provider_message_id == "abc"
    assert receipt.at == NOW - 5


def headers_without(name):
    return {key: value for key, value in callback(event()).headers.items() if key != name}


@pytest.mark.parametrize(
    "refused",
    [
        callback(event(), headers=headers_without(SIGNATURE)),
        callback(event(), headers=headers_without(TIMESTAMP)),
        callback(event(), headers=headers_without("") | {SIGNATURE: "no base64!"}),
        callback(event(), headers=headers_without("") | {SIGNATURE: "\udcff"}),
        callback(event(), headers=headers_without("") | {TIMESTAMP: str(int(NOW) - 1)}),
        callback(event(), body=written(event()), key=ec.generate_private_key(ec.SECP256R1())),
        callback(event("bounce"), headers=callback(event()).headers),
        # The same JSON, written anew: every proxy that does so breaks the signature.
        Callback("/", callback(event()).headers, json.dumps([event()]).encode(), NOW),
        callback(event(), at=NOW - MAX_AGE_S - 1),
        callback(event(), at=NOW + MAX_AHEAD_S + 1),
        callback(event(), at="٣"),
        callback(event(), at="9" * 400),
    ],
    ids=[
        "no signature", "no timestamp", "no base64", "no text", "another time", "another key",
        "another body", "written anew", "too old", "of the future", "no digits", "no time",
    ],
)  # fmt: skip
def test_what_is_not_genuine_is_refused(refused):
    """To the last byte of the body."""
    with pytest.raises(CallbackRefused):
        reader().read(refused)


def test_a_repeat_of_the_same_day_is_genuine():
    """SendGrid repeats for a day; the ids of the events tell that they came before."""
    [receipt] = reader().read(callback(event(), at=NOW - 86_000)).receipts

    assert receipt.key == "id-delivered"


def test_nothing_is_genuine_while_there_is_no_key():
    """An empty key is no key that fits everything."""
    with pytest.raises(CallbackRefused, match="event_public_key"):
        reader("").read(callback(event()))


@pytest.mark.parametrize("key", ["x", der(ec.generate_private_key(ec.SECP384R1())), "AAAA"])
def test_what_is_no_key_of_the_settings_page_is_told_at_start(key):
    """The curve counts: a signature of another one would never fit."""
    with pytest.raises(ValueError, match="verification key"):
        verification_key(key)


@pytest.mark.parametrize(
    ("fields", "status", "reason", "code"),
    [
        ({"word": "processed"}, Status.SENT, None, ""),
        ({"word": "deferred", "response": "451 later"}, Status.SENT, None, ""),
        ({"word": "delivered", "response": "250 OK"}, Status.DELIVERED, None, ""),
        ({"word": "bounce", "type": "bounce"}, Status.UNDELIVERED, Reason.RECIPIENT, "bounce"),
        ({"word": "bounce", "type": "blocked"}, Status.UNDELIVERED, Reason.RECIPIENT, "blocked"),
        ({"word": "dropped", "reason": "Bounced Address"}, Status.UNDELIVERED, Reason.RECIPIENT,
         "dropped"),
        ({"word": "dropped", "reason": "Spam Content"}, Status.UNDELIVERED, Reason.PERMANENT,
         "dropped"),
        ({"word": "dropped", "reason": "Something new"}, Status.UNDELIVERED, Reason.PROVIDER,
         "dropped"),
        ({"word": "open"}, None, None, ""),
        ({"word": "click", "url": "https://example.com/secret"}, None, None, ""),
        ({"word": "spamreport"}, None, None, ""),
        ({"word": "unsubscribe"}, None, None, ""),
        ({"word": "group_unsubscribe"}, None, None, ""),
        ({"word": "group_resubscribe"}, None, None, ""),
    ],
)  # fmt: skip
def test_every_event_means_a_status_or_is_a_fact(fields, status, reason, code):
    """Taken, delivered, undelivered with its reason; engagement is kept beside the status."""
    [receipt] = read(event(**fields))

    assert (receipt.status, receipt.reason) == (status, reason)
    assert receipt.code == (f"sendgrid_{code}" if code else "")


def test_the_words_of_a_bounce_are_masked_and_bounded():
    """They quote the address, and whatever a foreign mail server likes to say."""
    said = "550 5.1.1 <ada@example.com>: no such user\r\nsee https://x.example/?u=ada " + "x" * 9999

    [receipt] = read(event("bounce", reason=said))

    assert receipt.detail.startswith("550 5.1.1 <a***@example.com>: no such user see https://x.ex")
    assert "ada" not in receipt.detail
    assert len(receipt.detail) <= MAX_DETAIL_CHARS


@pytest.mark.parametrize("limit", [MAX_DETAIL_CHARS, MAX_SAID_CHARS])
@pytest.mark.parametrize("n", [5, 14, 20])
def test_an_address_at_a_cut_is_masked_or_left_out(limit, n):
    """Its first `n` characters look like no address, and a mask would leave them as they are."""
    long = "b" * 300 + "@example.com "
    before = (long * limit)[: limit - n - 1] + " "

    [receipt] = read(event("bounce", reason=f"{before}ada.lovelace@example.com{' y' * limit}"))

    assert receipt.detail.startswith("b***@example.com b")
    assert "ada." not in receipt.detail


@pytest.mark.parametrize(
    "strange",
    [
        event("invented"), event(7), event(clarion_id=...), event(clarion_id="\ud800"),
        event(clarion_id="x" * 65), event(event=...), None, 7, [], "text",
    ],
)  # fmt: skip
def test_an_event_that_means_nothing_to_us_spoils_no_other(strange):
    """Of a new type, or of a message that another system sent through the account."""
    reading = reader().read(callback(strange, event()))

    assert ([receipt.event for receipt in reading.receipts], reading.unread) == (["delivered"], 1)


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"7", b"\xff", b"[" * 100_000])
def test_a_genuine_body_that_is_no_array_is_counted(body):
    """To refuse it would have it repeated for a day."""
    reading = reader().read(callback(body=body))

    assert (reading.receipts, reading.unread) == ((), 1)


@pytest.mark.parametrize(
    ("fields", "at", "call", "key"),
    [
        ({"timestamp": "soon"}, NOW, 2, "id-open"),
        ({"timestamp": 1e300}, NOW, 2, "id-open"),
        ({"timestamp": True, "clarion_call": "0"}, NOW, None, "id-open"),
        ({"clarion_call": "9" * 30}, NOW - 5, None, "id-open"),
        ({"clarion_call": 2}, NOW - 5, None, "id-open"),
        ({"sg_event_id": ...}, NOW - 5, 2, "open:1799999995:abc.filter0001.16648"),
        ({"sg_event_id": "\ud800\x00"}, NOW - 5, 2, "?"),
    ],
)
def test_fields_that_are_not_as_they_should_be_do_no_harm(fields, at, call, key):
    """Each is left out or replaced; all that is left can be stored."""
    [receipt] = read(event("open", **fields))

    assert (receipt.at, receipt.call, receipt.key) == (at, call, key)
