"""The SendGrid look-alike takes what Mail Send takes, refuses the rest, and says so its way."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from clarion.testing import ManualClock, SendGridLookalike

NOW = 1_700_000_000.0
SEND = "/v3/mail/send"


def mail(**changes: Any) -> dict[str, Any]:
    document = {
        "personalizations": [
            {"to": [{"email": "ada@example.com"}], "custom_args": {"clarion_id": "n1"}}
        ],
        "from": {"email": "clarion@example.com", "name": "Clarion"},
        "subject": "Hi",
        "content": [{"type": "text/plain", "value": "hello"}],
        **changes,
    }
    return {name: value for name, value in document.items() if value is not None}


def to(*people: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"to": [{"email": one} for one in people], **more}]


@pytest.fixture
async def server() -> AsyncIterator[SendGridLookalike]:
    async with SendGridLookalike("SG.secret", clock=ManualClock(now=NOW)) as lookalike:
        yield lookalike


@pytest.fixture
async def session(server: SendGridLookalike) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": "Bearer SG.secret"}
    async with aiohttp.ClientSession(server.url, headers=headers) as client:
        yield client


async def test_a_message_is_accepted_by_the_published_contract(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """202, an empty body, a message id and the rate headers (reset in epoch seconds)."""
    async with session.post(SEND, json=mail()) as first:
        body = await first.read()
    async with session.post(SEND, json=mail()) as second:
        pass

    assert (first.status, body) == (202, b"")
    assert first.headers["X-Message-Id"] != second.headers["X-Message-Id"]
    assert int(first.headers["X-RateLimit-Remaining"]) < int(first.headers["X-RateLimit-Limit"])
    assert NOW < int(first.headers["X-RateLimit-Reset"]) <= NOW + 60
    assert server.requests[0].payload == mail()


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer SG.other"}, {"Authorization": ""}])
async def test_a_wrong_key_is_refused(
    session: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    """401 with the published words, for sends and for the health probe."""
    async with session.post(SEND, json=mail(), headers=headers) as sent:
        body = await sent.json()
    async with session.get("/v3/scopes", headers=headers) as probed:
        pass

    assert (sent.status, probed.status) == (401, 401)
    assert body == {
        "errors": [
            {
                "message": "The provided authorization grant is invalid, expired, or revoked",
                "field": None,
                "help": None,
            }
        ]
    }


async def test_the_scopes_of_the_key_allow_sending(session: aiohttp.ClientSession) -> None:
    """What a health probe asks for sends nothing."""
    async with session.get("/v3/scopes") as response:
        body = await response.json()

    assert (response.status, "mail.send" in body["scopes"]) == (200, True)


REFUSED = {
    "no personalizations": (mail(personalizations=None), "personalizations"),
    "empty personalizations": (mail(personalizations=[]), "personalizations"),
    "no recipient": (mail(personalizations=[{"subject": "x"}]), "personalizations.0.to"),
    "empty recipients": (mail(personalizations=[{"to": []}]), "personalizations.0.to"),
    "bad recipient": (
        mail(personalizations=to("ada@example.com", "nobody")),
        "personalizations.0.to.1.email",
    ),
    "display name as address": (
        mail(personalizations=to('"x" <evil@example.com>')),
        "personalizations.0.to.0.email",
    ),
    "the same recipient twice": (
        mail(personalizations=to("ada@example.com", "ADA@example.com")),
        "personalizations.0.to",
    ),
    "too many recipients": (
        mail(
            personalizations=[
                *to(*(f"a{at}@example.com" for at in range(600))),
                *to(*(f"b{at}@example.com" for at in range(401))),
            ]
        ),
        "personalizations",
    ),
    "no sender": (mail(**{"from": None}), "from"),
    "bad sender": (mail(**{"from": {"email": "clarion"}}), "from.email"),
    "no subject": (mail(subject=None), "subject"),
    "empty subject": (mail(subject=""), "subject"),
    "no content": (mail(content=None), "content"),
    "empty text": (mail(content=[{"type": "text/plain", "value": ""}]), "content.0.value"),
    "html before text": (
        mail(
            content=[
                {"type": "text/html", "value": "<p>"},
                {"type": "text/plain", "value": "hello"},
            ]
        ),
        "content",
    ),
    "unknown member": (mail(surprise=1), "surprise"),
    "unknown inner member": (
        mail(personalizations=to("ada@example.com", metadata={})),
        "personalizations.0.metadata",
    ),
    "reserved header": (mail(headers={"Reply-To": "x@example.com"}), "headers.Reply-To"),
    "eleven categories": (mail(categories=[str(at) for at in range(11)]), "categories"),
    "long category": (mail(categories=["x" * 256]), "categories.0"),
    "category twice": (mail(categories=["a", "a"]), "categories.1"),
    "big custom_args": (
        mail(personalizations=to("ada@example.com", custom_args={"a": "x" * 10_000})),
        "personalizations.0.custom_args",
    ),
    "too far ahead": (mail(send_at=int(NOW) + 72 * 3600 + 1), "send_at"),
    "send_at as text": (mail(send_at="tomorrow"), "send_at"),
    "not an object": ([], None),
    "two kinds of reply_to": (
        mail(reply_to={"email": "a@example.com"}, reply_to_list=[{"email": "b@example.com"}]),
        "reply_to",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_mail_send_refuses_is_refused_with_its_field(
    server: SendGridLookalike, session: aiohttp.ClientSession, name: str
) -> None:
    """400 with one entry per fault, naming the member; nothing is delivered."""
    document, field = REFUSED[name]

    async with session.post(SEND, json=document) as response:
        body = await response.json()

    assert response.status == 400
    assert field in [error["field"] for error in body["errors"]]
    assert all(error["message"] for error in body["errors"])
    assert server.deliveries.total() == 0


TAKEN = {
    "a template needs no subject and no content": mail(
        template_id="d-1", subject=None, content=None
    ),
    "a subject in every personalization": mail(
        subject=None, personalizations=to("ada@example.com", subject="mine")
    ),
    "both kinds of text": mail(
        content=[
            {"type": "text/plain", "value": "hello"},
            {"type": "text/html", "value": "<p>hello"},
        ]
    ),
    "a time within 72 hours": mail(send_at=int(NOW) + 72 * 3600),
    "a header of ours": mail(headers={"X-Campaign": "spring"}),
    "ten categories": mail(categories=[str(at) for at in range(10)]),
    "a thousand recipients": mail(
        personalizations=to(*(f"a{at}@example.com" for at in range(1000)))
    ),
    "an attachment": mail(attachments=[{"content": "aGk=", "filename": "hi.txt"}]),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_what_lies_within_the_limits_is_taken(
    server: SendGridLookalike, session: aiohttp.ClientSession, name: str
) -> None:
    """The limits themselves are still allowed."""
    async with session.post(SEND, json=TAKEN[name]) as response:
        text = await response.text()

    assert (response.status, text) == (202, "")
    assert server.deliveries.total() == 1


async def test_every_fault_of_a_document_is_named_at_once(session: aiohttp.ClientSession) -> None:
    """Two wrong members are two entries."""
    document = mail(personalizations=to("nobody"), subject=5)

    async with session.post(SEND, json=document) as response:
        body = await response.json()

    fields = {error["field"] for error in body["errors"]}
    assert fields == {"personalizations.0.to.0.email", "subject"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"\xff", {"Content-Type": "application/json"}, 400),
        (json.dumps(mail()).encode(), {"Content-Type": "text/plain"}, 415),
        (b" " * (30 * 1024 * 1024 + 1), {"Content-Type": "application/json"}, 413),
    ],
)
async def test_what_is_no_document_is_refused(
    session: aiohttp.ClientSession, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Bad JSON, another content type, and more than 30 MB."""
    async with session.post(SEND, data=io.BytesIO(body), headers=headers) as response:
        document = await response.json()

    assert response.status == status
    assert set(document["errors"][0]) == {"message", "field", "help"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", SEND, 405), ("POST", "/v3/scopes", 405), ("GET", "/v3/nothing", 404)],
)
async def test_other_methods_and_paths_are_refused(
    session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    """405 and 404 in the published shape."""
    async with session.request(method, path) as response:
        document = await response.json()

    assert response.status == status
    assert document["errors"][0]["message"]


async def test_the_sandbox_delivers_nothing(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """sandbox_mode validates the message and answers 200."""
    document = mail(mail_settings={"sandbox_mode": {"enable": True}})

    async with session.post(SEND, json=document) as response:
        pass

    assert (response.status, server.deliveries.total()) == (200, 0)


async def test_a_message_without_our_id_is_told_apart_by_what_it_says(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """Recipient, subject and text stand for a missing `custom_args.clarion_id`."""
    for subject in ("one", "two", "two"):
        document = mail(personalizations=to("ada@example.com"), subject=subject)
        async with session.post(SEND, json=document):
            pass

    assert server.duplicates() == {"ada@example.com | two | hello": 2}
    assert len(server.deliveries) == 2


async def test_its_settings_point_clarion_here(server: SendGridLookalike) -> None:
    """A test configures a provider from its look-alike."""
    table = server.settings(timeout=1.0)

    assert (table["kind"], table["base_url"], table["timeout"]) == ("sendgrid", server.url, 1.0)
    assert table["api_key"] == "SG.secret"
