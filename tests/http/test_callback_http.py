"""Receipts over HTTP: who is let in, and what a provider is told to do next."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from clarion.errors import StorageUnavailable
from clarion.testing import SendGridLookalike, TwilioLookalike
from clarion.testing.report import twilio_report

KEY = "correct-horse-battery-staple"
PUBLIC_URL = "https://notify.example.com"
NOBODY = "01JC0000000000000000000001"
FORM = {"MessageSid": "SM1", "MessageStatus": "delivered"}


@pytest.fixture
async def mail():
    """Where the test's e-mails go, and who tells of them."""
    async with SendGridLookalike() as lookalike:
        lookalike.event_webhook_url = "http://unused"
        yield lookalike


@pytest.fixture
async def served(serve, mail):
    return await serve(
        server={"public_url": PUBLIC_URL, "api_key": KEY},
        providers={
            "mail": mail.settings(),
            "keyless": mail.settings(event_public_key=""),
            "text": TwilioLookalike().settings(),
            "out": {"kind": "outbox"},
        },
        channels={"email": {"providers": ["mail"]}, "sms": {"providers": ["text"]}},
    )


async def post(served, report, name="mail"):
    return await served.ask("POST", f"/callbacks/{name}", data=report.body, headers=report.headers)


def event(id_=NOBODY, word="delivered"):
    return {"event": word, "clarion_id": id_, "sg_event_id": word, "sg_message_id": "m.1"}


async def counted(served, name, result):
    text = (await served.get("/metrics", Authorization=f"Bearer {KEY}")).text
    line = f'clarion_receipts_total{{provider="{name}",result="{result}"}} '
    return next((float(each.split()[-1]) for each in text.splitlines() if line in each), 0.0)


async def test_a_signature_is_all_that_a_provider_needs(served, mail):
    """No key of ours, and an answer that is empty: nothing is told to who only tells."""
    answer = await post(served, mail.event_report(event()))

    assert (answer.status, answer.text) == (200, "")
    assert await counted(served, "mail", "unknown") == 1


async def test_a_callback_of_twilio_is_verified_by_the_public_url(served):
    """By path and query as they were written, whatever host the request came to."""
    query = f"?clarion_id={NOBODY}&x=%7E+%C3%A9"
    report = twilio_report(f"{PUBLIC_URL}/callbacks/text{query}", FORM, "test-token")

    head = {**report.headers, "Host": "10.0.0.7", "Connection": "close"}
    head["Content-Length"] = str(len(report.body))
    lines = [f"POST /callbacks/text{query} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
    answer = await served.raw("\r\n".join([*lines, "", ""]).encode() + report.body)

    assert answer.startswith(b"HTTP/1.1 200")
    assert await counted(served, "text", "unknown") == 1


async def test_every_refusal_is_the_same(served, mail):
    """Unknown, of a kind without receipts, without a key, forged: nobody learns which."""
    genuine = mail.event_report(event())
    forged = {name: await post(served, genuine.forged(), name) for name in ("mail", "text", "x")}
    right = {
        name: await post(served, genuine, name) for name in ("out", "keyless", "nobody", "%00")
    }

    answers = [*forged.values(), *right.values()]
    bare = await served.ask("POST", "/callbacks/mail", headers={"Authorization": f"Bearer {KEY}"})
    answers.append(bare)
    assert {answer.status for answer in answers} == {403}
    assert len({answer.text for answer in answers}) == 1
    assert bare.is_problem
    assert await counted(served, "mail", "refused") == 2
    assert "nobody" not in (await served.get("/metrics", Authorization=f"Bearer {KEY}")).text


async def test_a_body_without_end_is_refused_as_all_is(served, mail):
    """Before anything is verified, its size is; and who asks learns no more than others."""

    async def chunks():
        for _ in range(3):
            yield b"x" * 1_000_000

    forged = await post(served, mail.event_report(event()).forged())
    with capture_logs() as logs:
        sized = await served.ask("POST", "/callbacks/mail", data=io.BytesIO(b"x" * 2_000_001))
        endless = await served.ask("POST", "/callbacks/mail", data=chunks())

    assert {(answer.status, answer.text) for answer in (sized, endless)} == {(403, forged.text)}
    assert ["2,000,000 bytes" in line["why"] for line in logs] == [True, True]
    assert await counted(served, "mail", "refused") == 3


async def test_a_body_that_does_not_arrive_is_refused_as_all_is(served, serve_front):
    """It is not waited for without end, and the same 403."""
    hurried = await serve_front(replace(served.front, body_s=0.05))

    answer = await hurried.raw(
        b"POST /callbacks/mail HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    )

    assert answer.startswith(b"HTTP/1.1 403")


async def test_a_large_batch_is_kept_in_parts(served, mail):
    """More than one commit should hold; every event of it is answered for."""
    events = [event() | {"sg_event_id": f"e{n}"} for n in range(1_001)]

    assert (await post(served, mail.event_report(*events))).status == 200
    assert await counted(served, "mail", "unknown") == 1_001


async def test_what_cannot_be_kept_is_to_be_sent_again(served, mail, monkeypatch):
    """503 and when: neither a 200 for what is lost, nor anything that ends the repeats."""

    async def refuse(*_):
        raise StorageUnavailable("the disk is full", retry_after_s=5.0)

    monkeypatch.setattr(served.front.service._reception, "_ask_lane", refuse)
    sent = await served.ask(
        "POST",
        "/v1/notifications",
        {"channel": "email", "to": "a@example.com", "subject": "x", "text": "x"},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    id_ = sent.json["id"]

    answer = await post(served, mail.event_report(event(id_)))

    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert await counted(served, "mail", "moved") == 0


async def test_a_receipt_of_a_channel_that_has_left_the_settings_is_kept(served, mail):
    """There is no lane any more, but the record is there, and so is the journal."""
    sent = await served.ask(
        "POST",
        "/v1/notifications",
        {"channel": "email", "to": "a@example.com", "subject": "x", "text": "x"},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    path = f"/v1/notifications/{sent.json['id']}"

    async def status():
        return (await served.get(path, Authorization=f"Bearer {KEY}")).json["status"]

    async def is_sent():
        return await status() == "sent"

    await served.until(is_sent)
    served.front.service._channels = ("sms",)

    answer = await post(served, mail.event_report(event(sent.json["id"])))

    assert answer.status == 200
    assert await status() == "delivered"


async def test_no_genuine_body_is_a_fault_of_the_server(served, mail):
    """Whatever SendGrid may come to send: a 500 would be repeated for a day."""
    strange = [
        {}, None, [[]], {"clarion_id": {}, "event": []}, {"event": "open", "clarion_id": "\ud800"},
        event() | {"timestamp": 1e308, "email": 7, "reason": {"x": 1}, "clarion_call": -1},
        event("x" * 64, "bounce") | {"reason": "\x00\ud800" * 999, "sg_event_id": "\x00"},
    ]  # fmt: skip

    answer = await post(served, mail.event_report(*strange))

    assert answer.status == 200
    assert json.dumps(strange)
    assert await counted(served, "mail", "unread") == 5
    assert await counted(served, "mail", "unknown") == 2
