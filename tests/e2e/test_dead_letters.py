"""Dead letters: looked through, redriven at a rate, discarded; nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from clarion.domain.instant import parse_instant
from clarion.domain.notification import Content, Delivery, Draft, Job, JobState, Priority, Status
from clarion.policies.identifier import IdSource
from clarion.storage.command import Accept, Settle
from clarion.storage.sqlite_store import SqliteStore
from clarion.testing import Fault, free_port

SLOTS = 8
AT_A_DEATH = 2 * SLOTS
"""Calls in doubt: for each slot one that ended and is not noted yet, and the one after it."""
CROWD = 60


async def with_dead_letters(house, n, **settings):
    """Start with a provider that refuses `n` messages, then takes everything again."""
    provider = await house.sendgrid()
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS}, **settings)},
        {"email": ["only"]},
    )
    provider.behave(Fault.error(400))
    clarion = await house.start()
    ids = await house.send_all(clarion.client, [house.email(k) for k in range(n)])
    await clarion.client.wait_drained()
    provider.recover()
    return provider, clarion, ids


async def redrive(clarion, **body):
    answer = await clarion.client.request("POST", "/v1/dead-letters/redrive", json=body)
    assert answer.status == (200 if body.get("dry_run") else 202), answer.body
    return answer.body


async def progress(clarion, id):
    return (await clarion.client.request("GET", f"/v1/dead-letters/redrives/{id}")).body


async def until_ended(house, clarion, id, timeout_s=20.0):
    """Poll a redrive to its end; the counts reconcile at every look."""

    async def is_over():
        found, stats = await progress(clarion, id), await clarion.client.stats()
        assert stats["accepted"] == sum(stats["by_status"].values())
        return found if found["state"] != "running" else None

    return await house.until(is_over, timeout_s)


async def test_a_redrive_delivers_every_dead_letter_once(house):
    """First the dry run tells how many; the story of each holds both lives."""
    provider, clarion, ids = await with_dead_letters(house, 40)

    dry = await redrive(clarion, reason="permanent", dry_run=True)
    none = await redrive(clarion, reason="recipient", dry_run=True)
    untouched = house.ended(await clarion.client.stats())
    begun = await redrive(clarion, reason="permanent", rate=200)
    ended = await until_ended(house, clarion, begun["id"])
    stats = await clarion.client.wait_drained()

    assert (dry, none) == ({"matched": 40}, {"matched": 0})
    assert untouched == {"failed": 40}
    assert (ended["state"], ended["moved"], ended["skipped"]) == ("done", 40, 0)
    assert house.ended(stats) == {"sent": 40}
    assert provider.deliveries == dict.fromkeys(ids, 1)
    one = await clarion.client.get(ids[0])
    assert [event["event"] for event in one["timeline"]] == [
        "accepted", "call", "redriven", "call", "sent",
    ]  # fmt: skip
    assert one["possibly_duplicated"] is False
    left = await clarion.client.request("GET", "/v1/dead-letters")
    assert left.body["items"] == []


async def test_a_redrive_moves_only_what_its_filter_finds(house):
    """By reason, by provider, by channel and by the time of the end, over several lanes."""
    mail, text = await house.sendgrid(), await house.twilio()
    house.configure(
        {"mail": mail.settings(), "text": text.settings()}, {"email": ["mail"], "sms": ["text"]}
    )
    clarion = await house.start()
    mail.behave(Fault.error(400))
    text.behave(Fault.error(400, code=21211))
    mails = await house.send_all(clarion.client, [house.email(k) for k in range(3)])
    await clarion.client.wait_drained()
    texts = await house.send_all(clarion.client, [house.sms(k) for k in range(3)])
    await clarion.client.wait_drained()
    mail.recover()
    text.recover()
    between = (await clarion.client.get(texts[0]))["created_at"]
    moved = []

    for wanted in (
        {"until": "2020-01-01T00:00:00Z"}, {"provider": "mail", "reason": "recipient"},
        {"channel": "sms", "provider": "mail"}, {"provider": "mail", "since": between},
        {"reason": "recipient"}, {"until": between},
    ):  # fmt: skip
        matched = (await redrive(clarion, dry_run=True, **wanted))["matched"]
        begun = await redrive(clarion, rate=1000, **wanted)
        ended = await until_ended(house, clarion, begun["id"])
        await clarion.client.wait_drained()
        sent = [text.deliveries.total(), mail.deliveries.total()]
        moved.append((matched, ended["moved"], *sent))

    assert moved == [(0, 0, 0, 0)] * 4 + [(3, 3, 3, 0), (3, 3, 3, 3)]
    assert len(text.deliveries) == 3
    assert set(mail.deliveries) == set(mails)


async def test_a_redrive_keeps_its_rate(house):
    """By the times in the stories: in no second more than a recovering provider was to get."""
    _provider, clarion, ids = await with_dead_letters(house, 12)

    begun = await redrive(clarion, rate=5)
    await until_ended(house, clarion, begun["id"])
    await clarion.client.wait_drained()

    moved_at = []
    for id_ in ids:
        timeline = (await clarion.client.get(id_))["timeline"]
        [at] = [event["at"] for event in timeline if event["event"] == "redriven"]
        moved_at.append(parse_instant(at))
    moved_at.sort()
    # Two in each turn: the seventh belongs to the fourth turn, 1.2 s after the first.
    gaps = [later - earlier for earlier, later in zip(moved_at, moved_at[6:], strict=False)]
    assert min(gaps) >= 1.0


async def test_a_redrive_survives_kill_9(house):
    """It goes on where it stood; only calls that were out may be doubled, and are marked."""
    provider, clarion, ids = await with_dead_letters(house, 120)
    begun = await redrive(clarion, rate=60)
    for n in (20, 60):
        await provider.wait_for(n)
        await clarion.kill()
        await clarion.start()

    ended = await until_ended(house, clarion, begun["id"])
    stats = await clarion.client.wait_drained()

    assert (ended["state"], ended["moved"], ended["skipped"]) == ("done", 120, 0)
    assert house.ended(stats) == {"sent": 120}
    assert set(provider.deliveries) == set(ids)
    doubled = set(provider.duplicates())
    assert len(doubled) <= 2 * AT_A_DEATH
    for id_ in doubled:
        assert (await clarion.client.get(id_))["possibly_duplicated"]


async def test_a_cancelled_redrive_stops(house):
    """What was moved is delivered, the rest stays dead; cancelling again is a conflict."""
    provider, clarion, _ids = await with_dead_letters(house, 60)
    begun = await redrive(clarion, rate=20)
    await provider.wait_for(5)
    path = f"/v1/dead-letters/redrives/{begun['id']}/cancel"

    cancelled = await clarion.client.request("POST", path)
    again = await clarion.client.request("POST", path)
    stats = await clarion.client.wait_drained()

    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    assert again.status == 409
    moved = (await progress(clarion, begun["id"]))["moved"]
    assert 5 <= moved < 60
    assert house.ended(stats) == {"sent": moved, "failed": 60 - moved}
    await clarion.kill()
    await clarion.start()
    assert await clarion.client.wait_drained() == stats
    assert len(provider.deliveries) == moved


async def test_what_is_discarded_stays_failed_and_is_left_alone(house):
    """It is no dead letter any more, and no redrive finds it."""
    provider, clarion, ids = await with_dead_letters(house, 10)

    gone = await clarion.client.request(
        "POST", "/v1/dead-letters/discard", json={"reason": "permanent"}
    )
    begun = await redrive(clarion)
    ended = await until_ended(house, clarion, begun["id"])

    assert gone.body == {"discarded": 10}
    assert (ended["matched"], ended["moved"]) == (0, 0)
    assert house.ended(await clarion.client.stats()) == {"failed": 10}
    one = await clarion.client.get(ids[0])
    assert one["status"] == "failed"
    assert "put it aside" in one["explanation"]
    assert provider.deliveries == {}


async def test_some_are_redriven_and_discarded_by_their_ids(house):
    """Over a restart in the middle: those and no others, each once."""
    provider, clarion, ids = await with_dead_letters(house, 12)
    wanted, aside = ids[:6], ids[6:8]

    gone = await clarion.client.request("POST", "/v1/dead-letters/discard", json={"ids": aside})
    begun = await redrive(clarion, ids=[*wanted, aside[0]], rate=4)
    await provider.wait_for(2)
    await clarion.kill()
    await clarion.start()
    ended = await until_ended(house, clarion, begun["id"])
    stats = await clarion.client.wait_drained()

    assert gone.body == {"discarded": 2}
    assert (begun["matched"], ended["moved"], ended["skipped"]) == (6, 6, 0)
    assert house.ended(stats) == {"sent": 6, "failed": 6}
    assert set(provider.deliveries) == set(wanted)
    for id_ in provider.duplicates():
        assert (await clarion.client.get(id_))["possibly_duplicated"]


async def test_one_that_a_provider_told_of_is_redriven_marked(house):
    """It said 500, and what it had taken arrived: a redrive may bring it a second time."""
    port = free_port()
    provider = await house.sendgrid()
    provider.event_webhook_url = f"http://127.0.0.1:{port}/callbacks/only"
    retry = {"max_attempts": 1}
    house.configure(
        {"only": provider.settings()}, {"email": {"providers": ["only"], "retry": retry}}
    )
    clarion = await house.start(port=port)
    provider.behave(Fault.error(500, accepts=True), times=1)
    one = await clarion.client.post(**house.email(1))
    assert (await clarion.client.wait_final(one["id"]))["status"] == "failed"

    assert await provider.report(one["id"], "delivered") == 200
    told = await clarion.client.get(one["id"])
    begun = await redrive(clarion)
    await until_ended(house, clarion, begun["id"])
    final = await clarion.client.wait_final(one["id"])

    assert (told["status"], told["possibly_duplicated"]) == ("failed", False)
    assert "told of it later (delivered)" in told["explanation"]
    assert (final["status"], final["possibly_duplicated"]) == ("sent", True)
    assert provider.duplicates() == {one["id"]: 2}


async def test_what_a_redrive_brings_back_can_be_cancelled(house):
    """While it waits in its lane, one by one; the redrive goes on with the others."""
    provider, clarion, ids = await with_dead_letters(house, 6)
    provider.behave(Fault.unavailable())
    begun = await redrive(clarion, rate=1000)
    await until_ended(house, clarion, begun["id"])

    cancelled = [
        await clarion.client.request("POST", f"/v1/notifications/{id_}/cancel") for id_ in ids[:3]
    ]
    provider.recover()
    stats = await clarion.client.wait_drained()

    assert [answer.status for answer in cancelled] == [200] * 3
    assert house.ended(stats) == {"cancelled": 3, "sent": 3}
    assert set(provider.deliveries) == set(ids[3:])


def write_dead_letters(path, n):
    """Put `n` dead letters into a database that nobody has open."""
    store = SqliteStore(str(path))
    store.open()
    now = 1_700_000_000.0
    ids = IdSource(lambda: now, lambda _bits: 0)
    content = Content("ada@example.com", subject="Old", text="Old")
    for _ in range(0, n, 5_000):
        jobs = [
            Job(
                ids.next(), "email", content, Priority.NORMAL, "", 1.0, JobState.READY, now,
                now + 60.0, Delivery.AT_LEAST_ONCE,
            )
            for _ in range(5_000)
        ]  # fmt: skip
        store.begin()
        store.apply(Accept("email", [Draft("email", content)] * len(jobs), jobs))
        for job in jobs:
            store.apply(Settle("email", job, None, Status.FAILED, "exhausted", now))
        store.commit()
    store.close()


async def test_a_redrive_of_100_000_does_not_delay_fresh_traffic(house):
    """What is sent meanwhile leaves at once, however fast the redrive and how slow the provider."""
    provider = await house.sendgrid()
    limit = {"per_second": 100, "burst": 4}
    house.configure(
        {"only": provider.settings(bulkhead={"max_concurrent": SLOTS}, rate_limit=limit)},
        {"email": ["only"]},
    )
    await asyncio.to_thread(write_dead_letters, house.directory / "clarion.db", 100_000)
    clarion = await house.start()
    begun = await redrive(clarion, rate=1000)
    assert begun["matched"] == 100_000
    await house.until(lambda: _has_moved(clarion, begun["id"], 1_000))
    slack = 40  # What is in flight, and what leaves during the request itself.

    for priority in ("normal", "low", "critical"):
        before = provider.deliveries.total()
        one = await clarion.client.post(**house.email("fresh", priority=priority))
        await provider.wait_for(lambda one=one: provider.deliveries[one["id"]] == 1)
        assert list(provider.deliveries).index(one["id"]) - before <= slack

    begun = len(provider.deliveries)
    crowd = await house.send_all(clarion.client, [house.email(k) for k in range(CROWD)])
    await provider.wait_for(lambda: all(provider.deliveries[id_] for id_ in crowd))
    order = list(provider.deliveries)[begun:]
    places = [order.index(id_) for id_ in crowd]
    between = max(places) - min(places) + 1 - CROWD

    assert between <= CROWD // 4 + 2 * SLOTS  # Four turns of five are theirs.
    waiting = (await clarion.client.stats())["by_status"]["queued"]
    assert waiting > 500  # It had something to pass.


async def _has_moved(clarion, id, n):
    return (await progress(clarion, id))["moved"] >= n


@pytest.mark.parametrize(("verb", "status", "sends"), [("sent", "sent", 1), ("retry", "sent", 2)])
async def test_a_person_decides_about_an_unknown_one(house, verb, status, sends):
    """Once: as sent it is believed, as retry it is sent again and marked."""
    provider = await house.sendgrid()
    house.configure({"only": provider.settings(timeout=0.5)}, {"email": ["only"]})
    clarion = await house.start()
    provider.behave(Fault.accept_then_hang(), times=1)
    one = await clarion.client.post(**house.email(1, delivery="at_most_once"))
    assert (await clarion.client.wait_final(one["id"]))["status"] == "unknown"
    path = f"/v1/notifications/{one['id']}/resolve"
    await clarion.client.request("POST", "/v1/queues/email/pause")

    resolved = await clarion.client.request("POST", path, json={"as": verb})
    await clarion.client.request("POST", "/v1/queues/email/resume")
    final = await clarion.client.wait_final(one["id"])
    again = await clarion.client.request("POST", path, json={"as": verb})

    assert resolved.status == 200, resolved.body
    assert resolved.body["possibly_duplicated"] == (verb == "retry")
    assert (final["status"], final["possibly_duplicated"]) == (status, verb == "retry")
    assert provider.deliveries[one["id"]] == sends
    assert again.status == 409
    assert "resolved" in [event["event"] for event in final["timeline"]]
    stats = await clarion.client.stats()
    assert house.ended(stats) == {"sent": 1}, json.dumps(stats)
