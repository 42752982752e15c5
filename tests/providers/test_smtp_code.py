"""What servers say, and what it means: by stage, enhanced code, code, and words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.outcome import Outcome
from clarion.providers.smtp_code import GREYLIST_S, Refusal, Stage, meaning_of

LOGIN = (Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH)
SAID = [
    # Postfix
    (Stage.RCPT, 550, "5.1.1 <a@b.example>: Recipient address rejected: User unknown", "recipient"),
    (Stage.RCPT, 554, "5.7.1 <a@b.example>: Relay access denied", "misconfigured"),
    (Stage.RCPT, 554, "5.7.1 Client host [1.2.3.4] blocked using some.list", "misconfigured"),
    (Stage.RCPT, 450, "4.2.0 <a@b.example>: Recipient address rejected: Greylisted", "transient"),
    (Stage.RCPT, 452, "4.2.2 Over quota", "recipient"),
    (Stage.RCPT, 450, "4.7.1 Error: too much mail from 1.2.3.4", "throttled"),
    (Stage.MAIL, 552, "5.3.4 Message size exceeds fixed limit", "permanent"),
    (Stage.MAIL, 452, "4.3.1 Insufficient system storage", "transient"),
    (Stage.MAIL, 553, "5.7.1 Sender address rejected: not owned by user", "misconfigured"),
    (Stage.MAIL, 530, "5.7.0 Must issue a STARTTLS command first", "misconfigured"),
    (Stage.DATA, 421, "4.3.2 Service shutting down", "transient"),
    (Stage.CONTENT, 554, "5.7.1 Message rejected as spam", "permanent"),
    (Stage.CONTENT, 451, "4.3.0 Error: queue file write error", "transient"),
    # Exim, mostly without enhanced codes
    (Stage.RCPT, 550, "Unrouteable address", "recipient"),
    (Stage.RCPT, 550, "relay not permitted", "misconfigured"),
    (Stage.RCPT, 550, "relay@b.example: unknown user", "recipient"),
    (Stage.CONTENT, 552, "Message size exceeds maximum permitted", "permanent"),
    # Gmail
    (Stage.AUTH, 535, "5.7.8 Username and Password not accepted", "misconfigured"),
    (Stage.AUTH, 534, "5.7.9 Application-specific password required", "misconfigured"),
    (Stage.RCPT, 550, "5.4.5 Daily user sending limit exceeded", "throttled"),
    (Stage.CONTENT, 421, "4.7.28 Our system has detected an unusual rate of mail", "throttled"),
    (Stage.RCPT, 552, "5.2.2 The recipient's inbox is out of storage space", "recipient"),
    (Stage.CONTENT, 550, "5.7.26 Unauthenticated email is not accepted", "permanent"),
    # Exchange
    (Stage.AUTH, 535, "5.7.139 Authentication unsuccessful", "misconfigured"),
    (Stage.RCPT, 550, "5.4.1 Recipient address rejected: Access denied", "recipient"),
    (Stage.RCPT, 550, "5.7.54 Unable to relay recipient in non-accepted domain", "misconfigured"),
    # SES
    (Stage.CONTENT, 454, "Throttling failure: Maximum sending rate exceeded.", "throttled"),
    (Stage.CONTENT, 554, "Message rejected: Email address is not verified.", "permanent"),
    # anybody
    (Stage.RCPT, 556, "5.1.10 Domain has a null MX", "recipient"),
    (Stage.RCPT, 551, "User not local", "recipient"),
    (Stage.RCPT, 501, "5.1.3 Bad address syntax", "recipient"),
    (Stage.MAIL, 550, "5.1.10 No mail for the sender's domain", "misconfigured"),
    (Stage.GREETING, 554, "5.7.1 No SMTP service here", "misconfigured"),
    (Stage.EHLO, 550, "Go away", "misconfigured"),
    (Stage.STARTTLS, 454, "4.7.0 TLS not available", "transient"),
    (Stage.DATA, 503, "5.5.1 Bad sequence of commands", "permanent"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "code", "text", "outcome"), SAID)
def test_what_servers_say_is_understood(stage: Stage, code: int, text: str, outcome: str) -> None:
    """Sentences of the servers that are met most."""
    ruling = meaning_of(Refusal(stage, code, text)).ruling

    assert ruling.outcome == outcome
    assert ruling.surely_not_accepted
    assert ruling.reason.startswith(f"smtp_{code}")
    assert str(code) in ruling.words


def test_greylisting_says_when_to_come_back() -> None:
    """The usual delay; the retry policy waits at least so long."""
    assert meaning_of(Refusal(Stage.RCPT, 451, "4.7.1 Try again")).wait_s == GREYLIST_S
    assert meaning_of(Refusal(Stage.CONTENT, 450, "Graylisted")).wait_s == GREYLIST_S
    assert meaning_of(Refusal(Stage.CONTENT, 451, "4.3.0 Try again")).wait_s is None


@pytest.mark.parametrize(
    ("stage", "code", "text", "is_recipient_only"),
    [
        (Stage.RCPT, 450, "4.2.0 <a@b.example>: Recipient address rejected: Greylisted", True),
        (Stage.RCPT, 451, "4.7.1 Try again later", True),
        (Stage.CONTENT, 451, "4.7.1 Greylisting in action, please come back later", True),
        (Stage.RCPT, 450, "4.7.1 Client host rejected: Greylisting in effect", True),
        (Stage.RCPT, 450, "4.2.1 Mailbox busy", True),
        (Stage.RCPT, 450, "4.1.1 <a@b.example>: unverified address", True),
        # These meet every message.
        (Stage.RCPT, 450, "4.7.1 Client host rejected: cannot find your hostname", False),
        (Stage.RCPT, 450, "4.7.1 <x>: Helo command rejected: Host not found", False),
        (Stage.RCPT, 450, "4.1.8 <x>: Sender address rejected: Domain not found", False),
        (Stage.RCPT, 451, "4.3.0 Temporary lookup failure", False),
        (Stage.RCPT, 452, "4.3.1 Insufficient system storage", False),
        (Stage.RCPT, 421, "4.3.2 Shutting down", False),
        (Stage.MAIL, 451, "4.7.1 Try again later", False),
        (Stage.CONTENT, 451, "4.3.0 Try again", False),
    ],
)
def test_what_tells_of_one_recipient_is_told_from_what_meets_all(
    stage: Stage, code: int, text: str, is_recipient_only: bool
) -> None:
    """A server that greylists works; one that cannot look up names, or mistrusts us, does not."""
    meaning = meaning_of(Refusal(stage, code, text))

    assert meaning.ruling.outcome is Outcome.TRANSIENT
    assert meaning.is_recipient_only == is_recipient_only


def test_an_enhanced_code_of_another_class_is_not_believed() -> None:
    """A 5xx is for good, whatever it says beside that."""
    ruling = meaning_of(Refusal(Stage.RCPT, 550, "4.7.1 Try again")).ruling

    assert (ruling.outcome, ruling.reason) == (Outcome.RECIPIENT, "smtp_550")


@given(
    st.sampled_from(Stage),
    st.integers(400, 599),
    st.one_of(st.text(max_size=60), st.from_regex(r"[45]\.\d{1,3}\.\d{1,3} \w*", fullmatch=True)),
)
def test_every_refusal_means_something_that_its_stage_can_mean(
    stage: Stage, code: int, text: str
) -> None:
    """Before the message none is to blame, before the recipient no recipient; a 4xx may pass."""
    outcome = meaning_of(Refusal(stage, code, text)).ruling.outcome

    allowed = {Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.MISCONFIGURED}
    if stage not in (*LOGIN, Stage.NOOP, Stage.RSET):
        allowed.add(Outcome.PERMANENT)
        if stage is not Stage.MAIL:
            allowed.add(Outcome.RECIPIENT)
    assert outcome in allowed
    if code < 500:
        assert outcome not in (Outcome.PERMANENT, Outcome.MISCONFIGURED)
    else:
        assert outcome is not Outcome.TRANSIENT or "greylist" in text.lower()


@given(st.sampled_from(Stage), st.one_of(st.integers(max_value=399), st.integers(min_value=600)))
def test_a_reply_that_is_none_is_unknown_after_the_final_dot_alone(stage: Stage, code: int) -> None:
    """Who garbles a reply may have taken the mail."""
    ruling = meaning_of(Refusal(stage, code, "")).ruling

    is_after_the_dot = stage is Stage.CONTENT
    assert ruling.outcome is (Outcome.UNKNOWN if is_after_the_dot else Outcome.TRANSIENT)
    assert ruling.surely_not_accepted is not is_after_the_dot
