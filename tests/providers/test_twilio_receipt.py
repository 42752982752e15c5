"""Twilio's status callbacks: what is genuine, and what a genuine one tells."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator

from clarion.domain.notification import Reason, Status
from clarion.providers.callback import Callback, CallbackRefused
from clarion.providers.registry import receipt_reader
from clarion.providers.twilio import TwilioConfig
from clarion.providers.twilio_code import RULINGS
from clarion.providers.twilio_receipt import STATUS_OF_EVENT

NOW = 1_800_000_000.0
TOKEN = "12345"
PUBLIC_URL = "https://notify.example.com/base"
PATH = "/callbacks/sms-one?clarion_id=01JC0000000000000000000001&clarion_call=2"
FORM = {
    "MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered", "AccountSid": "AC1",
    "From": "+15005550006", "To": "+15005550009", "RawDlrDoneDate": " 2611241044 ", "Later": "",
}  # fmt: skip


def reader(token=TOKEN, public_url=PUBLIC_URL):
    config = TwilioConfig(account_sid="AC1", auth_token=token, from_number="+15005550006")
    return receipt_reader("twilio", "sms-one", config, public_url=public_url)


def callback(form=None, path=PATH, url=PUBLIC_URL, signature=None, **changes):
    """Sign a form as Twilio does; `changes` are made after that."""
    form = FORM | (form or {})
    if signature is None:
        signature = RequestValidator(TOKEN).compute_signature(url + path, form)
    headers = {"X-Twilio-Signature": signature} if signature else {}
    values = {"path_qs": path, "headers": headers, "body": urlencode(form).encode(), "now": NOW}
    return Callback(**(values | changes))


def test_the_signature_is_that_of_the_published_example():
    """The example of Twilio's own documentation of request validation."""
    validator = RequestValidator("12345")
    form = {
        "CallSid": "CA1234567890ABCDE", "Caller": "+14158675309", "Digits": "1234",
        "From": "+14158675309", "To": "+18005551212",
    }  # fmt: skip
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"

    assert validator.compute_signature(url, form) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def test_a_genuine_callback_is_a_receipt():
    """Our id and call from the query, the rest from the form."""
    [receipt] = reader().read(callback()).receipts

    assert (receipt.notification_id, receipt.call) == ("01JC0000000000000000000001", 2)
    assert (receipt.provider, receipt.event) == ("sms-one", "delivered")
    assert receipt.status is Status.DELIVERED
    assert receipt.provider_message_id == FORM["MessageSid"]
    assert receipt.key == f"{FORM['MessageSid']}:delivered"
    assert (receipt.reason, receipt.code, receipt.at) == (None, "", NOW)


@pytest.mark.parametrize(
    "refused",
    [
        callback(signature=""),
        callback(signature="AAAA"),
        callback(signature="\udcff" * 28),
        callback(body=urlencode(FORM | {"MessageStatus": "failed"}).encode()),
        callback(body=urlencode(FORM | {"Added": "x"}).encode()),
        callback(body=urlencode(FORM | {"RawDlrDoneDate": "2611241044"}).encode()),
        callback(body=b"\xff"),
        callback(body=b"&".join(b"a=b" for _ in range(500))),
        callback(path_qs=PATH.replace("0001&", "0002&")),
        callback(path_qs=PATH.replace("sms-one", "sms-two")),
        callback(url="https://elsewhere.example.com/base"),
        callback(url=PUBLIC_URL.replace("https", "http")),
    ],
    ids=[
        "missing", "wrong", "no text", "another status", "a field more", "a trimmed value",
        "no UTF-8", "too many fields", "another id", "another provider", "another host", "plain",
    ],
)  # fmt: skip
def test_what_is_not_genuine_is_refused(refused):
    """To the last byte of the URL and of every field."""
    with pytest.raises(CallbackRefused):
        reader().read(refused)


def test_nothing_is_genuine_without_a_public_url():
    """The URL is half of what is signed; guessing it from headers would let anyone choose it."""
    with pytest.raises(CallbackRefused, match="public_url"):
        reader(public_url="").read(callback(url=""))


def test_another_token_refuses():
    """A rotated primary token is told in the log."""
    with pytest.raises(CallbackRefused, match="auth_token"):
        reader(token="54321").read(callback())


@pytest.mark.parametrize(("event", "status"), STATUS_OF_EVENT.items())
def test_every_status_of_twilio_means_one_of_ours(event, status):
    """Queued and sent: Twilio has it; a phone that read it has it, too."""
    [receipt] = reader().read(callback({"MessageStatus": event})).receipts

    assert receipt.status is status
    assert receipt.detail


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        ("30003", Reason.RECIPIENT, "twilio_30003"),
        ("30005", Reason.RECIPIENT, "twilio_30005"),
        ("21610", Reason.RECIPIENT, "twilio_21610"),
        ("30007", Reason.PERMANENT, "twilio_30007"),
        ("30008", Reason.PROVIDER, "twilio_30008"),
        ("30034", Reason.PROVIDER, "twilio_30034"),
        ("39999", Reason.PROVIDER, "twilio_39999"),
        ("", Reason.PROVIDER, ""),
        ("9" * 5000, Reason.PROVIDER, ""),
        ("x", Reason.PROVIDER, ""),
    ],
)
def test_an_error_code_says_why_it_is_undelivered(code, reason, told):
    """By the same table as answers; what the table does not know is the provider's trouble."""
    form = {"MessageStatus": "undelivered", "ErrorCode": code}

    [receipt] = reader().read(callback(form)).receipts

    assert (receipt.status, receipt.reason, receipt.code) == (Status.UNDELIVERED, reason, told)
    assert receipt.detail
    if code.isdecimal() and len(code) < 6 and int(code) in RULINGS:
        assert receipt.detail == RULINGS[int(code)].words


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ({"MessageStatus": "receiving"}, PATH),
        ({"MessageStatus": "new-status-of-2031"}, PATH),
        ({"MessageStatus": ""}, PATH),
        ({}, "/callbacks/sms-one"),
        ({}, "/callbacks/sms-one?clarion_id=%FF%00"),
    ],
)
def test_what_means_nothing_to_us_is_counted_not_refused(form, path):
    """A 403 or 500 would make Twilio alert its user for nothing."""
    reading = reader().read(callback(form, path))

    assert (reading.receipts, reading.unread) == ((), 1)
