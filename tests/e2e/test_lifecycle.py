"""A notification's other ways through its life: later, never, not any more, only once."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from clarion.testing import Fault

SLOTS = 2


def soon(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def one_provider(house, provider, **more):
    table = provider.settings(bulkhead={"max_concurrent": SLOTS}, **more)
    return house.configure({"only": table}, {"email": ["only"]})


async def cancel(clarion, id_):
    return await clarion.client.request("POST", f"/v1/notifications/{id_}/cancel")


async def test_what_is_scheduled_is_sent_at_its_time_even_over_a_death(house):
    """Not before `send_at`, though the process died meanwhile; once; `scheduled` until then."""
    provider = await house.sendgrid()
    one_provider(house, provider)
    clarion = await house.start()
    at = soon(3.0)
    one = await clarion.client.post(**house.email(1, send_at=at.isoformat()))
    now = await clarion.client.post(**house.email(2))
    assert one["status"] == "scheduled"
    await clarion.client.wait_final(now["id"])
    await clarion.kill()
    await clarion.start()

    final = await clarion.client.wait_final(one["id"])

    assert final["status"] == "sent"
    assert provider.deliveries == {now["id"]: 1, one["id"]: 1}
    arrived = {each.correlation_id: each.at for each in provider.requests if each.is_send}
    assert arrived[one["id"]] >= at.timestamp()


async def test_what_is_too_late_is_not_sent(house):
    """It waits for its provider, its time ends, and no later recovery delivers it."""
    provider = await house.sendgrid()
    one_provider(house, provider)
    clarion = await house.start()
    await clarion.client.request("POST", "/v1/providers/only/disable")
    late = await clarion.client.post(**house.email(1, expires_at=soon(1.0).isoformat()))
    other = await clarion.client.post(**house.email(2))

    final = await clarion.client.wait_final(late["id"])
    await clarion.client.request("POST", "/v1/providers/only/enable")
    await clarion.client.wait_final(other["id"])

    assert (final["status"], final["attempts"]) == ("expired", 0)
    assert provider.deliveries == {other["id"]: 1}


async def test_a_paused_lane_keeps_its_work_over_a_restart(house):
    """Accepted meanwhile, sent by nobody, and delivered once after the resume."""
    provider = await house.sendgrid()
    one_provider(house, provider)
    clarion = await house.start()
    await clarion.client.request("POST", "/v1/queues/email/pause")
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(20)])
    assert await clarion.terminate() == 0
    await clarion.start()
    last = await clarion.client.post(**house.email("last"))

    assert not provider.deliveries
    await clarion.client.request("POST", "/v1/queues/email/resume")
    await clarion.client.wait_drained()

    assert provider.deliveries == dict.fromkeys([*ids, last["id"]], 1)


async def test_what_waits_is_cancelled_at_once_and_for_good(house):
    """Scheduled or queued: no request is ever made; a second cancel is told that it is over."""
    provider = await house.sendgrid()
    one_provider(house, provider)
    clarion = await house.start()
    await clarion.client.request("POST", "/v1/queues/email/pause")
    scheduled = await clarion.client.post(**house.email(1, send_at=soon(1.5).isoformat()))
    queued = await clarion.client.post(**house.email(2))
    kept = await clarion.client.post(**house.email(3, send_at=soon(1.6).isoformat()))

    for one in (scheduled, queued):
        assert (await cancel(clarion, one["id"])).status < 300
        assert (await clarion.client.get(one["id"]))["status"] == "cancelled"
        assert (await cancel(clarion, one["id"])).status == 409
    await clarion.client.request("POST", "/v1/queues/email/resume")
    await clarion.client.wait_final(kept["id"])

    assert provider.deliveries == {kept["id"]: 1}


async def test_a_cancel_that_comes_while_it_is_sent_stops_further_calls_only(house):
    """What the provider takes all the same is `sent`; what it refuses is tried by nobody else."""
    provider, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {"first": provider.settings(bulkhead={"max_concurrent": SLOTS}),
         "second": second.settings()},
        {"email": {"providers": ["first", "second"], "spill_after": 30.0}},
    )  # fmt: skip
    clarion = await house.start()
    outcomes = {}
    for name, fault in (("taken", Fault.slow(1.0)), ("lost", Fault.hang())):
        provider.behave(fault, times=1)
        one = await clarion.client.post(**house.email(name, delivery="at_least_once"))
        await provider.wait_for(lambda: provider.in_flight == 1)

        assert (await cancel(clarion, one["id"])).status < 300
        assert (await clarion.client.get(one["id"]))["cancel_requested"]
        outcomes[name] = await clarion.client.wait_final(one["id"])

    assert outcomes["taken"]["status"] == "sent"
    # Nobody knows whether the one that hung was taken, and nobody may try it again.
    assert (outcomes["lost"]["status"], outcomes["lost"]["reason"]) == ("unknown", "cancelled")
    assert not second.deliveries
    assert sum(request.is_send for request in provider.requests) == 2


async def test_a_key_is_remembered_over_a_death_of_the_process(house):
    """The same answer and no second delivery; another body under the key is refused."""
    provider = await house.sendgrid()
    one_provider(house, provider)
    clarion = await house.start()
    first = await clarion.client.post("key-1", **house.email(1))
    await clarion.client.wait_final(first["id"])
    await clarion.kill()
    await clarion.start()

    again = await clarion.client.post("key-1", **house.email(1))
    other = await clarion.client.request(
        "POST", "/v1/notifications", json=house.email(2), headers={"Idempotency-Key": "key-1"}
    )

    assert again["id"] == first["id"]
    assert other.status == 422
    assert (await clarion.client.stats())["accepted"] == 1
    assert provider.deliveries == {first["id"]: 1}


async def test_the_command_line_tells_the_story_of_one_notification(house):
    """`clarion status ID` names what happened and where, for somebody who only has the id."""
    provider, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {"first": provider.settings(), "second": second.settings()}, {"email": ["first", "second"]}
    )
    provider.behave(Fault.error(500), times=1)
    clarion = await house.start()
    one = await clarion.client.post(**house.email(1))
    await clarion.client.wait_final(one["id"])

    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "status", one["id"],
        cwd=clarion.directory, env={**clarion.environment, "CLARION_URL": clarion.url},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(command.communicate(), 30)

    assert command.returncode == 0
    for words in (one["id"], "sent", "first", "500", "second"):
        assert words in out.decode()
