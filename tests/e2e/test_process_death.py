"""Death of the process: by kill -9, by SIGTERM, by a full disk. Nothing accepted is lost."""

from __future__ import annotations

import resource

import pytest

from clarion.testing.load import Load

ROUNDS = 4
SLOTS = 8
AT_A_DEATH = 2 * SLOTS
"""Calls in doubt: for each slot one that ended and is not noted yet, and the one after it."""


async def marked(client, ids):
    """Return those of the ids that say that they may have been delivered twice."""
    return {id_ for id_ in ids if (await client.get(id_))["possibly_duplicated"]}


async def test_nothing_is_lost_when_the_process_is_killed_again_and_again(house):
    """Every 202 ends delivered; duplicates are at most what was in flight, each one marked."""
    provider = await house.sendgrid()
    provider.latency_s = 0.02
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS})}, {"email": ["only"]}
    )
    clarion = await house.start()
    load = Load(clarion.url, house.email)
    for _ in range(ROUNDS):
        n = len(load.accepted)
        await house.until(lambda n=n: len(load.accepted) > n + 60)
        await clarion.kill()
        await clarion.start()
    await load.stop()
    stats = await clarion.client.wait_drained()

    assert set(load.accepted) <= set(provider.deliveries)
    assert house.ended(stats) == {"sent": stats["accepted"]}
    doubled = set(provider.duplicates())
    assert len(doubled) <= ROUNDS * AT_A_DEATH
    assert doubled <= await marked(clarion.client, doubled)


async def test_sigterm_lets_calls_end_and_exits_with_0(house):
    """Nothing is lost and nothing doubled; what was not sent is sent by the next process."""
    provider = await house.sendgrid()
    provider.latency_s = 0.1
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS})}, {"email": ["only"]}
    )
    clarion = await house.start()
    load = Load(clarion.url, house.email)
    await house.until(lambda: len(load.accepted) > 200)

    assert await clarion.terminate() == 0

    await load.stop()
    assert provider.in_flight == 0
    await clarion.start()
    stats = await clarion.client.wait_drained()
    assert set(load.accepted) <= set(provider.deliveries)
    assert provider.duplicates() == {}
    assert house.ended(stats) == {"sent": stats["accepted"]}


async def test_every_lane_stops_taking_work_at_once(house):
    """While one lane's slow call ends, the other lane must not go on and on."""
    mail, texts = await house.sendgrid(), await house.twilio()
    mail.latency_s, texts.latency_s = 1.0, 0.02
    house.configure(
        {"mail": mail.settings(), "texts": texts.settings(bulkhead={"max_concurrent": 2})},
        {"email": ["mail"], "sms": ["texts"]},
    )
    clarion = await house.start()
    await house.send_all(clarion.client, [house.sms(n) for n in range(2000)])
    await house.send_all(clarion.client, [house.email(1)])
    await mail.wait_for(lambda: mail.in_flight == 1)
    before = texts.ledger.seen

    assert await clarion.terminate() == 0

    assert mail.deliveries.total() == 1
    assert texts.ledger.seen - before <= 20


async def test_a_full_disk_refuses_and_keeps(house):
    """Accepting answers 503, reading goes on, and all recovers when space returns."""
    provider = await house.sendgrid()
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS})}, {"email": ["only"]}
    )
    clarion = await house.start()
    provider.latency_s = 0.2
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(50)])
    await provider.wait_for(lambda: provider.in_flight == SLOTS)
    unlimited = resource.prlimit(clarion.pid, resource.RLIMIT_FSIZE)

    resource.prlimit(clarion.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))

    async def is_refused():
        answer = await clarion.client.request("POST", "/v1/notifications", json=house.email("x"))
        return answer if answer.status == 503 else None

    refusal = await house.until(is_refused)
    assert refusal.headers["Content-Type"].startswith("application/problem+json")
    assert "Retry-After" in refusal.headers
    assert (await clarion.client.get(ids[0]))["id"] == ids[0]
    health = await clarion.client.health()
    assert health.body["functions"]["accept"] != "pass"
    assert health.body["functions"]["search"] == "pass"
    assert (await clarion.client.request("GET", "/readyz")).status == 503
    assert (await clarion.client.request("GET", "/livez")).status == 200

    resource.prlimit(clarion.pid, resource.RLIMIT_FSIZE, unlimited)
    stats = await clarion.client.wait_drained()
    assert set(ids) <= set(provider.deliveries)
    assert house.ended(stats) == {"sent": stats["accepted"]}
    assert provider.duplicates() == {}
    assert (await clarion.client.request("GET", "/readyz")).status == 200


async def test_a_second_process_on_the_same_file_refuses_to_start(house):
    """Two writers on one file would lose work; the message says which file and what to do."""
    house.configure({"out": {"kind": "outbox"}}, {"email": ["out"]})
    await house.start()
    with pytest.raises(RuntimeError, match="in use by process"):
        await house.start()
