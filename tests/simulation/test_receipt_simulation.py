"""Receipts amid chaos: what a provider told, and was answered for, holds from then on."""

from __future__ import annotations

import os
from functools import partial
from random import Random

import pytest

from clarion.domain.notification import Status
from clarion.domain.receipt import Receipt
from clarion.errors import ClarionError
from clarion.storage.sqlite import connect_reader
from clarion.testing.chaos import Chaos, chaos, ends_at_s
from clarion.testing.invariant import examine

SEEDS = int(os.environ.get("CLARION_SEEDS", "4"))
ONE = os.environ.get("CLARION_SEED")
CHAOS = Chaos(horizon_s=60.0, notifications=150, deaths=3, crashes=15, aftermaths=0, receipts=0.0)
TELLINGS = 150
GOOD = (Status.SENT, Status.DELIVERED)


class Tellings:
    """Tells of messages that the accounts took, at any moment, twice, and out of order."""

    def __init__(self, world, seed):
        self.world = world
        self.rng = Random(f"{seed} receipts")
        self.answered = []
        """(virtual second, receipt, verdicts) of what was answered for."""
        for number in range(TELLINGS):
            at = self.rng.uniform(0.0, CHAOS.horizon_s + 60.0)
            world.plan(at, "tell", partial(self.tell, number=number))

    async def tell(self, world, *, number):
        receipts = self.some(world, number)
        if world.engine is None or not receipts:
            return
        try:
            verdicts = await world.engine.service.receive(receipts)
        except ClarionError as error:
            world.note(f"not kept: {type(error).__name__}")
            return
        assert verdicts.total() == len(receipts)
        self.answered += [(world.now(), receipt, verdicts) for receipt in receipts]

    def some(self, world, number):
        taken = sorted(
            (id, account.name) for account in world.accounts.values() for id in account.taken
        )
        if not taken:
            return []
        receipts = []
        # The latest are the likeliest to be out, or to wait.
        for id, provider in self.rng.choices(taken[-12:], k=self.rng.randint(1, 6)):
            status = self.rng.choice([*GOOD, Status.DELIVERED, Status.UNDELIVERED, None])
            key = f"{status} {self.rng.randint(0, 1)}"
            receipts.append(Receipt(id, provider, "told", key, world.wall_now(), status))
        return receipts


def final_statuses(world):
    connection = connect_reader(world.path)
    try:
        return dict(connection.execute("SELECT id, status FROM notifications").fetchall())
    finally:
        connection.close()


def calls_begun(world):
    """Return (virtual second, id) of every call that an account saw begin."""
    for line in world.trace:
        at, _, what = line.strip().partition(" ")
        words = what.split()
        if len(words) > 2 and words[1] == "<":
            yield float(at), words[2].partition("/")[0]


@pytest.mark.parametrize("seed", [int(ONE)] if ONE else range(SEEDS))
def test_what_was_answered_for_holds(seed, tmp_path):
    """Counts reconcile, nothing is lost, and who is known to have it is not sent it again."""
    world = chaos(seed, tmp_path, CHAOS)
    tellings = Tellings(world, seed)
    world.run(ends_at_s(CHAOS))

    assert examine(world) == []
    statuses = final_statuses(world)
    good = [(at, one) for at, one, _ in tellings.answered if one.status in GOOD]
    told_delivered = {one.notification_id for _, one in good if one.status is Status.DELIVERED}
    assert {statuses[id] for id in told_delivered} <= {"delivered", "undelivered"}
    told_at = {}
    for at, one in good:
        told_at.setdefault(one.notification_id, at)
    late = [(at, id) for at, id in calls_begun(world) if at > told_at.get(id, at)]
    assert late == []


def test_the_chaos_meets_every_case(tmp_path):
    """Else the test above would hold for want of trouble."""
    verdicts, ended = set(), set()
    for seed in range(8):
        (tmp_path / str(seed)).mkdir()
        world = chaos(seed, tmp_path / str(seed), CHAOS)
        tellings = Tellings(world, seed)
        world.run(ends_at_s(CHAOS))
        verdicts.update(verdict for _, _, each in tellings.answered for verdict in each)
        ended.update(final_statuses(world).values())

    assert {"moved", "kept", "repeated"} <= verdicts
    assert {"sent", "delivered", "undelivered", "unknown"} <= ended
