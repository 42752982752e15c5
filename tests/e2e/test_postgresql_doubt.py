"""A commit is made and its answer lost: whoever waits is told when it is known, and all goes on."""

from __future__ import annotations

import psycopg
import pytest

from clarion.app import Surroundings, running
from clarion.domain.outcome import Answer, Outcome
from clarion.errors import StorageUnavailable
from clarion.settings import load
from clarion.storage.backend import recount_all
from clarion.storage.command import Accept, Defer, Intend, Settle
from clarion.storage.postgresql_store import PostgresqlStore
from clarion.testing.scripted import ACCEPTED, ScriptedProvider

pytestmark = pytest.mark.timeout(60)

PATIENCE_S = 30.0


class UnheardStore(PostgresqlStore):
    """Makes a commit that holds a command of one class, and loses its answer and the session."""

    losing: type | None = None

    def apply_all(self, batch):
        self.is_losing = self.losing is not None and any(
            isinstance(each, self.losing) for each in batch
        )
        return super().apply_all(batch)

    def end(self):
        if not self.is_losing:
            super().end()
            return
        self.losing, self.is_losing = None, False
        super().end()
        self._mark = f"{self._incarnation} {self._n}"
        self.connection.close()
        raise psycopg.OperationalError("the answer is lost")


@pytest.fixture
def provider():
    return ScriptedProvider()


@pytest.fixture
async def engine(house, provider, postgresql_url):
    """An engine whose store is named by its settings, and which that provider serves."""
    path = house.configure({"only": {"kind": "outbox"}}, {"email": ["only"]})
    stores = []

    def open_store(url, **options):
        stores.append(UnheardStore(url, **options))
        return stores[-1]

    around = Surroundings(open_store=open_store, adapters={"only": lambda: provider})
    settings = load(path, overrides={"storage": {"url": postgresql_url}})
    async with running(settings, around) as engine:
        engine.store = stores[0]
        yield engine
    assert recount_all(postgresql_url) == []


async def settle_down(house, engine):
    """Wait until nothing is left to do, by the rows and by the lane's own book."""

    async def is_quiet():
        live = ("queued", "sending", "scheduled")
        stats = await engine.service.stats()
        if not stats["accepted"] or any(stats["by_status"].get(status) for status in live):
            return None
        (lane,) = await engine.service.queues()
        return None if lane.ready or lane.waiting or lane.in_flight else stats

    return house.ended(await house.until(is_quiet, PATIENCE_S))


async def send_again_until_taken(engine, house, n):
    """Send as clients do: with a key, until there is an answer."""
    for _ in range(100):
        try:
            return await engine.service.send(**house.email(n), idempotency_key=f"k{n}")
        except StorageUnavailable:
            await house.until(lambda: engine._writer.is_writable)
    raise AssertionError("it was never taken")


@pytest.mark.parametrize("losing", [Accept, Intend, Settle])
async def test_what_was_made_unheard_is_done_once(engine, house, provider, losing):
    """Accepted, intended or ended: each is sent, once, and ends."""
    engine.store.losing = losing

    receipts = [await send_again_until_taken(engine, house, n) for n in range(5)]
    ended = [await receipt.settled(timeout=PATIENCE_S) for receipt in receipts]

    assert [each.status for each in ended] == ["sent"] * 5
    assert engine.store.losing is None
    assert await settle_down(house, engine) == {"sent": 5}
    assert len(provider.sends) == 5


async def test_a_retry_that_was_noted_unheard_is_made(engine, house, provider):
    """The lane gets to know of its timer late."""
    provider.play([Answer(Outcome.TRANSIENT, "http_500", "once")])
    engine.store.losing = Defer

    receipt = await send_again_until_taken(engine, house, 1)
    ended = await receipt.settled(timeout=PATIENCE_S)

    assert ended.status == "sent"
    assert engine.store.losing is None
    assert provider.sends[0].answer is not ACCEPTED
    assert await settle_down(house, engine) == {"sent": 1}
