"""The crash oracle: real processes die at named points, and no promise may break.

A parent keeps every 202, has the process die, opens a copy of its files, starts it again on them,
and at the end compares with what the look-alike took. `make soak MINUTES=20` makes 1,000 rounds.
What fails says which round, which point and which seed; CLARION_CRASH_SEED sets the seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from contextlib import asynccontextmanager, suppress
from itertools import islice

import aiohttp
import pytest

from clarion.testing import DyingProcess, Fault, SendGridLookalike, settings_toml
from clarion.testing.client import LIVE_STATUSES
from clarion.testing.dying_server import AT_END, POINTS
from clarion.testing.inquest import examine
from clarion.testing.load import Load, audit, read_all, recount_apart

SEED = int(os.environ.get("CLARION_CRASH_SEED", str(random.SystemRandom().randrange(2**32))))
MINUTES = float(os.environ.get("CLARION_SOAK_MINUTES", "1"))
ROUNDS = 50
SOAK_ROUNDS = max(5, round(50 * MINUTES))
ROUND_S = 20.0
RECENT = 1000
"""Receipts tell of the latest so many calls: a look-alike does not remember all that it took."""
SLOTS = 8
LATENCY_S = 0.02

RANDOM = "random"
DRAIN = "drain "
MIGRATIONS = [point for point in POINTS if point.startswith("migration.")]
LATER = [
    *(point for point in POINTS if point not in MIGRATIONS),
    *(DRAIN + point for point in ("settle.before", "settle.during", "settle.after", "wire.after")),
    *[RANDOM] * 5,
]
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)


class Oracle:
    """Rounds of one life after the other on the same files, and the accounts of all."""

    def __init__(self, directory, provider, rounds):
        self.rng = random.Random(SEED)
        self.directory = directory
        self.provider = provider
        self.clarion = DyingProcess(directory)
        self.load = None
        self.patience_s = ROUND_S
        """How long a life may last once the fuse is lit."""
        self.flown = Counter()
        """Per id, at how many deaths a call of it was in flight."""
        self.receipts = Counter()
        """What the receipts of this round were answered."""
        self.told = set()
        """Ids of which a receipt was answered with 200."""
        self.at = "before the first round"
        self._order = [*self.rng.sample(MIGRATIONS, len(MIGRATIONS)), *self._later(rounds)]

    def _later(self, rounds):
        left = rounds - len(MIGRATIONS)
        points = []
        while len(points) < left:
            points += self.rng.sample(LATER, len(LATER))
        return points[:left]

    def configure(self):
        mail = self.provider.settings(
            timeout=5.0,
            bulkhead={"max_concurrent": SLOTS},
            # The circuit stays closed: what is to be reached lies behind it.
            breaker={"failure_threshold": 10_000},
        )
        settings_toml(
            self.directory / "settings.toml",
            providers={"mail": mail},
            channels={"email": {"providers": ["mail"]}},
            retry={"max_attempts": 1000, "initial_delay": 0.05, "max_delay": 0.2},
        )
        self.provider.event_webhook_url = f"{self.clarion.url}/callbacks/mail"
        self.provider.latency_s = LATENCY_S

    def order(self, number):
        """One notification; each seventh order is a batch."""
        if number % 7 == 0:
            return [self.email(f"{number}.{k}") for k in range(self.rng.randint(2, 12))]
        return self.email(str(number))

    def email(self, reference):
        policy = self.rng.choice(["at_least_once", "at_most_once"])
        priority = self.rng.choice(["critical", "high", "normal", "low"])
        return {
            "channel": "email", "to": f"u{reference}@example.com", "subject": "Hello",
            "text": "x" * self.rng.choice([10, 10, 6000]), "delivery": policy,
            "priority": priority, "reference": reference,
        }  # fmt: skip

    # --- rounds ----------------------------------------------------------------------------

    async def run(self):
        """Die in every round; afterwards everything that was acknowledged is on the disk."""
        for number, point in enumerate(self._order, 1):
            passage = self.rng.randint(1, 12)
            if point.startswith(("batch", "redrive", "sweep", "close", "migration", DRAIN)):
                passage = self.rng.randint(1, 30) if point == "migration.inside" else 1
            self.at = f"round {number} of {len(self._order)}: {point} #{passage}, seed {SEED}"
            try:
                self._arm(point, passage)
                await self._die(point)
                self._hold_inquest()
            except (TimeoutError, RuntimeError) as error:
                pytest.fail(f"{self.at}: {error}")
            self.provider.recover()

    def _arm(self, point, passage):
        if point in MIGRATIONS:
            for file in self.directory.glob("clarion.db*"):
                file.unlink()
        clarion = self.clarion
        clarion.point = None if point == RANDOM else point.removeprefix(DRAIN)
        clarion.passage = passage
        is_start = point.startswith(("migration.", "sweep."))
        clarion.is_lit = is_start or (DRAIN not in point and self.rng.random() < 0.3)

    async def _die(self, point):
        clarion, before = self.clarion, len(self.load.accepted)
        self.receipts.clear()
        clarion.spawn()
        try:
            if point == RANDOM:
                await self._kill_soon()
            elif not clarion.is_lit:
                await self._light(is_drain=DRAIN in point or point in AT_END)
            code = await self._wait_death(point)
        except TimeoutError as error:
            raise TimeoutError(f"{await self._standing(before)}\n{error}") from error
        finally:
            await clarion.kill()
        assert code in KILLED, f"{self.at}: exited with {code}\n{clarion.log[-4000:]}"

    async def _standing(self, before):
        """Tell whether it is the process that stands still, or those around it."""
        return (
            f"in this round {len(self.load.accepted) - before} were accepted and receipts answered"
            f" {dict(self.receipts)}; the look-alike: {self.provider.ledger.outcomes},"
            f" {self.provider.in_flight} in flight\n{await self.clarion.client.standing()}"
        )

    async def _kill_soon(self):
        await asyncio.sleep(self.rng.uniform(0.0, 1.5))
        await self.clarion.kill()

    async def _light(self, *, is_drain):
        """Let some work pass before passages count."""
        await self.clarion.wait_ready()
        enough = len(self.load.accepted) + self.rng.randint(1, 40)
        try:
            async with asyncio.timeout(ROUND_S):
                while len(self.load.accepted) < enough or not self.provider.ledger.in_flight:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise TimeoutError(f"too little work passed in {ROUND_S} s") from None
        self.clarion.signal(signal.SIGUSR1)
        if is_drain:
            self.clarion.signal(signal.SIGTERM)

    async def _wait_death(self, point):
        """Lure it into its death; RuntimeError where that fails, TimeoutError where it lives on."""
        lure = asyncio.create_task(self._lure(point))
        death = asyncio.create_task(self.clarion.wait_death(self.patience_s))
        try:
            await asyncio.wait((lure, death), return_when=asyncio.FIRST_COMPLETED)
            if lure.done():
                raise RuntimeError(f"nothing lures it any more: {lure.exception()!r}")
            return await death
        finally:
            lure.cancel()
            death.cancel()
            await asyncio.wait((lure, death))

    async def _lure(self, point):
        """Bring about what the point needs, until the process is dead."""
        while True:
            if point.startswith("defer"):
                # Surely takes nothing: a 500 would be an unknown outcome at most once.
                self.provider.behave(Fault.throttled(0.05), times=2)
            elif point.startswith("redrive"):
                self.provider.behave(Fault.error(400), times=10)
                await self._try("POST", "/v1/dead-letters/redrive", {"rate": 1000})
            elif point.startswith("receipt"):
                await self._report()
            elif point in AT_END and self.clarion.is_lit:
                await self._end_life()
            await asyncio.sleep(0.05)

    async def _try(self, method, path, body):
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            await self.clarion.client.request(method, path, json=body)

    async def _report(self):
        taken = self._taken_lately()
        for id in self.rng.sample(taken, min(5, len(taken))):
            answer = await self._report_one(id)
            self.receipts[answer] += 1
            if answer == 200:
                self.told.add(id)

    def _taken_lately(self):
        """Return what has a receipt to come; at most once has none, and so stays in doubt."""
        lately = islice(reversed(self.provider.requests), RECENT)
        ids = dict.fromkeys(seen.correlation_id for seen in lately if seen.is_delivered)
        accepted = self.load.accepted
        return [id for id in ids if id in accepted and _is_repeatable(accepted[id])]

    async def _report_one(self, id):
        try:
            return await self.provider.report(id, self.rng.choice(["delivered", "bounce"]))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return type(error).__name__

    async def _end_life(self):
        with suppress(RuntimeError):
            await self.clarion.wait_ready()
            self.clarion.signal(signal.SIGTERM)

    # --- accounts --------------------------------------------------------------------------

    def _hold_inquest(self):
        corpse = examine(self.directory / "clarion.db")
        assert not corpse.broken, f"{self.at}: {corpse.broken[:10]}"
        lost = self.load.accepted.keys() - corpse.ids
        assert not lost, f"{self.at}: {len(lost)} acknowledged and gone: {sorted(lost)[:5]}"
        untold = self.told - corpse.told_of
        assert not untold, f"{self.at}: receipts answered and gone: {sorted(untold)[:5]}"
        assert len(corpse.out_once) <= SLOTS, f"{self.at}: more intents than slots"
        assert len(corpse.in_flight) <= 2 * SLOTS, f"{self.at}: more intents than two for a slot"
        self.flown.update(corpse.in_flight)

    async def _drain(self):
        """Return the stats once all has ended; TimeoutError when for a while nothing did.

        What waits grows with the rounds, to thousands after hundreds: a life that ends within a
        second sends less than it accepts.
        """
        client, live = self.clarion.client, float("inf")
        while True:
            try:
                return await client.wait_drained(ROUND_S)
            except TimeoutError:
                stats = await client.stats()
            before, live = live, sum(stats["by_status"].get(each, 0) for each in LIVE_STATUSES)
            if live >= before:
                raise TimeoutError(f"seed {SEED}: nothing ends any more\n{await client.standing()}")

    async def settle_accounts(self):
        """Let everything end, and compare what everybody says."""
        clarion, provider = self.clarion, self.provider
        clarion.point = None
        await clarion.start()
        stats = await self._drain()
        found = await read_all(clarion.client)
        accepted, delivered = self.load.accepted, provider.deliveries

        broken = audit(accepted, found, delivered)
        broken += [
            f"{id} was delivered {n} times and in flight at {self.flown[id]} deaths"
            for id, n in delivered.items()
            if n > 1 + self.flown[id]
        ]
        lost_sight_of = {id for id, one in found.items() if one["status"] == "unknown"}
        flown_once = {id for id in self.flown if not _is_repeatable(accepted.get(id, {}))}
        broken += [f"{id} is unknown for no reason" for id in lost_sight_of - self.flown.keys()]
        broken += [
            f"{id} was in flight at a death, is at most once, and is {found[id]['status']}"
            for id in (flown_once & accepted.keys()) - lost_sight_of
        ]
        references = Counter(one["reference"] for one in found.values())
        broken += [
            f"order {each} was accepted {n} times under one key"
            for each, n in references.items()
            if n > 1 and "." not in each
        ]

        assert not broken, f"seed {SEED}: {len(broken)} promises broken: {broken[:10]}"
        assert stats["accepted"] == sum(stats["by_status"].values()) == len(found)
        assert Counter(one["status"] for one in found.values()) == Counter(stats["by_status"])
        assert await clarion.terminate() == 0
        assert await recount_apart(clarion) == []
        doubled = len(provider.duplicates())
        assert doubled <= len(self.flown)
        print(
            f"\nseed {SEED}: {len(self._order)} deaths, {len(accepted)} acknowledged, 0 lost, in"
            f" flight at a death {self.flown.total()}, doubled and marked {doubled}, ends"
            f" {dict(stats['by_status'])}"
        )


def _is_repeatable(body):
    return body.get("delivery") != "at_most_once"


@asynccontextmanager
async def _oracle(directory, rounds):
    async with SendGridLookalike() as provider:
        oracle = Oracle(directory, provider, rounds)
        oracle.configure()
        try:
            async with Load(
                oracle.clarion.url, oracle.order, is_keyed=True, pause_s=0.01
            ) as oracle.load:
                yield oracle
        finally:
            await oracle.clarion.aclose()


async def _consult(directory, rounds):
    async with _oracle(directory, rounds) as oracle:
        await oracle.run()
        await oracle.load.stop()
        await oracle.settle_accounts()


@pytest.mark.timeout(600)
async def test_no_promise_breaks_wherever_the_process_dies(tmp_path):
    """0 lost, duplicates at most in flight and all marked, at most once is once, counts agree."""
    await _consult(tmp_path, ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_ROUNDS * 4 + 300)
async def test_no_promise_breaks_over_many_deaths(tmp_path):
    """The same for as many rounds as there is time for."""
    await _consult(tmp_path, SOAK_ROUNDS)


# --- the oracle itself -----------------------------------------------------------------------


async def test_a_lure_that_fails_is_not_taken_for_a_process_that_lives_on(tmp_path):
    """A look-alike that cannot send a receipt fails the round, with its own words."""

    async def forget(id, _event):
        raise KeyError(f"{id} was not taken")

    async with _oracle(tmp_path, ROUNDS) as oracle:
        oracle.provider.report = forget
        oracle._arm("receipt.after", 1)

        with pytest.raises(RuntimeError, match="was not taken"):
            await oracle._die("receipt.after")


async def test_a_process_that_lives_on_says_how_it_stands(tmp_path):
    """Whether it stands still, or has nothing to do: its own words, and of those around it."""
    async with _oracle(tmp_path, ROUNDS) as oracle:
        oracle.patience_s = 0.5
        oracle._arm("accept.after", 1_000_000)
        oracle.clarion.is_lit = False

        with pytest.raises(TimeoutError) as caught:
            await oracle._die("accept.after")

    words = str(caught.value)
    assert re.search(r"in this round [1-9]\d* were accepted and receipts answered \{\}", words)
    assert '/v1/stats: 200 {"accepted": ' in words
    assert '/v1/queues: 200 {"items": [{"channel": "email"' in words
    assert '/v1/providers: 200 {"items": [{"name": "mail"' in words
    assert '/health: 200 {"status": "pass"' in words
    assert '{"event": "point_passed", "point": "accept.after", "left": 99' in words


async def test_receipts_come_however_much_was_taken_in_earlier_rounds(tmp_path):
    """A look-alike forgets what it took long ago, and sends no receipt of that."""
    async with _oracle(tmp_path, ROUNDS) as oracle:
        for id in (f"old{k}" for k in range(20_000)):
            oracle.load.accepted[id] = {}
            oracle.provider.deliveries[id] += 1
            oracle.provider._taken.note(id, {"clarion_id": id})
        oracle._arm("receipt.after", 3)

        await oracle._die("receipt.after")

        assert oracle.receipts[200] >= 2
