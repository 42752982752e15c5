"""What providers tell later, over real sockets and signed as they sign: it moves, once."""

from __future__ import annotations

import asyncio
import random
import resource
import time

import aiohttp
import pytest

from clarion.testing import Fault, free_port

TIMEOUT_S = 0.5
GRACE_S = 20.0
"""Longer than any of these tests waits: no retry comes before the receipt."""


class Reported:
    """Clarion with a SendGrid and a Twilio that know where to send their receipts."""

    def __init__(self, house, clarion, mail, text):
        self.house, self.clarion, self.mail, self.text = house, clarion, mail, text
        self.client = clarion.client

    async def sent(self, n=0, **more):
        """Send an e-mail and return its id."""
        one = await self.client.post(**self.house.email(n, **more))
        await self.client.wait_final(one["id"])
        return one["id"]

    async def status(self, id_):
        return (await self.client.get(id_))["status"]

    async def reconciled(self):
        """Return the counts by status, which must sum up to what was accepted."""
        stats = await self.client.stats()
        assert sum(stats["by_status"].values()) == stats["accepted"]
        return self.house.ended(stats)

    async def lost_answer(self, provider, notification):
        """Have the provider take a notification and say nothing; return its id."""
        provider.behave(Fault.accept_then_hang(), times=1)
        one = await self.client.post(**notification)
        await provider.wait_for(lambda: provider.delivered(one["id"]) == 1)
        return one["id"]

    async def is_idle(self):
        """Say whether no lane has anything left in memory."""
        lanes = (await self.client.queues())["items"]
        return not any(lane["waiting"] + lane["ready"] + lane["in_flight"] for lane in lanes)

    async def until_status(self, id_, *, status, waiting=None):
        async def stands():
            one = await self.client.get(id_)
            return one if (one["status"], one["waiting"]) == (status, waiting) else None

        return await self.house.until(stands)


@pytest.fixture
async def reported(house):
    port = free_port()
    mail, text = await house.sendgrid(), await house.twilio()
    mail.event_webhook_url = f"http://127.0.0.1:{port}/callbacks/mail"
    house.configure(
        {"mail": mail.settings(timeout=TIMEOUT_S), "text": text.settings(timeout=TIMEOUT_S)},
        {"email": ["mail"], "sms": ["text"]},
        server={"public_url": f"http://127.0.0.1:{port}"},
        defaults={"unknown_grace": GRACE_S},
    )
    return Reported(house, await house.start(port=port), mail, text)


async def test_what_was_sent_is_delivered_or_not(reported):
    """Both providers; the reason, the sentence and the timeline say what became of it."""
    client, house = reported.client, reported.house
    good, bad = await reported.sent(1), await reported.sent(2)
    sms = await client.post(**house.sms(1))
    await client.wait_final(sms["id"])

    assert await reported.mail.report(good, "delivered", response="250 OK") == 200
    assert await reported.mail.report(bad, "bounce", reason="550 5.1.1 no such user") == 200
    assert await reported.text.report(sms["id"], "undelivered", error_code=30003) == 200

    delivered, bounced = await client.get(good), await client.get(bad)
    off = await client.get(sms["id"])
    assert (delivered["status"], delivered["reason"]) == ("delivered", None)
    assert "mail confirmed it" in delivered["explanation"]
    assert [event["event"] for event in delivered["timeline"]] == [
        "accepted", "call", "receipt", "delivered",
    ]  # fmt: skip
    assert (bounced["status"], bounced["reason"]) == ("undelivered", "recipient")
    assert "no such user" in bounced["explanation"]
    assert (off["status"], off["reason"]) == ("undelivered", "recipient")
    assert off["timeline"][-2]["reason"] == "twilio_30003"
    assert await reported.reconciled() == {"delivered": 1, "undelivered": 2}
    metrics = await client.metrics()
    assert 'clarion_notifications_total{channel="email",status="delivered"} 1.0' in metrics
    assert 'clarion_receipts_total{provider="mail",result="moved"} 2.0' in metrics


async def test_an_unknown_one_is_resolved(reported):
    """`at_most_once` parked it; the provider says that it has it, and then that it arrived."""
    id_ = await reported.lost_answer(reported.text, reported.house.sms(1, delivery="at_most_once"))
    await reported.until_status(id_, status="unknown")

    await reported.text.report(id_, "sent")
    assert await reported.status(id_) == "sent"
    await reported.text.report(id_, "delivered")

    one = await reported.client.get(id_)
    assert (one["status"], one["reason"]) == ("delivered", None)
    assert len(reported.text.requests) == 1
    assert await reported.reconciled() == {"delivered": 1}


async def test_an_unknown_one_did_not_arrive(reported):
    """Bad news resolve it too: it is no success, and nothing is sent again."""
    id_ = await reported.lost_answer(
        reported.mail, reported.house.email(1, delivery="at_most_once")
    )
    await reported.until_status(id_, status="unknown")

    await reported.mail.report(id_, "bounce", reason="550 5.1.1 no such user")

    one = await reported.client.get(id_)
    assert (one["status"], one["reason"]) == ("undelivered", "recipient")
    assert len(reported.mail.requests) == 1
    assert await reported.reconciled() == {"undelivered": 1}


@pytest.mark.parametrize(
    ("event", "status"),
    [("processed", "sent"), ("delivered", "delivered"), ("bounce", "undelivered")],
)
async def test_a_waiting_one_stops_waiting(reported, event, status):
    """The grace was for this receipt: there is no second call, now or after a restart."""
    id_ = await reported.lost_answer(reported.mail, reported.house.email(1))
    await reported.until_status(id_, status="queued", waiting="receipt")

    assert await reported.mail.report(id_, event) == 200

    one = await reported.client.get(id_)
    assert (one["status"], one["waiting"], one["attempts"]) == (status, None, 1)
    assert one["possibly_duplicated"] is False
    await reported.house.until(reported.is_idle)
    await reported.clarion.kill()
    await reported.clarion.start()
    await reported.sent(2)
    assert reported.mail.delivered(id_) == 1
    assert await reported.status(id_) == status


async def test_an_early_receipt_wins_over_the_call_that_is_out(house):
    """It comes before the answer, which gets lost: no fallback and no retry sends it again."""
    port = free_port()
    first, second = await house.sendgrid(), await house.sendgrid()
    first.event_webhook_url = f"http://127.0.0.1:{port}/callbacks/first"
    house.configure(
        {"first": first.settings(timeout=TIMEOUT_S), "second": second.settings()},
        {"email": ["first", "second"]},
        defaults={"unknown_grace": 0.0},
    )
    clarion = await house.start(port=port)
    first.behave(Fault.accept_then_hang(), times=1)
    one = await clarion.client.post(**house.email(1))
    await first.wait_for(1)

    assert await first.report(one["id"], "delivered") == 200

    assert (await clarion.client.get(one["id"]))["status"] == "delivered"
    await first.wait_for(lambda: first.in_flight == 0)

    async def is_noted():
        events = (await clarion.client.get(one["id"]))["timeline"]
        return [event["outcome"] for event in events if event["event"] == "call"] == ["unknown"]

    await house.until(is_noted)
    final = await clarion.client.get(one["id"])
    assert (final["status"], final["possibly_duplicated"]) == ("delivered", False)
    assert (first.delivered(one["id"]), len(second.requests)) == (1, 0)
    # Its slot is free again and the lane goes on.
    other = await clarion.client.post(**house.email(2))
    assert (await clarion.client.wait_final(other["id"]))["status"] == "sent"
    stats = await clarion.client.stats()
    assert house.ended(stats) == {"delivered": 1, "sent": 1}


async def test_good_news_of_the_first_call_ends_the_second(house):
    """After the grace a second call is on its way; the first one's receipt still counts."""
    port = free_port()
    provider = await house.sendgrid()
    provider.event_webhook_url = f"http://127.0.0.1:{port}/callbacks/only"
    house.configure(
        {"only": provider.settings(timeout=TIMEOUT_S)},
        {"email": ["only"]},
        defaults={"unknown_grace": 0.1},
    )
    clarion = await house.start(port=port)
    provider.behave(Fault.accept_then_hang(), times=2)
    one = await clarion.client.post(**house.email(1))
    await provider.wait_for(2)

    assert await provider.report(one["id"], "delivered", taken=0) == 200

    final = await clarion.client.get(one["id"])
    assert (final["status"], final["possibly_duplicated"]) == ("delivered", True)
    await provider.wait_for(lambda: provider.in_flight == 0)
    other = await clarion.client.post(**house.email(2))
    assert (await clarion.client.wait_final(other["id"]))["status"] == "sent"
    assert provider.delivered(one["id"]) == 2


async def test_bad_news_of_the_first_call_do_not_undo_the_second(house):
    """The second one may have arrived: what the provider says of that decides."""
    port = free_port()
    provider = await house.sendgrid()
    provider.event_webhook_url = f"http://127.0.0.1:{port}/callbacks/only"
    house.configure(
        {"only": provider.settings(timeout=TIMEOUT_S)},
        {"email": ["only"]},
        defaults={"unknown_grace": 0.1},
    )
    clarion = await house.start(port=port)
    provider.behave(Fault.accept_then_hang(), times=1)
    one = await clarion.client.post(**house.email(1))
    await clarion.client.wait_final(one["id"])
    seen = []

    for event, taken in (("bounce", 0), ("delivered", 1)):
        assert await provider.report(one["id"], event, taken=taken) == 200
        seen.append((await clarion.client.get(one["id"]))["status"])

    assert seen == ["sent", "delivered"]
    assert provider.delivered(one["id"]) == 2


async def test_a_provider_tells_of_its_own_messages_only(house):
    """Its genuine word about a message that it never had counts for nothing."""
    port = free_port()
    first, second = await house.sendgrid(), await house.sendgrid()
    second.event_webhook_url = f"http://127.0.0.1:{port}/callbacks/second"
    house.configure(
        {"first": first.settings(), "second": second.settings()}, {"email": ["first", "second"]}
    )
    clarion = await house.start(port=port)
    one = await clarion.client.post(**house.email(1))
    await clarion.client.wait_final(one["id"])

    report = second.event_report({**first.event(one["id"], "bounce"), "sg_event_id": "other"})

    assert await report.send() == 200
    found = await clarion.client.get(one["id"])
    assert (found["status"], len(second.requests)) == ("sent", 0)
    assert "receipt" not in [event["event"] for event in found["timeline"]]
    metrics = await clarion.client.metrics()
    assert 'clarion_receipts_total{provider="second",result="unknown"} 1.0' in metrics


async def test_duplicates_and_disorder_change_nothing(reported):
    """Delivered before processed, each of them 46 times, in one batch and in many."""
    id_ = await reported.sent(1)
    mail = reported.mail
    late, early = mail.event(id_, "delivered"), mail.event(id_, "processed")

    assert await mail.event_report(late, early, late).send(times=46) == 200

    one = await reported.client.get(id_)
    assert one["status"] == "delivered"
    assert [event["outcome"] for event in one["timeline"] if event["event"] == "receipt"] == [
        "delivered", "processed",
    ]  # fmt: skip
    metrics = await reported.client.metrics()
    assert 'clarion_receipts_total{provider="mail",result="moved"} 1.0' in metrics
    assert 'clarion_receipts_total{provider="mail",result="repeated"} 136.0' in metrics
    assert 'clarion_notifications_total{channel="email",status="delivered"} 1.0' in metrics


async def test_opens_clicks_and_complaints_stand_beside_the_status(reported):
    """Kept and shown; a complaint does not undo a delivery, and is none."""
    id_ = await reported.sent(1)
    facts = ["open", "click", "spamreport", "unsubscribe"]
    seen = []

    for word in (*facts, "delivered", *facts):
        await reported.mail.report(id_, word)
        seen.append(await reported.status(id_))

    one = await reported.client.get(id_)
    told = [event["outcome"] for event in one["timeline"] if event["event"] == "receipt"]
    assert seen == ["sent"] * 4 + ["delivered"] * 5
    assert told == [*facts, "delivered", *facts]


async def test_what_is_forged_is_refused_and_changes_nothing(reported):
    """The same 403 for a made-up or old signature, a changed body, another provider and none."""
    id_ = await reported.sent(1)
    genuine = reported.mail.event_report(reported.mail.event(id_, "bounce"))
    reported.mail.now = lambda: time.time() - 26 * 3600.0
    stale = reported.mail.event_report(reported.mail.event(id_, "bounce"))
    sms = await reported.client.post(**reported.house.sms(1))
    await reported.client.wait_final(sms["id"])
    callback = reported.text.status_report(sms["id"], "failed")
    url = reported.clarion.url
    bodies = set()
    async with aiohttp.ClientSession() as session:
        for target, headers, body in (
            (genuine.url, genuine.forged().headers, genuine.body),
            (genuine.url, stale.headers, stale.body),
            (genuine.url, genuine.headers, genuine.body.rstrip()),
            (genuine.url, {}, genuine.body),
            (callback.url, callback.forged().headers, callback.body),
            (f"{callback.url}&clarion_id={id_}", callback.headers, callback.body),
            (f"{url}/callbacks/nobody", genuine.headers, genuine.body),
            (f"{url}/callbacks/text", genuine.headers, genuine.body),
        ):
            async with session.post(target, data=body, headers=headers) as answer:
                assert answer.status == 403, target
                bodies.add(await answer.text())

    assert len(bodies) == 1
    assert await reported.status(id_) == "sent"
    assert await reported.status(sms["id"]) == "sent"


async def test_events_of_strangers_are_answered_and_counted(reported):
    """A 200: repeating them for a day would not make them ours."""
    id_ = await reported.sent(1)
    mail = reported.mail
    event = mail.event(id_, "delivered")

    status = await mail.event_report(
        {**event, "clarion_id": "01JC0000000000000000000001"},
        {name: value for name, value in event.items() if name != "clarion_id"},
        {**event, "event": "invented"},
    ).send()

    assert status == 200
    metrics = await reported.client.metrics()
    assert 'clarion_receipts_total{provider="mail",result="unknown"} 1.0' in metrics
    assert 'clarion_receipts_total{provider="mail",result="unread"} 2.0' in metrics
    assert await reported.status(id_) == "sent"


async def test_while_the_disk_is_full_receipts_are_asked_for_again(reported):
    """A 503, for the provider to repeat it; and the repeat is kept."""
    id_ = await reported.sent(1)
    report = reported.mail.event_report(reported.mail.event(id_, "delivered"))
    unlimited = resource.prlimit(reported.clarion.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(reported.clarion.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))

    async def is_refused():
        return await report.send() == 503

    await reported.house.until(is_refused)
    assert (await reported.client.health()).body["functions"]["receipts"] == "fail"

    resource.prlimit(reported.clarion.pid, resource.RLIMIT_FSIZE, unlimited)

    async def is_kept():
        return await report.send() == 200

    await reported.house.until(is_kept)
    assert await reported.status(id_) == "delivered"
    assert await reported.reconciled() == {"delivered": 1}


ROUNDS = 3
MESSAGES = 60


async def test_a_kill_in_a_storm_of_receipts_loses_nothing(reported):
    """What was answered 200 is kept, what was not is repeated; in the end all is as reported."""
    mail, clarion = reported.mail, reported.clarion
    ids = await reported.house.send_all(
        clarion.client, [reported.house.email(n) for n in range(MESSAGES)]
    )
    await clarion.client.wait_drained()
    chances = random.Random(7)
    wanted = {id_: chances.choice(["delivered", "bounce"]) for id_ in ids}
    reports = [
        mail.event_report(mail.event(id_, event))
        for id_ in ids
        for event in ("processed", "deferred", wanted[id_], "open")
    ]
    chances.shuffle(reports)
    left = list(reports)
    answered = 0

    async def storm():
        nonlocal answered
        while left:
            report = left.pop()
            try:
                is_kept = await report.send() == 200
            except (aiohttp.ClientError, TimeoutError, OSError):
                is_kept = False
            if is_kept:
                answered += 1
            else:
                left.append(report)
                await asyncio.sleep(0.02)

    storms = [asyncio.create_task(storm()) for _ in range(4)]
    for number in range(1, ROUNDS + 1):
        goal = number * len(reports) // (ROUNDS + 1)
        await reported.house.until(lambda goal=goal: answered >= goal, timeout_s=30.0)
        await clarion.kill()
        await clarion.start()
    await asyncio.gather(*storms)

    for id_ in ids:
        one = await clarion.client.get(id_)
        assert one["status"] == {"delivered": "delivered", "bounce": "undelivered"}[wanted[id_]]
        assert sum(event["event"] == "receipt" for event in one["timeline"]) == 4
    counts = await reported.reconciled()
    assert sum(counts.values()) == MESSAGES
    assert set(counts) == {"delivered", "undelivered"}
    assert mail.duplicates() == {}
