"""What the replies of SMTP servers mean, as data.

A reply is a code (RFC 5321), mostly with an enhanced one (RFC 3463: class.subject.detail), which
says more; and it means another thing at another stage: 550 to MAIL is about our sender, to RCPT
about the recipient, to the content about the message. The most telling row wins: an enhanced code
about the recipient, words that servers use (`_SAYINGS`), an enhanced code, a code, a default.

A complete reply 4xx or 5xx is a refusal at every stage, after the final dot too: the server has not
taken the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from clarion.domain.outcome import Outcome
from clarion.providers.http_status import Ruling

GREYLIST_S = 300.0
"""How long greylisting servers usually want a sender to wait (Postgrey's default)."""


class Stage(StrEnum):
    """What a reply answered."""

    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    CONTENT = "the message"
    """The final dot."""
    RSET = "RSET"
    NOOP = "NOOP"


class Refusal(NamedTuple):
    """A reply other than the one that the stage needs."""

    stage: Stage
    code: int
    text: str


class Meaning(NamedTuple):
    """What a refusal means, and how long it makes sense to wait (seconds; None: not said)."""

    ruling: Ruling
    wait_s: float | None = None
    is_recipient_only: bool = False
    """Whether it tells of this recipient alone: other mail goes through the same server."""


class _Row(NamedTuple):
    outcome: Outcome
    words: str
    wait_s: float | None = None
    is_recipient_only: bool = False


_THROTTLED = Outcome.THROTTLED
_TRANSIENT = Outcome.TRANSIENT
_RECIPIENT = Outcome.RECIPIENT
_PERMANENT = Outcome.PERMANENT
_MISCONFIGURED = Outcome.MISCONFIGURED

_LOGIN = frozenset({Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH, Stage.NOOP, Stage.RSET})
"""Stages that no message has a part in, so that none can be to blame."""
_BEFORE_RCPT = _LOGIN | {Stage.MAIL}
"""Stages that no recipient has a part in."""

_NO_LOGIN = _Row(_MISCONFIGURED, "the server does not accept username and password")
_LOGIN_NEEDED = _Row(
    _MISCONFIGURED, "the server wants encryption or a login; check security, username and password"
)
_NO_MAILBOX = _Row(_RECIPIENT, "there is no such mailbox")
_MAILBOX_FULL = _Row(_RECIPIENT, "the recipient's mailbox is full")
_TOO_LARGE = _Row(_PERMANENT, "the message is too large for the server")
_POLICY = _Row(_PERMANENT, "the server refuses the message by its policy; check content and sender")
_SENDER = _Row(_MISCONFIGURED, "the server does not let us send from from_address")
_NO_RELAY = _Row(_MISCONFIGURED, "the server does not relay for us; log in, or have it allow us")
_BLOCKED = _Row(_MISCONFIGURED, "the server blocks the address of this machine")
_TOO_FAST = _Row(_THROTTLED, "the server wants us to slow down")
_CLOSING = _Row(_TRANSIENT, "the server is closing the connection")
_STORAGE = _Row(_TRANSIENT, "the server has no room at the moment")
_LATER = _Row(_TRANSIENT, "the server wants the message again, later")
_GREYLISTED = _Row(
    _TRANSIENT, "the server takes a new sender's mail at the second try", GREYLIST_S,
    is_recipient_only=True,
)  # fmt: skip
_MAILBOX_BUSY = _Row(_TRANSIENT, "the recipient's mailbox is busy", is_recipient_only=True)
_ADDRESS_UNSURE = _Row(
    _TRANSIENT, "the server cannot tell at the moment whether the address is good",
    is_recipient_only=True,
)  # fmt: skip
_WE_UNSURE = _Row(_TRANSIENT, "the server has doubts about this machine or from_address, for now")

_ADDRESS = re.compile(r"\S+@\S+")
_RATE = (
    r"throttl|rate.?limit|rate exceeded|too (?:many|much) (?:mail|message|connection|concurrent"
    r"|recipient|login)|(?:sending|daily|hourly)[^.]{0,30}(?:limit|quota)|unusual rate"
)
_SAYINGS: tuple[tuple[re.Pattern[str], frozenset[Stage], _Row], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), frozenset(stages), row)
    for pattern, stages, row in (
        (_RATE, Stage, _TOO_FAST),
        (r"gr[ae]y.?list", Stage, _GREYLISTED),
        (r"client host|helo command|sender address", (Stage.MAIL, Stage.RCPT), _WE_UNSURE),
        (r"\brelay", (Stage.MAIL, Stage.RCPT), _NO_RELAY),
        (r"client host|blocked using", (Stage.GREETING, Stage.EHLO, Stage.RCPT), _BLOCKED),
    )
)
"""What codes do not tell apart, in the words of Postfix, Exim, Exchange, Gmail and SES."""
_FOR_GOOD = frozenset({_NO_RELAY, _BLOCKED})
"""Rows that only a refusal for good (5xx) can mean."""
_FOR_NOW = frozenset({_WE_UNSURE})
"""Rows that only a refusal for now (4xx) can mean."""

_GENERAL: dict[str, _Row] = {
    "4.2.1": _MAILBOX_BUSY,
    "4.2.2": _MAILBOX_FULL,
    "4.3.1": _STORAGE,
    "4.3.2": _LATER,
    "4.7.28": _TOO_FAST,
    "5.1.0": _Row(_RECIPIENT, "the server refuses the address"),
    "5.1.1": _NO_MAILBOX,
    "5.1.2": _Row(_RECIPIENT, "the domain of the recipient takes no mail"),
    "5.1.3": _Row(_RECIPIENT, "the server says that this is no address"),
    "5.1.4": _Row(_RECIPIENT, "the address is ambiguous"),
    "5.1.6": _Row(_RECIPIENT, "the recipient has moved"),
    "5.1.7": _SENDER,
    "5.1.8": _SENDER,
    "5.1.10": _Row(_RECIPIENT, "the domain of the recipient says that it takes no mail"),
    "5.2.0": _Row(_RECIPIENT, "the recipient's mailbox refuses mail"),
    "5.2.1": _Row(_RECIPIENT, "the recipient's mailbox is disabled"),
    "5.2.2": _MAILBOX_FULL,
    "5.2.3": _TOO_LARGE,
    "5.3.4": _TOO_LARGE,
    "5.7": _POLICY,
    "5.7.8": _NO_LOGIN,
    "5.7.9": _Row(_MISCONFIGURED, "the server wants a stronger way to log in"),
    "5.7.10": _Row(_MISCONFIGURED, 'the server wants encryption; set security = "starttls"'),
    "5.7.11": _Row(_MISCONFIGURED, 'the server wants encryption; set security = "starttls"'),
    "5.7.14": _NO_LOGIN,
    "421": _CLOSING,
    "451": _LATER,
    "452": _STORAGE,
    "454": _Row(_TRANSIENT, "the server cannot serve this at the moment"),
    "530": _LOGIN_NEEDED,
    "534": _Row(_MISCONFIGURED, "the server wants a stronger way to log in"),
    "535": _NO_LOGIN,
    "538": _Row(_MISCONFIGURED, 'the server wants encryption; set security = "starttls"'),
    "550": _Row(_PERMANENT, "the server refuses the message"),
    "552": _TOO_LARGE,
    "554": _Row(_PERMANENT, "the server refuses the message"),
    "556": _Row(_RECIPIENT, "the domain of the recipient takes no mail"),
}
"""Enhanced codes (two numbers stand for every third one) and codes, at any stage."""
_ABOUT_LOGIN = frozenset({530, 534, 535, 538})
"""Codes that say more than the subject of the enhanced code that comes with them (535 5.7.139)."""

_BY_STAGE: dict[Stage, dict[str, _Row]] = {
    # The sender is the same for every message.
    Stage.MAIL: dict.fromkeys(("5.7", "501", "550", "551", "553", "554"), _SENDER),
    # RFC 5321 section 4.3.2: 550 to RCPT is about the mailbox, also without an enhanced code.
    Stage.RCPT: {
        "450": _Row(_TRANSIENT, "the recipient's mailbox cannot be reached at the moment"),
        "4.1.1": _ADDRESS_UNSURE,
        "4.1.2": _ADDRESS_UNSURE,
        "501": _Row(_RECIPIENT, "the server says that this is no address"),
        "550": _Row(_RECIPIENT, "the server does not know the recipient, or refuses it"),
        "551": _Row(_RECIPIENT, "the recipient is not at this server"),
        "552": _MAILBOX_FULL,
        "553": _Row(_RECIPIENT, "the server says that this is no address"),
        "554": _Row(_RECIPIENT, "the server refuses the recipient"),
        # Some greylisting servers say so by nothing but this.
        "4.7.1": _GREYLISTED,
    },
}

_NO_DEAL = _Row(_MISCONFIGURED, "the server refuses to work with us")
_DEFAULT = _Row(_PERMANENT, "the server refuses the message")

_ENHANCED_CODE = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\d)")


def meaning_of(refusal: Refusal) -> Meaning:
    """Tell what a refusal means; one that is no 4xx or 5xx is not a reply that a server may give.

    What the text quotes is not in the ruling's words.
    """
    code, stage = refusal.code, refusal.stage
    if not 400 <= code <= 599:
        return Meaning(_unheard_of(stage))
    enhanced = enhanced_code(refusal)
    row = _row(refusal, enhanced)
    reason = f"smtp_{code}_{enhanced}" if enhanced else f"smtp_{code}"
    words = f"{row.words} ({code}{f' {enhanced}' if enhanced else ''} to {stage})"
    return Meaning(Ruling(row.outcome, reason, words), row.wait_s, row.is_recipient_only)


def enhanced_code(refusal: Refusal) -> str:
    """Return the code of RFC 3463 at the start of a reply; empty where there is none.

    One of another class than the reply's own (550 4.7.1) is not believed.
    """
    found = _ENHANCED_CODE.match(refusal.text.lstrip())
    if found is None or found[1] != str(refusal.code)[0]:
        return ""
    return found[0]


def _row(refusal: Refusal, enhanced: str) -> _Row:
    stage, code, _text = refusal
    subject = str(code) if code in _ABOUT_LOGIN else enhanced.rpartition(".")[0]
    row = _first(stage, (enhanced, subject))
    if row is None or row.outcome is not _RECIPIENT:
        row = _said(refusal) or row or _first(stage, (str(code),))
    is_blameless = stage in _LOGIN and (row is None or row.outcome is _PERMANENT)
    if is_blameless or (row is not None and row.outcome is _RECIPIENT and stage in _BEFORE_RCPT):
        return _LATER if code < 500 else _SENDER if stage is Stage.MAIL else _NO_DEAL
    return row or (_LATER if code < 500 else _DEFAULT)


def _first(stage: Stage, keys: Iterable[str]) -> _Row | None:
    own = _BY_STAGE.get(stage, {})
    return next((table[key] for key in keys for table in (own, _GENERAL) if key in table), None)


def _said(refusal: Refusal) -> _Row | None:
    text = _ADDRESS.sub("", refusal.text)
    for pattern, stages, row in _SAYINGS:
        never = _FOR_NOW if refusal.code >= 500 else _FOR_GOOD
        is_possible = refusal.stage in stages and row not in never
        if is_possible and pattern.search(text):
            return row
    return None


def _unheard_of(stage: Stage) -> Ruling:
    if stage is Stage.CONTENT:
        words = "an answer to the message that no SMTP server gives; it may have been taken"
        return Ruling(Outcome.UNKNOWN, "garbled_reply", words, surely_not_accepted=False)
    return Ruling(_TRANSIENT, "garbled_reply", f"an answer to {stage} that no SMTP server gives")
