"""The Twilio look-alike takes what Create Message takes, refuses the rest, and says so its way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from clarion.testing import Fault, ManualClock, TwilioLookalike
from clarion.testing.twilio import segments

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
SEND = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
SERVICE = "MG" + "a" * 32


def form(**changes: Any) -> dict[str, Any]:
    document = {"To": "+15551234567", "From": "+15005550006", "Body": "hello", **changes}
    return {name: value for name, value in document.items() if value is not None}


@pytest.fixture
async def server() -> AsyncIterator[TwilioLookalike]:
    clock = ManualClock(now=1_692_853_305.0)
    async with TwilioLookalike(ACCOUNT, "token", clock=clock) as lookalike:
        yield lookalike


@pytest.fixture
async def session(server: TwilioLookalike) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, "token")}
    async with aiohttp.ClientSession(server.url, headers=headers) as client:
        yield client


async def test_a_message_is_created_by_the_published_contract(
    server: TwilioLookalike, session: aiohttp.ClientSession
) -> None:
    """201 with the message resource: counts as strings, dates by RFC 2822, status queued."""
    async with session.post(SEND, data=form()) as response:
        body = await response.json()

    sid = body["sid"]
    assert response.status == 201
    assert (sid[:2], len(sid)) == ("SM", 34)
    assert body == {
        "account_sid": ACCOUNT,
        "api_version": "2010-04-01",
        "body": "hello",
        "date_created": "Thu, 24 Aug 2023 05:01:45 +0000",
        "date_sent": None,
        "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000",
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": "+15005550006",
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "price_unit": None,
        "sid": sid,
        "status": "queued",
        "subresource_uris": {"media": f"{SEND[:-5]}/{sid}/Media.json"},
        "to": "+15551234567",
        "uri": f"{SEND[:-5]}/{sid}.json",
    }
    assert response.headers["Twilio-Concurrent-Requests"] == "1"
    assert server.deliveries == {"+15551234567 | hello": 1}


async def test_a_messaging_service_accepts_without_knowing_the_sender(
    session: aiohttp.ClientSession,
) -> None:
    """Status accepted, no sender, and no segments yet."""
    data = form(From=None, MessagingServiceSid=SERVICE)

    async with session.post(SEND, data=data) as response:
        body = await response.json()

    assert response.status == 201
    assert (body["status"], body["from"], body["num_segments"]) == ("accepted", None, "0")


async def test_media_makes_it_an_mms(session: aiohttp.ClientSession) -> None:
    """MM ids for messages with media, which need no body."""
    media = aiohttp.FormData(
        [("To", "+15551234567"), ("From", "+15005550006")]
        + [("MediaUrl", f"https://example.com/{at}.png") for at in range(10)]
    )

    async with session.post(SEND, data=media) as response:
        body = await response.json()

    assert (response.status, body["sid"][:2], body["num_media"]) == (201, "MM", "10")


REFUSED = {
    "no recipient": (form(To=None), 21604),
    "bad recipient": (form(To="12345"), 21211),
    "recipient with words": (form(To="+1555CALLNOW"), 21211),
    "no sender": (form(From=None), 21603),
    "bad sender": (form(From="+1"), 21212),
    "bad service": (form(MessagingServiceSid="MG1"), 21701),
    "no body": (form(Body=None), 21602),
    "empty body": (form(Body=""), 21602),
    "long body": (form(Body="x" * 1601), 21617),
    "bad callback": (form(StatusCallback="nowhere"), 21609),
    "callback with an underscore": (form(StatusCallback="https://my_host.example.com/"), 21609),
    "unbalanced callback": (form(StatusCallback="http://[::1"), 21609),
    "unknown parameter": (form(Surprise="1"), 20001),
    "bad validity": (form(ValidityPeriod="36001"), 20001),
    "bad word": (form(ContentRetention="forget"), 20001),
    "time without schedule": (form(SendAt="2026-01-01T00:00:00Z"), 35111),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_create_message_refuses_is_refused_with_its_code(
    server: TwilioLookalike, session: aiohttp.ClientSession, name: str
) -> None:
    """400 with code, message, more_info and status; nothing is delivered."""
    data, code = REFUSED[name]

    async with session.post(SEND, data=data) as response:
        body = await response.json()

    assert response.status == 400
    assert set(body) == {"code", "message", "more_info", "status"}
    assert (body["code"], body["status"]) == (code, 400)
    assert body["more_info"].endswith(f"/{code}")
    assert server.deliveries.total() == 0


async def test_eleven_media_are_too_many(session: aiohttp.ClientSession) -> None:
    """Ten are the limit."""
    fields = [("To", "+15551234567"), ("From", "+15005550006")]
    fields += [("MediaUrl", "https://example.com/a.png")] * 11

    async with session.post(SEND, data=aiohttp.FormData(fields)) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (400, 21623)


async def test_a_parameter_is_given_once(session: aiohttp.ClientSession) -> None:
    """Two recipients in one form are a mistake."""
    fields = aiohttp.FormData([*form().items(), ("To", "+15557654321")])

    async with session.post(SEND, data=fields) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (400, 20001)


TAKEN = {
    "1600 characters": form(Body="x" * 1600),
    "WhatsApp": form(To="whatsapp:+15551234567", From="whatsapp:+15005550006"),
    "a named sender": form(From="Clarion"),
    "a short code": form(From="12345"),
    "content by id": form(Body=None, ContentSid="HX" + "b" * 32),
    "a callback with our id": form(StatusCallback="http://127.0.0.1:8080/c?clarion_id=n1"),
    "a validity": form(ValidityPeriod="36000"),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_what_lies_within_the_limits_is_taken(
    server: TwilioLookalike, session: aiohttp.ClientSession, name: str
) -> None:
    """The limits themselves are still allowed."""
    async with session.post(SEND, data=TAKEN[name]) as response:
        await response.read()

    assert (response.status, server.deliveries.total()) == (201, 1)


async def test_json_is_no_form(session: aiohttp.ClientSession) -> None:
    """Another content type carries no parameters, as with the real one."""
    async with session.post(SEND, json=form()) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (400, 21604)


async def test_a_wrong_token_is_refused(session: aiohttp.ClientSession) -> None:
    """401 with code 20003, for sends and for the health probe."""
    headers = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, "wrong")}
    async with session.post(SEND, data=form(), headers=headers) as sent:
        body = await sent.json()
    async with session.get(f"/2010-04-01/Accounts/{ACCOUNT}.json", headers=headers) as probed:
        pass

    assert (sent.status, probed.status, body["code"]) == (401, 401, 20003)
    assert sent.headers["WWW-Authenticate"].startswith("Basic")


async def test_another_account_is_not_found(session: aiohttp.ClientSession) -> None:
    """404 with code 20404."""
    path = SEND.replace(ACCOUNT, "AC" + "f" * 32)

    async with session.post(path, data=form()) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (404, 20404)


async def test_the_account_tells_a_health_probe_that_it_is_active(
    server: TwilioLookalike, session: aiohttp.ClientSession
) -> None:
    """GET on the account sends nothing and is no send."""
    async with session.get(f"/2010-04-01/Accounts/{ACCOUNT}.json") as response:
        body = await response.json()

    assert (response.status, body["sid"], body["status"]) == (200, ACCOUNT, "active")
    assert (server.requests[0].is_send, server.requests[0].outcome) == (False, "answered")


async def test_messages_are_not_listed_here(session: aiohttp.ClientSession) -> None:
    """GET on the messages is refused by method."""
    async with session.get(SEND) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (405, 20004)


async def test_our_id_is_read_from_the_status_callback(
    server: TwilioLookalike, session: aiohttp.ClientSession
) -> None:
    """The same body to the same number is told apart by `clarion_id`."""
    for id_ in ("n1", "n2", "n2"):
        callback = f"https://clarion.example.com/callbacks/twilio?x=1&clarion_id={id_}"
        async with session.post(SEND, data=form(StatusCallback=callback)):
            pass

    assert server.deliveries == {"n1": 1, "n2": 2}


@pytest.mark.parametrize(
    ("status", "fault", "code"),
    [
        (400, Fault.error(400, code=21610), 21610),
        (429, Fault.throttled(2), 20429),
        (500, Fault.error(500), 20500),
        (503, Fault.unavailable(), 20503),
        (401, Fault.unauthorized(), 20003),
    ],
)
async def test_errors_on_demand_carry_twilios_codes(
    server: TwilioLookalike,
    session: aiohttp.ClientSession,
    status: int,
    fault: Fault,
    code: int,
) -> None:
    """Each status has its usual code; any other can be asked for."""
    server.behave(fault)

    async with session.post(SEND, data=form()) as response:
        body = await response.json()

    assert (response.status, body["status"], body["code"]) == (status, status, code)
    assert body["message"]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("", 1),
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("ł" * 70, 1),
        ("ł" * 71, 2),
        ("👍" * 35, 1),
        ("👍" * 36, 2),
    ],
)
def test_segments_are_counted_as_carriers_do(body: str, count: int) -> None:
    """GSM-7 160/153 with two units for extended characters, else UCS-2 70/67 in UTF-16 units."""
    assert segments(body) == count


async def test_its_settings_point_clarion_here(server: TwilioLookalike) -> None:
    """A test configures a provider from its look-alike."""
    table = server.settings(from_number=None)

    assert (table["kind"], table["base_url"]) == ("twilio", server.url)
    assert (table["account_sid"], table["auth_token"]) == (ACCOUNT, "token")
