"""Webhooks on the wire: what is posted, how it is signed, and one host's share of the slots."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from clarion.domain.notification import Content
from clarion.domain.outcome import HOST_BUSY, Answer, Outcome
from clarion.providers.base import Adapter, Outgoing, Wire, answer_for_exception
from clarion.providers.webhook import Webhook, WebhookConfig, payload
from clarion.providers.webhook_status import ruling_of
from clarion.testing import FAULTS, Fault, ManualClock, WebhookLookalike

AT = 1_800_000_000.25  # 2027-01-15 08:00:00.250 UTC


@pytest.fixture
async def receiver(clock: ManualClock) -> AsyncIterator[WebhookLookalike]:
    async with WebhookLookalike(clock=clock) as server:
        yield server


@pytest.fixture
async def adapter(receiver: WebhookLookalike, make: Callable[..., Any]) -> Adapter:
    made: Adapter = await make(receiver.settings())
    return made


def outgoing(to: str, id_: str = "n1", **content: Any) -> Outgoing:
    return Outgoing(
        id_, "webhook", Content(to, **({"text": "Hi"} | content)), 1, "c1", created_at=AT
    )


# --- what is posted ----------------------------------------------------------------------------


def test_the_payload_is_that_of_standard_webhooks() -> None:
    """Type, timestamp and data, and what else the notification has."""
    content = Content("https://h.example", "It is paid", "Hi", data={"amount": 7})
    message = Outgoing(
        "n1", "webhook", content, 3, "c1", "acme", "r1", {"k": "v"}, created_at=AT
    )  # fmt: skip

    assert payload(message) == {
        "id": "n1", "type": "notification", "timestamp": "2027-01-15T08:00:00.250Z",
        "data": {"amount": 7}, "subject": "It is paid", "text": "Hi", "tenant": "acme",
        "reference": "r1", "metadata": {"k": "v"},
    }  # fmt: skip


def test_the_payload_of_a_bare_text_names_nothing_that_is_not_there() -> None:
    """`data` is there always, since receivers of the standard read it."""
    assert payload(outgoing("https://h.example")) == {
        "id": "n1", "type": "notification", "timestamp": "2027-01-15T08:00:00.250Z", "data": {},
        "text": "Hi",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "type_"),
    [("invoice.paid", "invoice.paid"), ("ping", "ping"), ("a_b.c1", "a_b.c1"),
     ("Invoice paid", "notification"), ("a..b", "notification"), ("", "notification"),
     (None, "notification")],
)  # fmt: skip
def test_a_subject_in_the_form_of_an_event_type_is_the_type(
    subject: str | None, type_: str
) -> None:
    """So that a sender can name the type that its receivers switch by."""
    assert payload(outgoing("https://h.example", subject=subject))["type"] == type_


async def test_a_message_is_signed_and_the_receiver_verifies_it(
    receiver: WebhookLookalike, adapter: Adapter
) -> None:
    """Over the very bytes that travel, letters of other scripts included."""
    wire = Wire()

    answer = await adapter.send(outgoing(receiver.hook, data={"name": "Żółć", "n": 1.5}), wire)

    assert (answer.outcome, answer.reason) == (Outcome.ACCEPTED, "http_200")
    assert wire.is_written
    assert receiver.delivered("n1") == 1
    assert receiver.requests[0].payload["data"] == {"name": "Żółć", "n": 1.5}


async def test_a_retry_has_the_same_id_and_body_and_a_time_of_its_own(
    canned: Any, make: Callable[..., Any], clock: ManualClock
) -> None:
    """So that a receiver can drop what it has, and still refuse what is replayed late."""
    adapter = await make(WebhookLookalike().settings())
    canned.says(503)
    await adapter.send(outgoing(canned.url), Wire())
    clock.advance(90.0)

    await adapter.send(replace(outgoing(canned.url), call=2), Wire())

    first, second = ((_headers_of(one), one.partition(b"\r\n\r\n")[2]) for one in canned.requests)
    assert first[1] == second[1]
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == "n1"
    times = [int(headers["webhook-timestamp"]) for headers, _ in (first, second)]
    assert times[1] - times[0] == 90
    assert first[0]["webhook-signature"] != second[0]["webhook-signature"]


async def test_without_a_secret_a_message_has_an_id_and_no_signature(
    canned: Any, make: Callable[..., Any]
) -> None:
    """An empty signature would look like one that is wrong."""
    canned.says(204)
    adapter = await make({"kind": "webhook", "allow_private": True})

    answer = await adapter.send(outgoing(canned.url), Wire())

    headers = _headers_of(canned.requests[0])
    assert answer.outcome is Outcome.ACCEPTED
    assert headers["webhook-id"] == "n1"
    assert "webhook-signature" not in headers


async def test_headers_of_the_sender_travel_and_cannot_take_the_place_of_ours(
    canned: Any, make: Callable[..., Any]
) -> None:
    """Credentials for the receiver may be added; the door refuses the rest, and the wire too."""
    canned.says(204)
    adapter = await make(WebhookLookalike().settings())
    headers = {
        "Authorization": "Bearer of-the-receiver", "Webhook-Id": "forged", "HOST": "evil",
        "content-type": "text/plain", "Transfer-Encoding": "chunked",
    }  # fmt: skip

    await adapter.send(outgoing(canned.url, headers=headers), Wire())

    sent = _headers_of(canned.requests[0])
    assert sent["authorization"] == "Bearer of-the-receiver"
    assert (sent["webhook-id"], sent["content-type"]) == ("n1", "application/json")
    assert sent["host"] == canned.url.removeprefix("http://")
    assert "transfer-encoding" not in sent


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-Evil: c"}, {"X-A\r\nX-Evil": "b"}])
async def test_a_line_break_never_reaches_the_wire(
    receiver: WebhookLookalike, adapter: Adapter, headers: dict[str, str]
) -> None:
    """Defence in depth: the message is refused, not repaired."""
    wire = Wire()

    answer = await adapter.send(outgoing(receiver.hook, headers=headers), wire)

    assert (answer.outcome, wire.is_written) == (Outcome.PERMANENT, False)
    assert receiver.ledger.seen == 0


def _headers_of(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


# --- what a host may answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "outcome", "surely_not_accepted"),
    [
        ((200, 201, 202, 204, 299), Outcome.ACCEPTED, False),
        ((300, 301, 302, 303, 304, 307, 308), Outcome.PERMANENT, True),
        ((400, 402, 406, 409, 413, 415, 418, 422, 499), Outcome.PERMANENT, True),
        ((401, 403, 404, 405, 410, 451), Outcome.RECIPIENT, True),
        ((408, 421, 423, 425, 503), Outcome.TRANSIENT, True),
        ((429,), Outcome.THROTTLED, True),
        ((500, 501, 505, 507), Outcome.TRANSIENT, False),
        ((521, 523, 525, 526), Outcome.TRANSIENT, True),
        ((502, 504, 520, 522, 524, 599), Outcome.UNKNOWN, False),
        ((600, 999, 100), Outcome.UNKNOWN, False),
    ],
)
def test_a_status_means_what_the_table_says(
    statuses: tuple[int, ...], outcome: Outcome, surely_not_accepted: bool
) -> None:
    """No host can make us think that our own account is wrong."""
    rulings = [ruling_of(status) for status in statuses]

    assert {ruling.outcome for ruling in rulings} == {outcome}
    assert {ruling.surely_not_accepted for ruling in rulings} == {surely_not_accepted}
    assert all(
        str(status) in ruling.words for status, ruling in zip(statuses, rulings, strict=True)
    )


def test_an_endpoint_that_is_gone_wants_nothing_more() -> None:
    """410 is how a receiver says so, by the standard; a 404 may be a mistake."""
    assert ruling_of(410).suppress
    assert not ruling_of(404).suppress


CASES: dict[str, tuple[Fault, Outcome, int]] = {
    "error": (Fault.error(500), Outcome.TRANSIENT, 0),
    "unavailable": (Fault.unavailable(), Outcome.TRANSIENT, 0),
    "unauthorized": (Fault.unauthorized(), Outcome.RECIPIENT, 0),
    "throttled": (Fault.throttled(3), Outcome.THROTTLED, 0),
    "html": (Fault.html(), Outcome.UNKNOWN, 0),
    "hang": (Fault.hang(), Outcome.UNKNOWN, 0),
    "accept_then_hang": (Fault.accept_then_hang(), Outcome.UNKNOWN, 1),
    "reset": (Fault.reset(), Outcome.UNKNOWN, 0),
    "accept_then_reset": (Fault.accept_then_reset(), Outcome.UNKNOWN, 1),
    # The status is the whole answer: what is wrong behind it is nobody's business.
    "truncated": (Fault.truncated(), Outcome.ACCEPTED, 1),
    "cut_off": (Fault.cut_off(), Outcome.ACCEPTED, 1),
    "no_content": (Fault.no_content(), Outcome.ACCEPTED, 1),
    "drip": (Fault.drip(30.0), Outcome.ACCEPTED, 1),
    "huge": (Fault.huge(), Outcome.TRANSIENT, 0),
    "redirect": (Fault.redirect(), Outcome.PERMANENT, 0),
    "keepalive_close": (Fault.keepalive_close(), Outcome.ACCEPTED, 1),
    "slow": (Fault.slow(0.01), Outcome.ACCEPTED, 1),
}
NEVER_ENDING = ("hang", "accept_then_hang")


def test_every_fault_has_an_expected_outcome() -> None:
    """A new fault cannot be forgotten here."""
    assert set(CASES) == set(FAULTS)


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_misbehaving_host_comes_to_the_right_outcome_of_its_own(
    receiver: WebhookLookalike, adapter: Adapter, name: str
) -> None:
    """Said of that host alone, whatever it does; and the next message has a fresh start."""
    fault, outcome, taken = CASES[name]
    receiver.behave(fault, times=1)
    wire = Wire()

    answer = await _until_time_is_up(receiver, adapter, wire, never_ends=name in NEVER_ENDING)
    after = await adapter.send(outgoing(receiver.hook, "n2"), Wire())

    assert answer.outcome is outcome, answer
    assert answer.is_host_only
    assert wire.is_written
    assert receiver.delivered("n1") == taken
    assert after.outcome is Outcome.ACCEPTED
    assert receiver.duplicates() == {}


async def _until_time_is_up(
    receiver: WebhookLookalike, adapter: Adapter, wire: Wire, *, never_ends: bool
) -> Answer:
    task = asyncio.create_task(adapter.send(outgoing(receiver.hook), wire))
    if never_ends:
        await receiver.wait_for(lambda: receiver.in_flight == 1)
        task.cancel()
        await asyncio.wait([task])
        return answer_for_exception(TimeoutError(), wire)
    return await task


async def test_a_host_that_throttles_names_its_time(
    receiver: WebhookLookalike, adapter: Adapter
) -> None:
    """Retry-After goes along, for the messages of that host."""
    receiver.behave(Fault.throttled(7))

    answer = await adapter.send(outgoing(receiver.hook), Wire())

    assert (answer.retry_after_s, answer.is_host_only) == (7.0, True)


async def test_a_dead_host_is_not_reached(receiver: WebhookLookalike, adapter: Adapter) -> None:
    """Surely not accepted, nothing written, and no word of a provider."""
    await receiver.stop()
    wire = Wire()

    answer = await adapter.send(outgoing(receiver.hook), wire)

    assert (answer.outcome, answer.reason) == (Outcome.TRANSIENT, "connect_failed")
    assert answer.is_host_only
    assert not wire.is_written
    assert answer.detail == "the recipient's host refuses connections; nothing was sent"


async def test_no_answer_shows_what_a_host_wrote(canned: Any, make: Callable[..., Any]) -> None:
    """Its body is not even read: it could be a page of an inner service."""
    canned.says(500, "root:x:0:0")
    adapter = await make(WebhookLookalike().settings())

    answer = await adapter.send(outgoing(canned.url), Wire())

    assert "root" not in answer.detail
    assert canned.url not in answer.detail


@pytest.mark.parametrize(
    ("number", "is_host_only"),
    [(errno.EMFILE, False), (errno.ENETDOWN, False), (errno.EHOSTUNREACH, True)],
)
async def test_our_own_lack_of_means_is_not_said_of_the_host(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, number: int, is_host_only: bool
) -> None:
    """Every message would meet it, so the circuit has to open for it."""
    adapter = await make(WebhookLookalike().settings())

    def broken(*_: Any) -> socket.socket:
        raise OSError(number, "no")

    monkeypatch.setattr("clarion.providers.webhook_guard.socket.socket", broken)

    answer = await adapter.send(outgoing("http://127.0.0.1:8999/"), Wire())

    assert (answer.outcome, answer.is_host_only) == (Outcome.TRANSIENT, is_host_only)


# --- one host's share --------------------------------------------------------------------------


async def test_a_host_holds_at_most_its_share_and_the_rest_comes_back_before_the_wire(
    receiver: WebhookLookalike, make: Callable[..., Any]
) -> None:
    """However it is written; another host has a share of its own."""
    adapter = await make(receiver.settings(max_per_host=2), max_concurrent=10)
    receiver.behave(Fault.hang())
    out = [
        asyncio.create_task(adapter.send(outgoing(receiver.hook, f"n{at}"), Wire()))
        for at in range(2)
    ]
    await receiver.wait_for(lambda: receiver.in_flight == 2)
    wire = Wire()

    full = await adapter.send(outgoing(receiver.url + "/other?x=1", "n3"), wire)
    async with WebhookLookalike(clock=adapter._clock) as other:
        elsewhere = await adapter.send(outgoing(other.hook, "n4"), Wire())

    assert (full.outcome, full.reason) == (Outcome.THROTTLED, HOST_BUSY)
    assert full.is_host_only
    assert full.surely_not_accepted
    assert not wire.is_written
    assert receiver.ledger.seen == 2
    assert elsewhere.outcome is Outcome.ACCEPTED
    for task in out:
        task.cancel()
    await asyncio.wait(out)


@pytest.mark.parametrize("fault", [Fault.error(500), Fault.reset(), Fault.slow(0.0)])
async def test_a_share_is_given_back_whatever_came_of_the_call(
    receiver: WebhookLookalike, make: Callable[..., Any], fault: Fault
) -> None:
    """Also after a call that its time limit cut off."""
    adapter = await make(receiver.settings(max_per_host=1))
    receiver.behave(Fault.hang(), times=1)
    cut_off = asyncio.create_task(adapter.send(outgoing(receiver.hook), Wire()))
    await receiver.wait_for(lambda: receiver.in_flight == 1)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    receiver.behave(fault, times=1)
    await adapter.send(outgoing(receiver.hook), Wire())

    answer = await adapter.send(outgoing(receiver.hook, "n2"), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert not adapter._out


async def test_a_thousand_hosts_share_the_slots_and_are_forgotten_afterwards(
    receiver: WebhookLookalike, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice each, through 32 slots: no host keeps another out, and none is remembered."""
    here = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(Webhook, "lookup", lambda *_, **__: here)
    adapter = await make(receiver.settings(max_per_host=2), max_concurrent=32)
    slots = asyncio.Semaphore(32)

    async def send(n: int) -> Answer:
        url = f"http://h{n % 1_000}.example:{receiver.port}/hook"
        async with slots:
            answer: Answer = await adapter.send(outgoing(url, f"n{n}"), Wire())
        return answer

    answers = await asyncio.gather(*(send(n) for n in range(2_000)))

    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert receiver.deliveries.total() == len(receiver.deliveries) == 2_000
    assert not adapter._out


# --- settings and health -----------------------------------------------------------------------


async def test_there_is_no_host_whose_health_could_be_asked(adapter: Adapter) -> None:
    """A dead one says nothing of the others."""
    assert (await adapter.probe()).is_healthy


@pytest.mark.parametrize(
    "settings",
    [{"secret": "top-secret"}, {"secret": "whsec_AAAA"}, {"max_per_host": 0},
     {"allow_private": "maybe"}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    """At the start, and without showing the secret."""
    with pytest.raises(ValidationError) as caught:
        WebhookConfig(**settings)

    assert "top-secret" not in str(caught.value.errors(include_input=False))


def test_the_secret_is_not_shown_by_the_adapter() -> None:
    """Nor by its settings."""
    config = WebhookConfig(secret=WebhookLookalike().secret)
    adapter = Webhook("hooks", config, max_concurrent=1, clock=ManualClock())

    assert WebhookLookalike().secret not in repr(config) + repr(adapter)
