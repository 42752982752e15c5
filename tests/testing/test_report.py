"""The receipts of the look-alikes: signed as the vendors' own libraries verify them."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from twilio.request_validator import RequestValidator

from clarion.testing import SendGridLookalike, TwilioLookalike
from clarion.testing.report import SIGNATURE, TIMESTAMP, TWILIO_SIGNATURE, Taken

MAIL = {
    "personalizations": [
        {"to": [{"email": "ada@example.com"}], "custom_args": {"clarion_id": "n1", "x": "1"}}
    ],
    "from": {"email": "clarion@example.com"},
    "subject": "hello",
    "content": [{"type": "text/plain", "value": "hello"}],
}


@pytest.fixture
async def heard():
    """A server that keeps what it is sent, and its URL."""
    requests = []

    async def keep(request):
        requests.append((request.raw_path, dict(request.headers), await request.read()))
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(keep))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield requests, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def send_mail(server):
    headers = {"Authorization": f"Bearer {server.api_key}", "Accept": "application/json"}
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as session,
        session.post("/v3/mail/send", json=MAIL) as answer,
    ):
        assert answer.status == 202
        return answer.headers["X-Message-Id"]


async def send_sms(server, callback):
    headers = {"Authorization": aiohttp.encode_basic_auth(server.account_sid, server.auth_token)}
    form = {"To": "+15551234567", "From": "+15005550006", "Body": "hi", "StatusCallback": callback}
    path = f"/2010-04-01/Accounts/{server.account_sid}/Messages.json"
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as session,
        session.post(path, data=form) as answer,
    ):
        assert answer.status == 201
        return (await answer.json())["sid"]


async def test_events_of_sendgrid_repeat_the_custom_arguments_and_are_signed(heard):
    """Flattened beside its own members; ECDSA over timestamp and body, CRLF included."""
    requests, url = heard
    async with SendGridLookalike() as server:
        message_id = await send_mail(server)
        server.event_webhook_url = f"{url}/events"

        assert await server.report("n1", "delivered", response="250 OK") == 204

        key = load_der_public_key(base64.b64decode(server.event_public_key))
    [(path, headers, body)] = requests
    signature = base64.b64decode(headers[SIGNATURE])
    key.verify(signature, headers[TIMESTAMP].encode() + body, ec.ECDSA(SHA256()))
    [event] = json.loads(body)
    assert path == "/events"
    assert body.endswith(b"]\r\n")
    assert (event["event"], event["response"], event["email"]) == (
        "delivered", "250 OK", "ada@example.com",
    )  # fmt: skip
    assert (event["clarion_id"], event["x"]) == ("n1", "1")
    assert event["sg_message_id"].startswith(f"{message_id}.")


async def test_callbacks_of_twilio_go_where_the_message_asked_for_and_are_signed(heard):
    """The URL to the letter, and every field of the form."""
    requests, url = heard
    callback = f"{url}/back?clarion_id=n1&x=%7E"
    async with TwilioLookalike() as server:
        sid = await send_sms(server, callback)

        assert await server.report("n1", "failed", error_code=30003) == 204

    [(path, headers, body)] = requests
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    validator = RequestValidator(server.auth_token)
    assert url + path == callback
    assert validator.validate(callback, form, headers[TWILIO_SIGNATURE])
    assert (form["MessageSid"], form["MessageStatus"], form["ErrorCode"]) == (
        sid, "failed", "30003",
    )  # fmt: skip


async def test_a_forged_report_says_the_same_with_another_signature(heard):
    """And one that is sent often is the same each time."""
    requests, url = heard
    async with SendGridLookalike() as server:
        await send_mail(server)
        server.event_webhook_url = url
        report = server.event_report(server.event("n1", "open"))

    await report.send(times=2)
    await report.forged().send()

    first, second, forged = requests
    assert first[1][SIGNATURE] == second[1][SIGNATURE] != forged[1][SIGNATURE]
    assert first[2] == second[2] == forged[2]


async def test_what_was_never_taken_cannot_be_reported():
    """A test that reports the wrong message fails there, not later."""
    async with SendGridLookalike() as mail, TwilioLookalike() as text:
        with pytest.raises(KeyError):
            await mail.report("n1", "delivered")
        await send_sms(text, "http://127.0.0.1:1/?clarion_id=n1")
        with pytest.raises(KeyError):
            text.status_report("n1", "delivered", taken=1)
        await send_mail(mail)
        with pytest.raises(ValueError, match="event_webhook_url"):
            await mail.report("n1", "delivered")


async def test_receipts_can_be_asked_for_from_another_process(heard):
    """By the controls: where to, what, and the key to verify with."""
    requests, url = heard
    async with SendGridLookalike() as server, aiohttp.ClientSession(server.url) as session:
        await send_mail(server)
        order = {"url": url, "id": "n1", "event": "bounce", "type": "blocked"}

        async with session.post("/_control/report", json=order) as answer:
            assert await answer.json() == {"answered": 204}
        async with session.post("/_control/report", json={"id": "n2", "event": "open"}) as answer:
            assert answer.status == 400
        async with session.get("/_control/public_key") as answer:
            assert await answer.json() == {"event_public_key": server.event_public_key}
    assert len(requests) == 1


def test_what_was_taken_is_forgotten_from_its_oldest_end():
    """A look-alike that runs for days keeps a bounded number: those that it took last."""
    taken = Taken(keep=2)
    for number, id_ in enumerate(("a", "b", "a", "c")):
        taken.note(id_, {"number": str(number)})

    assert [taken.find("a", at) for at in (0, 1)] == [{"number": "0"}, {"number": "2"}]
    assert taken.find("c", -1) == {"number": "3"}
    with pytest.raises(KeyError):
        taken.find("b", -1)
