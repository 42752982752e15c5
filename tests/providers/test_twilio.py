"""Twilio: the message it gets, and what its codes mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.providers.twilio_code import RULINGS
from clarion.testing import Fault, TwilioLookalike

Make = Callable[..., Any]
SMS = Outgoing("n 1&x", "sms", Content("+15551234567", text="hello"), 1, "c1")
ACCOUNT = "AC" + "0" * 32


def sms(**content: Any) -> Outgoing:
    return replace(SMS, content=replace(SMS.content, **content))


def canned_table(url: str) -> dict[str, Any]:
    return {
        "kind": "twilio", "account_sid": ACCOUNT, "auth_token": "t", "base_url": url,
        "from_number": "+15005550006",
    }  # fmt: skip


async def test_a_message_names_recipient_sender_and_callback(
    twilio: TwilioLookalike, make: Make
) -> None:
    """Our id travels escaped in the query of the status callback."""
    adapter = await make(twilio.settings(), public_url="https://clarion.example/")

    answer = await adapter.send(SMS, Wire())

    assert twilio.requests[-1].payload == {
        "To": ["+15551234567"],
        "From": ["+15005550006"],
        "Body": ["hello"],
        "StatusCallback": [
            "https://clarion.example/callbacks/one?clarion_id=n+1%26x&clarion_call=1"
        ],
    }
    assert answer.outcome is Outcome.ACCEPTED
    assert answer.provider_message_id is not None
    assert answer.provider_message_id.startswith("SM")
    assert twilio.delivered("n 1&x") == 1


@pytest.mark.parametrize(
    ("public_url", "status_callback"), [("", True), ("https://clarion.example", False)]
)
async def test_no_callback_is_asked_for_where_none_could_arrive(
    twilio: TwilioLookalike, make: Make, public_url: str, status_callback: bool
) -> None:
    """Without a public URL, or switched off; neither is a fault."""
    table = twilio.settings(status_callback=status_callback)
    adapter = await make(table, public_url=public_url)

    answer = await adapter.send(SMS, Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert "StatusCallback" not in twilio.requests[-1].payload


async def test_a_messaging_service_chooses_the_sender(twilio: TwilioLookalike, make: Make) -> None:
    """MessagingServiceSid instead of From."""
    service = "MG" + "a" * 32
    adapter = await make(twilio.settings(from_number="", messaging_service_sid=service))

    await adapter.send(SMS, Wire())

    assert twilio.requests[-1].payload["MessagingServiceSid"] == [service]
    assert "From" not in twilio.requests[-1].payload


async def test_nothing_of_one_message_is_in_the_next(twilio: TwilioLookalike, make: Make) -> None:
    """Recipient, text and id of the first do not show in the second."""
    adapter = await make(twilio.settings())
    await adapter.send(SMS, Wire())

    await adapter.send(replace(sms(to="+15557654321", text="bye"), notification_id="n2"), Wire())

    second = json.dumps(twilio.requests[-1].payload)
    assert "hello" not in second
    assert "+15551234567" not in second
    assert "n+1" not in second


async def test_the_environment_cannot_send_us_elsewhere(
    twilio: TwilioLookalike, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would rewrite the host by TWILIO_REGION and TWILIO_EDGE."""
    monkeypatch.setenv("TWILIO_REGION", "au1")
    monkeypatch.setenv("TWILIO_EDGE", "sydney")
    adapter = await make(twilio.settings())

    answer = await adapter.send(SMS, Wire())

    assert answer.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("code", sorted(RULINGS))
async def test_a_code_of_the_table_wins_over_the_status(
    twilio: TwilioLookalike, make: Make, code: int
) -> None:
    """Each row, over the wire."""
    adapter = await make(twilio.settings())
    twilio.behave(Fault.error(400, code=code))

    answer = await adapter.send(SMS, Wire())

    ruling = RULINGS[code]
    assert (answer.outcome, answer.reason) == (ruling.outcome, f"twilio_{code}")
    assert answer.surely_not_accepted == ruling.surely_not_accepted
    assert answer.suppress == ruling.suppress
    assert ruling.words in answer.detail


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ((20003, 20404, 21212, 21408, 21603, 21606, 21608, 21659, 21660, 21661, 21701, 21703,
          21705, 30002, 30032, 30034), Outcome.MISCONFIGURED),
        ((21211, 21214, 21217, 21265, 21610, 21612, 21614, 21635, 30003, 30004, 30005, 30006,
          63003, 63024), Outcome.RECIPIENT),
        ((21602, 21617, 21620, 21623, 21655, 21656, 30007, 63005, 63016), Outcome.PERMANENT),
        ((20429, 21611, 30001, 63018), Outcome.THROTTLED),
        ((20500, 20503, 30008), Outcome.TRANSIENT),
    ],
)  # fmt: skip
def test_the_table_says_what_twilio_documents(codes: tuple[int, ...], outcome: Outcome) -> None:
    """Written down a second time, so that no edit moves a row unseen."""
    assert {RULINGS[code].outcome for code in codes} == {outcome}


def test_only_an_opt_out_suppresses() -> None:
    """A bad number may be corrected; who said STOP is not written to again."""
    assert [code for code, ruling in RULINGS.items() if ruling.suppress] == [21610]


async def test_an_unknown_code_is_ruled_by_its_status_and_keeps_its_name(
    twilio: TwilioLookalike, make: Make
) -> None:
    """Twilio keeps splitting codes."""
    adapter = await make(twilio.settings())
    twilio.behave(Fault.error(400, code=21999, message="new"))

    answer = await adapter.send(SMS, Wire())

    assert (answer.outcome, answer.reason) == (Outcome.PERMANENT, "twilio_21999")
    assert "new" in answer.detail


async def test_a_code_behind_a_gateway_error_decides_nothing(
    twilio: TwilioLookalike, make: Make
) -> None:
    """502 and 504 stay unknown in any shape."""
    adapter = await make(twilio.settings())
    twilio.behave(Fault.error(502, code=20503))

    assert (await adapter.send(SMS, Wire())).outcome is Outcome.UNKNOWN


async def test_a_bad_number_is_found_by_the_servers_own_rules_and_masked(
    twilio: TwilioLookalike, make: Make
) -> None:
    """Twilio quotes the number; the detail does not."""
    adapter = await make(twilio.settings())

    answer = await adapter.send(sms(to="+05551234567"), Wire())

    assert (answer.outcome, answer.reason) == (Outcome.RECIPIENT, "twilio_21211")
    assert "5551234567" not in answer.detail


async def test_even_a_short_recipient_is_masked_where_it_is_quoted(make: Make, canned: Any) -> None:
    """A short code looks like any number, but it is the recipient."""
    adapter = await make(canned_table(canned.url))
    canned.says(400, '{"code": 21265, "message": "no short code: 54321"}')

    answer = await adapter.send(sms(to="54321"), Wire())

    assert answer.outcome is Outcome.RECIPIENT
    assert "54321" not in answer.detail


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        (201, '{"sid": "SM1", "date_created": "nonsense"}', Outcome.ACCEPTED, "http_201"),
        (201, '{"sid": null}', Outcome.UNKNOWN, "unreadable_success"),
        (201, "[1]", Outcome.UNKNOWN, "unreadable_success"),
        (201, "", Outcome.UNKNOWN, "unreadable_success"),
        (200, '{"sid": "SM1"}', Outcome.UNKNOWN, "unreadable_success"),
        (200, "<html>", Outcome.UNKNOWN, "unreadable_success"),
        (500, '{"message": "no code"}', Outcome.UNKNOWN, "http_500"),
        (503, "<html>", Outcome.UNKNOWN, "http_503"),
        (401, "<html>", Outcome.MISCONFIGURED, "http_401"),
        (
            429,
            '{"type": "https://t", "title": "Slow", "status": 429, "code": 20429}',
            Outcome.THROTTLED,
            "twilio_20429",
        ),
        (
            400,
            '{"type": "https://t", "title": "Bad", "status": 400, "code": 21211, "detail": "d"}',
            Outcome.RECIPIENT,
            "twilio_21211",
        ),
    ],
)
async def test_an_answer_is_trusted_as_far_as_its_shape(
    make: Make, canned: Any, status: int, body: str, outcome: Outcome, reason: str
) -> None:
    """Both published error shapes are read; whatever else comes, the SDK's parser never sees it."""
    adapter = await make(canned_table(canned.url))
    canned.says(status, body)

    answer = await adapter.send(SMS, Wire())

    assert (answer.outcome, answer.reason) == (outcome, reason)
    assert len(canned.requests) == 1


async def test_a_wish_to_wait_is_read_from_the_headers_of_an_error(make: Make, canned: Any) -> None:
    """The SDK's exceptions lose it."""
    adapter = await make(canned_table(canned.url))
    canned.says(429, '{"code": 20429, "message": "slow"}', Retry_After="7")

    assert (await adapter.send(SMS, Wire())).retry_after_s == 7.0


async def test_credentials_travel_in_the_header_only(make: Make, canned: Any) -> None:
    """Basic authentication, a form, and JSON wanted back."""
    adapter = await make(canned_table(canned.url))
    canned.says(201, '{"sid": "SM1"}')

    await adapter.send(sms(text="é & €"), Wire())

    head, _, body = canned.requests[0].partition(b"\r\n\r\n")
    assert re.match(rb"POST /2010-04-01/Accounts/AC0{32}/Messages\.json HTTP", head)
    assert b"Authorization: Basic QUMwMDAw" in head
    assert b"Accept: application/json" in head
    assert b"Content-Type: application/x-www-form-urlencoded\r\n" in head
    assert b"Body=%C3%A9+%26+%E2%82%AC" in body


@pytest.mark.parametrize(
    ("status", "body", "is_healthy", "is_misconfigured"),
    [
        (200, '{"status": "active"}', True, False),
        (200, '{"status": "suspended"}', False, True),
        (200, '{"status": "closed"}', False, True),
        (200, "{}", False, False),
        (401, '{"code": 20003, "message": "Authenticate"}', False, True),
        (404, '{"code": 20404, "message": "none"}', False, True),
        (503, '{"code": 20503, "message": "down"}', False, False),
    ],
)
async def test_the_probe_wants_an_active_account(
    make: Make, canned: Any, status: int, body: str, is_healthy: bool, is_misconfigured: bool
) -> None:
    """A suspended account answers well and sends nothing."""
    adapter = await make(canned_table(canned.url))
    canned.says(status, body)

    health = await adapter.probe()

    assert (health.is_healthy, health.is_misconfigured) == (is_healthy, is_misconfigured)
    assert canned.requests[0].startswith(f"GET /2010-04-01/Accounts/{ACCOUNT}.json ".encode())
