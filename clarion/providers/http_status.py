"""What an HTTP answer means where no code table of the provider knows better.

Rows of all tables are `Ruling`s. A status is trusted only as far as its writer is: 502, 504 and
every 5xx that is not in the provider's own shape may come from a proxy whose provider took the
message, so they are UNKNOWN. An explicit 4xx is a refusal, whoever wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from clarion.domain.outcome import Answer, Outcome

DETAIL_LIMIT_CHARS = 300
"""Longer words of a provider are cut; timelines keep one sentence, not a page."""


class Ruling(NamedTuple):
    """One row of a code table: what a code means, in words for a person."""

    outcome: Outcome
    reason: str
    words: str
    surely_not_accepted: bool = True
    suppress: bool = False

    def answer(self, said: str = "", retry_after_s: float | None = None) -> Answer:
        """Make the answer; `said` are the provider's words, masked already."""
        detail = f"{self.words}: {said}" if said else self.words
        if len(detail) > DETAIL_LIMIT_CHARS:
            detail = detail[: DETAIL_LIMIT_CHARS - 1] + "…"
        return Answer(
            self.outcome,
            self.reason,
            detail,
            surely_not_accepted=self.surely_not_accepted,
            retry_after_s=retry_after_s,
            suppress=self.suppress,
        )


_MISCONFIGURED = Outcome.MISCONFIGURED
_OF_STATUS: dict[int, tuple[Outcome, str]] = {
    401: (_MISCONFIGURED, "the provider does not accept our credentials"),
    402: (_MISCONFIGURED, "the provider wants the account to be paid"),
    403: (_MISCONFIGURED, "the provider forbids this to our account"),
    404: (_MISCONFIGURED, "there is no such address at the provider; check base_url and account"),
    405: (_MISCONFIGURED, "the address at the provider takes no messages; check base_url"),
    406: (_MISCONFIGURED, "the provider cannot answer in a form that we read"),
    407: (_MISCONFIGURED, "a proxy wants credentials"),
    408: (Outcome.TRANSIENT, "the provider did not get the whole request in time"),
    410: (_MISCONFIGURED, "the address at the provider is gone; check base_url"),
    413: (Outcome.PERMANENT, "the message is too large for the provider"),
    415: (_MISCONFIGURED, "the provider does not read the form of our requests"),
    421: (Outcome.TRANSIENT, "the request reached the wrong server of the provider"),
    425: (Outcome.TRANSIENT, "the provider wants the request again, later"),
    429: (Outcome.THROTTLED, "the provider wants us to slow down"),
    451: (_MISCONFIGURED, "the provider may not serve our account in this region"),
    503: (Outcome.TRANSIENT, "the provider is unavailable"),
}


def http_default(status: int, *, is_own_shape: bool) -> Ruling:
    """Rule by status alone; `is_own_shape` says that the provider itself wrote the answer."""
    reason = f"http_{status}"
    if not 400 <= status <= 599:
        words = f"an answer that the provider never gives ({_name(status)})"
        return Ruling(Outcome.UNKNOWN, reason, words, surely_not_accepted=False)
    if status in (502, 504) or (status >= 500 and not is_own_shape):
        words = f"something between us and the provider answered {_name(status)}"
        return Ruling(Outcome.UNKNOWN, reason, words, surely_not_accepted=False)
    if status in _OF_STATUS:
        return Ruling(_OF_STATUS[status][0], reason, f"{_OF_STATUS[status][1]} ({status})")
    if status >= 500:
        words = f"the provider failed ({_name(status)})"
        return Ruling(Outcome.TRANSIENT, reason, words, surely_not_accepted=False)
    return Ruling(Outcome.PERMANENT, reason, f"the provider refuses the message ({status})")


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Read Retry-After, seconds or an HTTP date, as seconds from `now` (epoch seconds).

    None when it is missing, unreadable or not in the future; the cap is the retry policy's.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        return _in_future(float(text))
    except ValueError:
        return _in_future(_instant(text) - now)


def reset_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Read X-RateLimit-Reset as epoch seconds; None when missing, unreadable or past."""
    try:
        return _in_future(float(headers.get("X-RateLimit-Reset", "")) - now)
    except ValueError:
        return None


def _instant(text: str) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return -math.inf
    # RFC 9110: an HTTP date is always in GMT, also where a server forgot to say so.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _in_future(delay_s: float) -> float | None:
    return delay_s if math.isfinite(delay_s) and delay_s > 0 else None


def _name(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
