"""The story of a notification, for every way that it can stand."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from clarion.domain.explanation import WAITS_ITS_TURN, explain, timeline
from clarion.domain.notification import (
    Content,
    Delivery,
    KeptReceipt,
    Notification,
    Priority,
    ProviderCall,
    Reason,
    Status,
)
from clarion.domain.outcome import HOST_BUSY, Outcome

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
HELD = "no provider of email can take it now (sendgrid: circuit open)"


def call(number: int = 1, **fields: Any) -> ProviderCall:
    values: dict[str, Any] = {
        "provider": "sendgrid", "outcome": "transient", "reason": "http_503",
        "detail": "the provider is overloaded.", "started_at": NOW - 2, "ended_at": NOW - 1,
        "why": "first in the route", "considered": (("smtp", "disabled by an operator"),),
    }  # fmt: skip
    return ProviderCall("id", number, **(values | fields))


def notification(status: Status, **fields: Any) -> Notification:
    values: dict[str, Any] = {
        "id": "01", "channel": "email", "content": Content("ada@example.com", "Hi", "Hello"),
        "status": status, "priority": Priority.NORMAL, "delivery": Delivery.AT_LEAST_ONCE,
        "created_at": NOW - 10, "updated_at": NOW - 1, "expires_at": NOW + 1000,
    }  # fmt: skip
    return Notification(**(values | fields))


def story(status: Status, *, held_reason: str | None = None, **fields: Any) -> str:
    return explain(notification(status, **fields), NOW, held_reason=held_reason)


ALL = [
    (status, reason, waiting, calls, doubled, held)
    for status, reason, waiting, calls, doubled, held in itertools.product(
        Status,
        [None, *Reason],
        [None, "retry", "receipt", "schedule"],
        [(), (call(),), (call(outcome="unknown", detail=""),)],
        [False, True],
        [None, HELD],
    )
]


def test_every_way_to_stand_has_a_sentence() -> None:
    """Whole sentences, without an address, a None, a doubled full stop or a word of Python."""
    for status, reason, waiting, calls, doubled, held in ALL:
        for provider, at in ((None, None), ("sendgrid", NOW + 30)):
            text = story(
                status, reason=reason, waiting=waiting, calls=calls, provider=provider,
                possibly_duplicated=doubled, held_reason=held, next_attempt_at=at,
            )  # fmt: skip

            assert text[0].isupper() or text.startswith(("sendgrid", "a provider")), text
            assert text.endswith("."), text
            for unwanted in ("..", "None", "Status", "Reason", "@", "  ", "( ", "()"):
                assert unwanted not in text, text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": Status.SCHEDULED, "next_attempt_at": NOW + 90_000}, "2027-01-16 at 09:00:00"),
        ({"status": Status.QUEUED}, WAITS_ITS_TURN),
        ({"status": Status.QUEUED, "held_reason": HELD}, HELD),
        (
            {"status": Status.QUEUED, "waiting": "retry", "next_attempt_at": NOW + 30,
             "provider": "sendgrid", "calls": (call(),)},
            (
                "sendgrid did not take it (the provider is overloaded); it is tried again"
                " at 08:00:30 UTC."
            ),
        ),
        (
            {"status": Status.QUEUED, "waiting": "retry", "next_attempt_at": NOW - 1,
             "calls": (call(outcome=Outcome.THROTTLED),)},
            "asked us to slow down; it is tried again at any moment.",
        ),
        (
            {"status": Status.QUEUED, "waiting": "receipt", "next_attempt_at": NOW + 86_400,
             "provider": "sendgrid"},
            "sendgrid may have it, but gave no clear answer",
        ),
        (
            {"status": Status.QUEUED, "provider": "sendgrid",
             "calls": (call(outcome="misconfigured"),)},
            "our account there is not in order; it goes on to the next provider",
        ),
        ({"status": Status.SENDING, "provider": "sendgrid"}, "handed to sendgrid right now"),
        ({"status": Status.SENDING, "cancel_requested": True}, "Cancelling was asked for"),
        ({"status": Status.SENT, "provider": "sendgrid"},
         "It was sent: sendgrid took it on 2027-01-15 at 07:59:59 UTC."),
        ({"status": Status.SENT, "possibly_duplicated": True}, "may have arrived twice"),
        ({"status": Status.DELIVERED}, "It was delivered"),
        ({"status": Status.UNDELIVERED, "detail": "mailbox full"}, "not deliver it (mailbox full)"),
        ({"status": Status.FAILED, "reason": "exhausted", "attempts": 5}, "in 5 attempts"),
        ({"status": Status.FAILED, "reason": "exhausted", "attempts": 1}, "in one attempt."),
        ({"status": Status.FAILED, "reason": "permanent", "detail": "too large."},
         "refused the message itself (too large)."),
        ({"status": Status.FAILED, "reason": "recipient"}, "cannot be reached or opted out"),
        ({"status": Status.FAILED, "reason": "poison"}, "fault of our own"),
        ({"status": Status.FAILED, "discarded_at": NOW}, "put it aside"),
        ({"status": Status.FAILED, "receipts": (KeptReceipt("ses", "delivery", "", "", NOW, NOW),)},
         "But ses told of it later (delivery): it may have arrived."),
        ({"status": Status.UNKNOWN, "reason": "unknown_outcome"}, "must not be sent twice"),
        ({"status": Status.UNKNOWN, "reason": "exhausted", "attempts": 5}, "in 5 attempts"),
        ({"status": Status.UNKNOWN, "reason": "expired"}, "its time ran out"),
        ({"status": Status.UNKNOWN, "reason": "cancelled"}, "it was cancelled"),
        ({"status": Status.UNKNOWN, "reason": "poison"}, "fault of our own"),
        ({"status": Status.EXPIRED}, "ran out on 2027-01-15 at 08:16:40 UTC"),
        ({"status": Status.CANCELLED}, "cancelled before any provider had it"),
        ({"status": Status.SUPPRESSED}, "does not want to be written to"),
    ],
)  # fmt: skip
def test_the_sentence_says_why_and_what_is_next(fields: dict[str, Any], words: str) -> None:
    """One example of each, as it is read out."""
    assert words in story(**fields)


def test_a_spoilt_row_that_still_counts_as_queued_is_not_said_to_go_on() -> None:
    """Whatever its lane does: nobody will send it."""
    found = story(Status.QUEUED, reason=Reason.POISON, held_reason="all circuits are open")

    assert "spoilt" in found
    assert "as soon as" not in found


def test_a_paused_lane_is_said_so() -> None:
    """Before anything about providers: it is the operator's doing."""
    text = explain(notification(Status.QUEUED), NOW, held_reason=HELD, is_paused=True)

    assert "operator has paused" in text


def test_only_what_waits_is_held() -> None:
    """The trouble of a lane is no trouble of what has left it."""
    assert HELD not in story(Status.SENT, held_reason=HELD)


# --- timeline --------------------------------------------------------------------------------


def test_the_timeline_tells_each_call_between_the_accept_and_the_end() -> None:
    """With the providers that were passed over, and why this one was chosen."""
    second = call(
        2, provider="smtp", outcome="accepted", reason="smtp_250", detail="ok",
        started_at=NOW - 1, ended_at=NOW, considered=(), is_probe=True,
    )  # fmt: skip

    found = timeline(
        notification(Status.SENT, calls=(call(), second), provider="smtp", updated_at=NOW)
    )

    assert found == [
        {"at": "2027-01-15T07:59:50.000Z", "event": "accepted", "provider": None, "outcome": None,
         "reason": None, "detail": None, "considered": []},
        {"at": "2027-01-15T07:59:59.000Z", "event": "call", "provider": "sendgrid",
         "outcome": "transient", "reason": "http_503", "detail": "the provider is overloaded.",
         "considered": [{"provider": "smtp", "why": "disabled by an operator"}],
         "why": "first in the route", "started_at": "2027-01-15T07:59:58.000Z"},
        {"at": "2027-01-15T08:00:00.000Z", "event": "probe", "provider": "smtp",
         "outcome": "accepted", "reason": "smtp_250", "detail": "ok", "considered": [],
         "why": "first in the route", "started_at": "2027-01-15T07:59:59.000Z"},
        {"at": "2027-01-15T08:00:00.000Z", "event": "sent", "provider": "smtp", "outcome": None,
         "reason": None, "detail": None, "considered": []},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "fields", "last"),
    [
        (Status.QUEUED, {}, ("accepted", None, None)),
        (Status.QUEUED, {"waiting": "retry", "next_attempt_at": NOW}, ("waiting", None, "retry")),
        (Status.SCHEDULED, {"waiting": "schedule", "next_attempt_at": NOW},
         ("waiting", None, "schedule")),
        (Status.SENDING, {"provider": "smtp"}, ("calling", "smtp", None)),
        (Status.FAILED, {"provider": "smtp", "reason": "exhausted"},
         ("failed", "smtp", "exhausted")),
        (Status.CANCELLED, {"reason": "cancelled"}, ("cancelled", None, "cancelled")),
    ],
)  # fmt: skip
def test_the_timeline_ends_with_how_it_stands(
    status: Status, fields: dict[str, Any], last: tuple[str | None, ...]
) -> None:
    """The last entry says what is going on, or how it ended."""
    event = timeline(notification(status, **fields))[-1]

    assert (event["event"], event["provider"], event["reason"]) == last


def test_the_sentence_of_a_page_needs_no_calls() -> None:
    """Lists are read without the calls: the record has the last words."""
    with_calls = notification(
        Status.FAILED, reason="permanent", provider="sendgrid", detail="too large", calls=(call(),)
    )

    assert explain(with_calls, NOW) == explain(dataclasses.replace(with_calls, calls=()), NOW)


def test_a_full_host_of_the_recipient_is_not_blamed_on_the_provider() -> None:
    """Nobody asked us to slow down: its host has as many messages as it may have."""
    bounced = call(outcome="throttled", reason=HOST_BUSY, detail="4 messages are out to its host")

    told = story(Status.QUEUED, calls=(bounced,), waiting="retry", next_attempt_at=NOW + 5)

    assert told == "4 messages are out to its host; it is tried again at 08:00:05 UTC."
