"""What Twilio's error codes mean, as data; https://www.twilio.com/docs/api/errors names them all.

Twilio keeps splitting codes and advises against relying on single ones, so this table only
refines what the HTTP status says. The 300xx and 630xx codes come mostly with status callbacks;
they are here so that answers and receipts are ruled by one table.
"""

from __future__ import annotations

from clarion.domain.outcome import Outcome
from clarion.providers.http_status import Ruling

_MISCONFIGURED = {
    20003: "Twilio does not accept account_sid and auth_token",
    20403: "Twilio forbids this to the account",
    20404: "Twilio knows no such account; check account_sid and base_url",
    21212: "Twilio does not know the sender; check from_number",
    21408: "the Twilio account may not send to this region; enable it in the geo permissions",
    21603: "Twilio wants a sender; set from_number or messaging_service_sid",
    21606: "the sender cannot send messages; check from_number",
    21608: "a Twilio trial account sends to verified numbers only",
    21609: "Twilio cannot use the status callback; check server.public_url",
    21659: "the sender is not a Twilio number; check from_number",
    21660: "the sender belongs to another Twilio account; check from_number",
    21661: "the sender cannot send SMS; check from_number",
    21701: "Twilio knows no such messaging service; check messaging_service_sid",
    21703: "the messaging service has no sender; add one to it",
    21705: "the messaging service is not usable; check messaging_service_sid",
    30002: "the Twilio account is suspended",
    30032: "the toll-free sender is not verified",
    30034: "the sender is not registered for US traffic (A2P 10DLC)",
}

_RECIPIENT = {
    21211: "Twilio says that this is no phone number",
    21214: "Twilio cannot reach this number",
    21217: "Twilio says that this is no phone number",
    21265: "the recipient may not be a short code",
    21610: "the recipient has opted out (STOP)",
    21612: "no route from the sender to this number",
    21614: "this number cannot receive SMS",
    21635: "the recipient is a landline",
    30003: "the phone is off or out of reach",
    30004: "the recipient or the carrier blocks messages",
    30005: "the number does not exist any more",
    30006: "the number is a landline or out of reach for the carrier",
    63003: "the channel knows no such recipient",
    63024: "the channel says that the recipient is not valid",
}

_PERMANENT = {
    21602: "the message has no body",
    21604: "the message has no recipient",
    21617: "the message is longer than 1600 characters",
    21620: "the media URL cannot be used",
    21623: "the message has too many media files",
    21655: "the content template cannot be used",
    21656: "the variables do not fit the content template",
    30007: "the carrier filtered the message",
    63005: "the channel does not take this content",
    63016: "outside the 24 h window only a template may be sent",
}

_THROTTLED = {
    20429: "too many requests at once",
    21611: "the sender's queue at Twilio is full",
    30001: "the queue at Twilio is full",
    63018: "the channel's rate limit is reached",
}

_OPTED_OUT = frozenset({21610})
"""Codes after which the recipient must not be written to again."""


def _rulings(
    outcome: Outcome, words_of: dict[int, str], *, surely_not_accepted: bool = True
) -> dict[int, Ruling]:
    return {
        code: Ruling(outcome, f"twilio_{code}", words, surely_not_accepted, code in _OPTED_OUT)
        for code, words in words_of.items()
    }


RULINGS: dict[int, Ruling] = {
    **_rulings(Outcome.MISCONFIGURED, _MISCONFIGURED),
    **_rulings(Outcome.RECIPIENT, _RECIPIENT),
    **_rulings(Outcome.PERMANENT, _PERMANENT),
    **_rulings(Outcome.THROTTLED, _THROTTLED),
    **_rulings(Outcome.TRANSIENT, {20503: "Twilio is unavailable"}),
    **_rulings(
        Outcome.TRANSIENT,
        {20500: "Twilio failed", 30008: "the carrier failed and did not say why"},
        surely_not_accepted=False,
    ),
}
"""Every code that means more than its HTTP status."""
