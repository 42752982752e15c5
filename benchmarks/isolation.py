"""What a hanging provider costs its neighbours: text messages beside e-mail that never answers.

The same text messages are sent twice in one process: while the e-mail provider is well, and while
each of its slots hangs. What counts is the second time by the first.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from clarion.testing import ClarionProcess, Fault, SendGridLookalike, TwilioLookalike, settings_toml

SLOTS = 32
MESSAGES = 2_000
DRAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Isolation:
    """Text messages per second beside a provider that is well, and beside one that hangs."""

    well_per_s: float
    hanging_per_s: float
    ratio: float
    """Median over the rounds' own ratios; the promise is 0.9."""


async def measure(rounds: int) -> Isolation:
    """Measure in turns and return the medians."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        async with SendGridLookalike() as mail, TwilioLookalike() as texts:
            _write_settings(Path(name), mail, texts)
            async with ClarionProcess(Path(name)) as clarion:
                await _send(clarion, texts)
                pairs = [await _pair(clarion, mail, texts) for _ in range(rounds)]
    well, hanging = zip(*pairs, strict=True)
    return Isolation(
        median(well), median(hanging), median(after / before for before, after in pairs)
    )


def _write_settings(directory: Path, mail: SendGridLookalike, texts: TwilioLookalike) -> None:
    settings_toml(
        directory / "settings.toml",
        providers={
            "mail": {
                **mail.settings(),
                "bulkhead": {"max_concurrent": SLOTS},
                "breaker": {"failure_threshold": 1_000_000},
            },
            "texts": texts.settings(),
        },
        channels={"email": ["mail"], "sms": ["texts"]},
    )


async def _pair(
    clarion: ClarionProcess, mail: SendGridLookalike, texts: TwilioLookalike
) -> tuple[float, float]:
    well = await _send(clarion, texts)
    mail.behave(Fault.hang())
    await clarion.client.batch([_mail(number) for number in range(SLOTS)])
    await mail.wait_for(lambda: mail.in_flight == SLOTS)
    hanging = await _send(clarion, texts)
    mail.recover()
    await clarion.client.wait_drained(DRAIN_S)
    return well, hanging


async def _send(clarion: ClarionProcess, texts: TwilioLookalike) -> float:
    """Send the text messages in one batch; return how many per second were delivered."""
    expected = texts.deliveries.total() + MESSAGES
    started_at = time.monotonic()
    await clarion.client.batch([_text(number) for number in range(MESSAGES)])
    await texts.wait_for(expected, timeout_s=DRAIN_S)
    return MESSAGES / (time.monotonic() - started_at)


def _mail(number: int) -> dict[str, str]:
    return {"channel": "email", "to": f"user{number}@example.com", "text": "Hello"}


def _text(number: int) -> dict[str, str]:
    return {"channel": "sms", "to": "+15005550006", "text": f"Message {number}"}
