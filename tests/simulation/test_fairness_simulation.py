"""The fair share of each tenant, in a whole engine: floods, crashes, deaths and spilled rows."""

from __future__ import annotations

from functools import partial

import pytest

from clarion.testing.deed import perform
from clarion.testing.invariant import examine
from clarion.testing.simulated_provider import Mood

SLOTS = 3
STEADY = Mood("steady", latency_s=(0.2, 0.4))
BOUND = 2 + 2 * SLOTS
"""Start-time fair queueing keeps two flows within two turns; what is out or on its way, beside."""
TENANTS = {"flood": 150, "second": 60, "third": 40}


def begun_of(world, tenant):
    """Return the instants at which the first calls of a tenant's notifications began, in order."""
    mine = {id for id, request in world.promised.items() if request["tenant"] == tenant}
    account = world.accounts["only"]
    return sorted(each.at for each in account.begun if each.id in mine and each.number == 1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_in_memory", [16, 2000])
def test_tenants_that_wait_together_are_served_alike(build_world, send, seed, max_in_memory):
    """While all of them have something waiting, none is ahead by more than a few turns."""
    world = build_world(
        {"only": {"bulkhead": {"max_concurrent": SLOTS}, "health_every": 0.0}},
        {"email": ["only"]},
        seed=seed,
        queue={"max_in_memory": max_in_memory},
        defaults={"unknown_grace": 0.0},
    )
    world.accounts["only"].moods = (STEADY,)
    rng = world.rng("fairness")
    for number, (tenant, n) in enumerate(TENANTS.items()):
        send(world, 3.0 + number, n, tenant=tenant)
    for actor in ("queue:email", "supervisor", "breaker:only"):
        crash = partial(perform, kind="crash", details={"actor": actor})
        world.plan(rng.uniform(4.0, 12.0), f"crash {actor}", crash)
    world.plan(rng.uniform(6.0, 10.0), "kill", lambda world: world.kill_at("after a commit"))

    world.run(200.0)

    assert examine(world) == []
    begun = {tenant: begun_of(world, tenant) for tenant in TENANTS}
    all_wait_from = 3.0 + len(TENANTS)
    all_wait_until = min(times[-1] for times in begun.values())
    assert all_wait_until > all_wait_from + 5.0
    instants = [at for times in begun.values() for at in times]
    for at in instants:
        if all_wait_from <= at <= all_wait_until:
            served = [sum(all_wait_from < each <= at for each in begun[t]) for t in TENANTS]
            assert max(served) - min(served) <= BOUND, (at, served)
