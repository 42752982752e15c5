"""PostgreSQL dies, hangs and cuts its sessions, under load. Nothing accepted is lost."""

from __future__ import annotations

import asyncio
import os
import signal

import psycopg
import pytest

from clarion.testing.load import Load

pytestmark = pytest.mark.timeout(300)

SLOTS = 8
AT_A_DEATH = 2 * SLOTS
"""Calls in doubt: for each slot one that ended and is not noted yet, and the one after it."""
CUTS = 12
CUT_EVERY_S = 0.2
PATIENCE_S = 60.0


@pytest.fixture
async def provider(house):
    """A provider that takes a little while, and the route to it."""
    provider = await house.sendgrid()
    provider.latency_s = 0.02
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS})}, {"email": ["only"]}
    )
    return provider


def stored_at(server):
    return {"CLARION_STORAGE__URL": server.get_uri()}


async def marked(client, ids):
    """Return those of the ids that say that they may have been delivered twice."""
    return {id_ for id_ in ids if (await client.get(id_))["possibly_duplicated"]}


async def check_books(house, clarion, provider, load, deaths):
    """Everything that was answered with 202 was delivered; what came twice is marked."""
    await load.stop()
    stats = await clarion.client.wait_drained(PATIENCE_S)
    assert set(load.accepted) <= set(provider.deliveries)
    assert house.ended(stats) == {"sent": stats["accepted"]}
    doubled = set(provider.duplicates())
    assert len(doubled) <= deaths * AT_A_DEATH
    assert doubled <= await marked(clarion.client, doubled)


async def test_nothing_is_lost_when_the_process_is_killed(house, provider, own_postgresql):
    """As on SQLite: the next process finds what may be out, and marks it."""
    clarion = await house.start(env=stored_at(own_postgresql))
    load = Load(clarion.url, house.email)
    for _ in range(3):
        n = len(load.accepted)
        await house.until(lambda n=n: len(load.accepted) > n + 60, PATIENCE_S)
        await clarion.kill()
        await clarion.start()

    await check_books(house, clarion, provider, load, deaths=3)


async def test_a_server_that_dies_is_a_state_that_ends(house, provider, own_postgresql):
    """Meanwhile 503 with Retry-After, not ready but alive; afterwards all goes on by itself."""
    clarion = await house.start(env=stored_at(own_postgresql))
    load = Load(clarion.url, house.email)
    await house.until(lambda: len(load.accepted) > 100, PATIENCE_S)

    os.kill(own_postgresql.get_pid(), signal.SIGQUIT)

    await house.until(lambda: len(load.refused) > 5, PATIENCE_S)
    answer = await clarion.client.request("POST", "/v1/notifications", json=house.email())
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "store cannot write" in answer.body["detail"]
    assert (await clarion.client.request("GET", "/readyz")).status == 503
    assert (await clarion.client.request("GET", "/livez")).status == 200

    await asyncio.to_thread(own_postgresql.ensure_postgres_running)
    n = len(load.accepted)
    await house.until(lambda: len(load.accepted) > n + 100, PATIENCE_S)
    assert (await clarion.client.request("GET", "/readyz")).status == 200
    await check_books(house, clarion, provider, load, deaths=1)


async def test_sessions_may_be_cut_at_any_moment(house, provider, own_postgresql):
    """In the middle of a transaction, before a commit, after it: each is looked up."""
    clarion = await house.start(env=stored_at(own_postgresql))
    load = Load(clarion.url, house.email)
    await house.until(lambda: len(load.accepted) > 50, PATIENCE_S)

    with psycopg.connect(own_postgresql.get_uri(), autocommit=True) as admin:
        for _ in range(CUTS):
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'clarion %'"
            )
            await asyncio.sleep(CUT_EVERY_S)
    n = len(load.accepted)
    await house.until(lambda: len(load.accepted) > n + 100, PATIENCE_S)

    await check_books(house, clarion, provider, load, deaths=CUTS)


async def test_a_server_that_hangs_stops_nothing_for_good(house, provider, own_postgresql):
    """No answer for a while is no error: what waits goes on, and nothing is doubled."""
    clarion = await house.start(env=stored_at(own_postgresql))
    load = Load(clarion.url, house.email)
    await house.until(lambda: len(load.accepted) > 50, PATIENCE_S)
    with psycopg.connect(own_postgresql.get_uri(), autocommit=True) as admin:
        (pid,) = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'clarion writer'"
        ).fetchone()

    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(1.0)
    assert (await clarion.client.request("GET", "/livez")).status == 200
    os.kill(pid, signal.SIGCONT)

    n = len(load.accepted)
    await house.until(lambda: len(load.accepted) > n + 50, PATIENCE_S)
    await check_books(house, clarion, provider, load, deaths=0)


async def test_a_server_that_is_away_at_the_start_is_waited_for(house, provider, own_postgresql):
    """Said in the log, with the reason; then everything is as ever."""
    env = stored_at(own_postgresql)
    own_postgresql.stop()
    clarion = await house.start_later(env=env)
    await house.until(lambda: "storage_awaited" in clarion.log, PATIENCE_S)
    assert "cannot use the database" in clarion.log

    await asyncio.to_thread(own_postgresql.ensure_postgres_running)

    await clarion.wait_ready(PATIENCE_S)
    await house.send_all(clarion.client, [house.email(1)])
    await provider.wait_for(lambda: len(provider.deliveries) == 1)


async def test_a_second_process_stands_by_and_takes_over(house, provider, own_postgresql):
    """One writes at a time: the other waits for it to end, however that happens."""
    env = stored_at(own_postgresql)
    first = await house.start(env=env)
    load = Load(first.url, house.email)
    await house.until(lambda: len(load.accepted) > 50, PATIENCE_S)
    second = await house.start_later(env=env)
    await house.until(lambda: "storage_awaited" in second.log, PATIENCE_S)

    await first.kill()

    await second.wait_ready(PATIENCE_S)
    await check_books(house, second, provider, load, deaths=1)


async def test_a_process_whose_place_another_has_taken_ends(house, provider, own_postgresql):
    """Its memory is of the past; a supervisor that starts it anew makes it the standby."""
    env = stored_at(own_postgresql)
    first = await house.start(env=env)
    load = Load(first.url, house.email)
    await house.until(lambda: len(load.accepted) > 50, PATIENCE_S)
    second = await house.start_later(env=env)
    await house.until(lambda: "storage_awaited" in second.log, PATIENCE_S)

    first.signal(signal.SIGSTOP)
    with psycopg.connect(own_postgresql.get_uri(), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'clarion writer' AND locktype = 'advisory' AND granted"
        )
    await second.wait_ready(PATIENCE_S)
    first.signal(signal.SIGCONT)

    assert await first.wait_death(PATIENCE_S) == 1
    assert "another process has written" in first.log
    await check_books(house, second, provider, load, deaths=1)


async def test_a_process_that_waits_for_its_store_can_be_stopped(house, provider, own_postgresql):
    """Whoever stops it does not wait for a minute, nor has to kill it."""
    env = stored_at(own_postgresql)
    own_postgresql.stop()
    clarion = await house.start_later(env=env)
    await house.until(lambda: "storage_awaited" in clarion.log, PATIENCE_S)

    clarion.signal(signal.SIGTERM)

    assert await clarion.wait_death(PATIENCE_S / 4) == 0
