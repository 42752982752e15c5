"""SendGrid: the mail it gets, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.providers.sendgrid_rule import errors_of
from clarion.testing import Fault, ManualClock, SendGridLookalike

Make = Callable[..., Any]
MAIL = Outgoing("n1", "email", Content("ada@example.com", "Hi", "hello"), 1, "c1")


def mail(**content: Any) -> Outgoing:
    return replace(MAIL, content=replace(MAIL.content, **content))


def canned_table(url: str) -> dict[str, Any]:
    return {
        "kind": "sendgrid", "api_key": "SG.test", "base_url": url,
        "from_address": "clarion@example.com",
    }  # fmt: skip


async def refused(server: SendGridLookalike, make: Make, fault: Fault) -> Answer:
    adapter = await make(server.settings())
    server.behave(fault)
    answer: Answer = await adapter.send(MAIL, Wire())
    return answer


async def test_a_mail_carries_our_id_the_sender_and_both_texts(
    sendgrid: SendGridLookalike, make: Make
) -> None:
    """One personalization for one recipient; text before HTML; our id comes back in events."""
    adapter = await make(sendgrid.settings(from_name="Clarion"))

    answer = await adapter.send(mail(html="<p>hello</p>", headers={"X-Campaign": "spring"}), Wire())

    assert sendgrid.requests[-1].payload == {
        "personalizations": [
            {
                "to": [{"email": "ada@example.com"}],
                "custom_args": {"clarion_id": "n1", "clarion_call": "1"},
            }
        ],
        "from": {"email": "clarion@example.com", "name": "Clarion"},
        "subject": "Hi",
        "content": [
            {"type": "text/plain", "value": "hello"},
            {"type": "text/html", "value": "<p>hello</p>"},
        ],
        "headers": {"X-Campaign": "spring"},
    }
    assert answer.outcome is Outcome.ACCEPTED
    assert answer.provider_message_id


async def test_a_mail_without_a_subject_is_taken(sendgrid: SendGridLookalike, make: Make) -> None:
    """Our contract has none as optional, SendGrid has not."""
    adapter = await make(sendgrid.settings())

    answer = await adapter.send(mail(subject=None, text=None, html="<p>x</p>"), Wire())

    assert answer.outcome is Outcome.ACCEPTED


async def test_nothing_of_one_mail_is_in_the_next(sendgrid: SendGridLookalike, make: Make) -> None:
    """Headers, HTML and name of the first do not show in the second."""
    adapter = await make(sendgrid.settings())
    await adapter.send(mail(html="<p>secret</p>", headers={"X-First": "1"}), Wire())

    await adapter.send(replace(mail(to="bob@example.com"), notification_id="n2"), Wire())

    second = sendgrid.requests[-1].payload
    assert "headers" not in second
    assert len(second["content"]) == 1
    assert "ada" not in json.dumps(second)
    assert "n1" not in json.dumps(second)


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        (
            Fault.error(400, field="personalizations.0.to.0.email", message="not valid"),
            Outcome.RECIPIENT,
            "sendgrid_recipient",
        ),
        (Fault.error(400, field="from.email"), Outcome.MISCONFIGURED, "sendgrid_sender"),
        (Fault.error(400, field="content"), Outcome.PERMANENT, "http_400"),
        (
            Fault.error(401, message="Maximum credits exceeded"),
            Outcome.THROTTLED,
            "sendgrid_credits_exceeded",
        ),
        (Fault.error(401), Outcome.MISCONFIGURED, "http_401"),
        (
            Fault.error(403, message="The from address does not match a verified Sender Identity"),
            Outcome.MISCONFIGURED,
            "sendgrid_sender_unverified",
        ),
        (
            Fault.error(403, message="too many bad requests, temporary block"),
            Outcome.MISCONFIGURED,
            "sendgrid_blocked",
        ),
        (Fault.error(413), Outcome.PERMANENT, "http_413"),
        (Fault.error(451), Outcome.MISCONFIGURED, "http_451"),
        (Fault.error(500, accepts=True), Outcome.TRANSIENT, "http_500"),
        (Fault.error(502), Outcome.UNKNOWN, "http_502"),
        (Fault.error(504, accepts=True), Outcome.UNKNOWN, "http_504"),
    ],
)
async def test_an_error_is_ruled_by_status_field_and_message(
    sendgrid: SendGridLookalike, make: Make, fault: Fault, outcome: Outcome, reason: str
) -> None:
    """SendGrid has no codes; a 502 stays unknown even in its own shape."""
    answer = await refused(sendgrid, make, fault)

    assert (answer.outcome, answer.reason) == (outcome, reason)
    assert not answer.suppress


async def test_a_bad_recipient_is_found_by_the_servers_own_rules(
    sendgrid: SendGridLookalike, make: Make
) -> None:
    """Not by a planted fault: the look-alike checks the address itself."""
    adapter = await make(sendgrid.settings())

    answer = await adapter.send(mail(to="ada..x@example.com"), Wire())

    assert answer.outcome is Outcome.RECIPIENT
    assert "ada..x" not in answer.detail


async def test_a_throttled_call_waits_until_the_reset_where_no_wish_is_named(
    make: Make, canned: Any, clock: ManualClock
) -> None:
    """X-RateLimit-Reset is an instant in epoch seconds; Retry-After wins over it."""
    adapter = await make(canned_table(canned.url))
    reset = str(int(clock.now()) + 42)
    body = json.dumps({"errors": [{"message": "too many requests"}]})

    canned.says(429, body, X_RateLimit_Reset=reset)
    by_reset = await adapter.send(MAIL, Wire())
    canned.says(429, body, X_RateLimit_Reset=reset, Retry_After="7")
    by_wish = await adapter.send(MAIL, Wire())

    assert (by_reset.retry_after_s, by_wish.retry_after_s) == (42.0, 7.0)


@pytest.mark.parametrize(
    ("status", "body", "headers", "outcome"),
    [
        (200, "<html>login</html>", {"Content_Type": "text/html"}, Outcome.UNKNOWN),
        (202, "<html>login</html>", {"Content_Type": "text/html"}, Outcome.UNKNOWN),
        (202, "x" * 100_000, {}, Outcome.UNKNOWN),
        (202, "", {"X_Message_Id": "abc"}, Outcome.ACCEPTED),
        (500, '{"errors": []}', {}, Outcome.UNKNOWN),
        (503, '{"message": "no healthy upstream"}', {}, Outcome.UNKNOWN),
        (503, '{"errors": ["x"]}', {}, Outcome.UNKNOWN),
        (503, '{"errors": [{"message": "down"}]}', {}, Outcome.TRANSIENT),
        (500, "[" * 100_000, {}, Outcome.UNKNOWN),
        (500, "[" * 5_000, {}, Outcome.UNKNOWN),
        (401, "<html>proxy</html>", {}, Outcome.MISCONFIGURED),
        (307, "", {"Location": "http://169.254.169.254/"}, Outcome.UNKNOWN),
    ],
)
async def test_an_answer_is_trusted_as_far_as_its_shape(
    make: Make, canned: Any, status: int, body: str, headers: dict[str, str], outcome: Outcome
) -> None:
    """A page, a proxy's JSON or a redirect says nothing about the mail."""
    adapter = await make(canned_table(canned.url))
    canned.says(status, body, **headers)

    answer = await adapter.send(MAIL, Wire())

    assert answer.outcome is outcome
    assert len(canned.requests) == 1


async def test_a_cookie_is_not_sent_back(make: Make, canned: Any) -> None:
    """Two mails share no state that the provider could plant; the key is in each."""
    # A cookie jar would keep nothing for an IP address.
    adapter = await make(canned_table(canned.url.replace("127.0.0.1", "localhost")))
    canned.says(202, Set_Cookie="session=abc")

    await adapter.send(MAIL, Wire())
    await adapter.send(MAIL, Wire())

    assert len(canned.requests) == 2
    assert all(b"Authorization: Bearer SG.test" in one for one in canned.requests)
    assert not any(b"cookie" in one.lower() for one in canned.requests)


@pytest.mark.parametrize(
    ("status", "body", "is_healthy", "is_misconfigured"),
    [
        (200, '{"scopes": ["mail.send"]}', True, False),
        (200, '{"scopes": ["stats.read"]}', False, True),
        (200, '{"hello": 1}', False, False),
        (200, "<html>", False, False),
        (403, '{"errors": [{"message": "access forbidden"}]}', False, True),
        (401, '{"errors": [{"message": "Maximum credits exceeded"}]}', False, False),
    ],
)
async def test_the_probe_wants_the_permission_to_send(
    make: Make, canned: Any, status: int, body: str, is_healthy: bool, is_misconfigured: bool
) -> None:
    """A key that may only read would fail every mail."""
    adapter = await make(canned_table(canned.url))
    canned.says(status, body)

    health = await adapter.probe()

    assert (health.is_healthy, health.is_misconfigured) == (is_healthy, is_misconfigured)
    assert canned.requests[0].startswith(b"GET /v3/scopes ")


@pytest.mark.parametrize(
    "document", [None, [], {}, {"errors": None}, {"errors": []}, {"errors": [{"message": 1}]}]
)
def test_what_is_not_sendgrids_shape_holds_no_errors(document: Any) -> None:
    """Only a non-empty list of messages is SendGrid's own."""
    assert errors_of(document) is None
