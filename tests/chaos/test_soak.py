"""A long, rough day in minutes: providers fail, the process dies, and at the end the counts agree.

`make soak MINUTES=10` runs it for half of them, fractions are allowed; `tests/simulation` has the
other half. The seed is told; CLARION_SOAK_SEED sets it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter

import aiohttp
import pytest

from clarion.testing import (
    ClarionClient,
    ClarionProcess,
    Fault,
    SendGridLookalike,
    TwilioLookalike,
    settings_toml,
)
from clarion.testing.load import Load, audit, read_all

MINUTES = float(os.environ.get("CLARION_SOAK_MINUTES", "1")) / 2
SEED = int(os.environ.get("CLARION_SOAK_SEED", str(random.SystemRandom().randrange(2**32))))
SLOTS = 8
DRAIN_S = 180.0


class Day:
    """Load and trouble of one soak."""

    def __init__(self, clarion, client, providers):
        self.rng = random.Random(SEED)
        self.clarion = clarion
        self.client = client
        self.providers = providers
        self.deaths = 0
        self.polls = 0
        self._until = time.monotonic() + MINUTES * 60

    @property
    def is_over(self):
        return time.monotonic() >= self._until

    def notification(self, number):
        """Return what the n-th order is."""
        common = {
            "text": f"Message {number}",
            "delivery": self.rng.choice(["at_least_once", "at_least_once", "at_most_once"]),
            "tenant": f"tenant-{number % 7}",
            "priority": self.rng.choice(["critical", "high", "normal", "normal", "low"]),
        }
        if number % 3:
            return {"channel": "email", "to": f"u{number}@example.com", "subject": "Hi", **common}
        return {"channel": "sms", "to": "+15005550006", **common}

    async def trouble(self):
        """Break one provider after the other, in every way, and mend it again."""
        while not self.is_over:
            provider = self.rng.choice(self.providers)
            provider.behave(self.rng.choice(self.faults(provider)), times=self.rng.randint(1, 60))
            await asyncio.sleep(self.rng.uniform(0.1, 1.5))
            if self.rng.random() < 0.6:
                provider.recover()

    @staticmethod
    def faults(provider):
        return [
            provider.failure,
            Fault.hang(),
            Fault.reset(),
            Fault.accept_then_hang(),
            Fault.accept_then_reset(),
            Fault.throttled(0.5),
            Fault.unauthorized(),
        ]

    async def die(self):
        """Kill the process, and let it stand up again."""
        while not self.is_over:
            await asyncio.sleep(self.rng.uniform(2.0, 8.0))
            if self.rng.random() < 0.7:
                await self.clarion.kill()
            else:
                assert await self.clarion.terminate() == 0
            self.deaths += 1
            await self.clarion.start()

    async def reconcile(self):
        """Look at the counts all the time."""
        while not self.is_over:
            try:
                stats = await self.client.stats()
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.1)
                continue
            assert stats["accepted"] == sum(stats["by_status"].values())
            self.polls += 1
            await asyncio.sleep(0.1)


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + DRAIN_S + 120)
async def test_nothing_is_lost_on_a_rough_day(tmp_path):
    """Every 202 ends; nothing is doubled unmarked; at most once is once; the counts agree."""
    print(f"\nseed {SEED}, {MINUTES:g} minutes")
    async with (
        SendGridLookalike() as first,
        SendGridLookalike() as second,
        TwilioLookalike() as sms,
    ):
        settings_toml(
            tmp_path / "settings.toml",
            providers={
                name: {
                    "timeout": 1.0,
                    "misconfigured_probe": 1.0,
                    "bulkhead": {"max_concurrent": SLOTS},
                    "breaker": {"timeout": 0.5, "timeout_max": 2.0, "half_open_timeout": 2.0},
                    **each.settings(),
                }
                for name, each in (("first", first), ("second", second), ("sms", sms))
            },
            channels={
                "email": {"providers": ["first", "second"], "retry": {"max_delay": 2.0}},
                "sms": {"providers": ["sms"], "retry": {"max_delay": 2.0, "max_attempts": 50}},
            },
            defaults={"unknown_grace": 1.0},
            # Twilio learns our id from the address that it is to report to.
            server={"public_url": "https://clarion.example"},
        )
        # Not the process's own client: that one closes at each death.
        async with ClarionProcess(tmp_path) as clarion, ClarionClient(clarion.url) as client:
            day = Day(clarion, client, [first, second, sms])
            async with Load(clarion.url, day.notification, pause_s=0.01) as load:
                await asyncio.gather(day.trouble(), day.die(), day.reconcile())
            for provider in day.providers:
                provider.recover()
            stats = await client.wait_drained(DRAIN_S)
            await _settle_accounts(day, load, stats)


async def _settle_accounts(day, load, stats):
    delivered = Counter()
    for provider in day.providers:
        delivered.update(provider.deliveries)
    found = await read_all(day.client)
    broken = audit(load.accepted, found, delivered)
    ends = Counter(one["status"] for one in found.values())

    assert not broken, f"seed {SEED}: {len(broken)} promises broken: {broken[:10]}"
    assert stats["accepted"] == sum(stats["by_status"].values()) == len(found)
    assert {answer.status for answer in load.refused} <= {429, 503}
    print(
        f"{len(load.accepted)} accepted, {day.deaths} deaths, {day.polls} polls,"
        f" ends {dict(ends)}, doubled and marked {sum(n > 1 for n in delivered.values())}"
    )
