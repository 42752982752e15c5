"""A status alone says how far an answer can be trusted and what it asks for."""

from __future__ import annotations

import pytest

from clarion.domain.outcome import Outcome
from clarion.providers.http_status import (
    DETAIL_LIMIT_CHARS,
    Ruling,
    http_default,
    reset_after_s,
    retry_after_s,
)

NOW = 1_772_600_767.0
"""Wed, 04 Mar 2026 05:06:07 GMT."""


@pytest.mark.parametrize(
    ("status", "outcome", "surely"),
    [
        (500, Outcome.TRANSIENT, False),
        (501, Outcome.TRANSIENT, False),
        (503, Outcome.TRANSIENT, True),
        (502, Outcome.UNKNOWN, False),
        (504, Outcome.UNKNOWN, False),
        (429, Outcome.THROTTLED, True),
        (401, Outcome.MISCONFIGURED, True),
        (403, Outcome.MISCONFIGURED, True),
        (404, Outcome.MISCONFIGURED, True),
        (408, Outcome.TRANSIENT, True),
        (425, Outcome.TRANSIENT, True),
        (400, Outcome.PERMANENT, True),
        (413, Outcome.PERMANENT, True),
        (422, Outcome.PERMANENT, True),
        (451, Outcome.MISCONFIGURED, True),
        (200, Outcome.UNKNOWN, False),
        (204, Outcome.UNKNOWN, False),
        (301, Outcome.UNKNOWN, False),
        (307, Outcome.UNKNOWN, False),
        (999, Outcome.UNKNOWN, False),
    ],
)
def test_the_providers_own_answer_is_ruled_by_its_status(
    status: int, outcome: Outcome, surely: bool
) -> None:
    """A 503 was not processed; a 500 may have been; an odd success tells nothing."""
    ruling = http_default(status, is_own_shape=True)

    assert (ruling.outcome, ruling.surely_not_accepted) == (outcome, surely)
    assert ruling.reason == f"http_{status}"
    assert str(status) in ruling.words


@pytest.mark.parametrize("status", range(500, 600))
def test_a_failure_that_the_provider_did_not_write_is_unknown(status: int) -> None:
    """A proxy answers for a provider that may have taken the message."""
    ruling = http_default(status, is_own_shape=False)

    assert (ruling.outcome, ruling.surely_not_accepted) == (Outcome.UNKNOWN, False)


@pytest.mark.parametrize("status", range(400, 500))
def test_a_refusal_counts_whoever_wrote_it(status: int) -> None:
    """An explicit 4xx was not processed."""
    assert http_default(status, is_own_shape=False) == http_default(status, is_own_shape=True)
    assert http_default(status, is_own_shape=False).surely_not_accepted


@pytest.mark.parametrize(
    ("text", "delay_s"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0.5", 0.5),
        ("1000000000", 1e9),
        ("Wed, 04 Mar 2026 05:07:07 GMT", 60.0),
        ("Wed, 04 Mar 2026 05:07:07", 60.0),
        ("Wed, 04 Mar 2026 05:05:07 GMT", None),
        ("0", None),
        ("-1", None),
        ("nan", None),
        ("1e999", None),
        ("soon", None),
        ("", None),
        ("Wed, 99 Mar 2026 05:07:07 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, delay_s: float | None) -> None:
    """What is absurdly long is the policy's to cap; what is not in the future is no wish."""
    assert retry_after_s({"Retry-After": text}, NOW) == delay_s


def test_a_missing_wish_is_none() -> None:
    """No header, no wish."""
    assert retry_after_s({}, NOW) is None
    assert reset_after_s({}, NOW) is None


@pytest.mark.parametrize(
    ("text", "delay_s"), [(str(int(NOW) + 30), 30.0), ("30", None), ("x", None), ("inf", None)]
)
def test_a_reset_is_an_instant_in_epoch_seconds(text: str, delay_s: float | None) -> None:
    """SendGrid names the instant; a past one is no wish."""
    assert reset_after_s({"X-RateLimit-Reset": text}, NOW) == delay_s


def test_long_words_of_a_provider_are_cut() -> None:
    """A timeline keeps a sentence, not a page."""
    answer = Ruling(Outcome.PERMANENT, "x", "refused").answer("y" * 10_000)

    assert len(answer.detail) == DETAIL_LIMIT_CHARS
    assert answer.detail.startswith("refused: yyy")
