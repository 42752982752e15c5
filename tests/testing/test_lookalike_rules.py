"""When a look-alike misbehaves, what it remembers, and how it dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from clarion.testing import Fault, ManualClock, SendGridLookalike, read_ledger

AUTHORIZATION = {"Authorization": "Bearer SG.test"}


def mail(*ids: str) -> dict[str, Any]:
    return {
        "personalizations": [
            {"to": [{"email": "ada@example.com"}], "custom_args": {"clarion_id": id_}}
            for id_ in ids
        ],
        "from": {"email": "clarion@example.com"},
        "subject": "Hi",
        "content": [{"type": "text/plain", "value": "hello"}],
    }


@pytest.fixture
async def server() -> AsyncIterator[SendGridLookalike]:
    async with SendGridLookalike() as lookalike:
        yield lookalike


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=AUTHORIZATION) as client:
        yield client


async def send(session: aiohttp.ClientSession, server: SendGridLookalike, *ids: str) -> int:
    async with session.post(f"{server.url}/v3/mail/send", json=mail(*ids or ("n1",))) as response:
        await response.read()
        return response.status


async def test_counted_rules_are_used_up_in_order_before_the_standing_one(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """`times` counts sends; afterwards the latest standing rule holds."""
    server.behave(Fault.error(403))
    server.behave(Fault.unavailable())
    server.behave(Fault.error(500), times=2)
    server.behave(Fault.throttled(), times=1)

    statuses = [await send(session, server) for _ in range(5)]

    assert statuses == [500, 500, 429, 503, 503]


async def test_health_probes_use_up_no_counted_rule(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """A probe that happens to come between must not take a fault meant for a send."""
    server.behave(Fault.error(500), times=1)

    async with session.get(f"{server.url}/v3/scopes") as response:
        probed = response.status
    sent = await send(session, server)

    assert (probed, sent) == (200, 500)


async def test_a_rule_may_choose_by_the_message(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """`match` is given the request with its parsed payload."""
    server.behave(
        Fault.error(400, field="personalizations.0.to.0.email"),
        match=lambda seen: (
            seen.is_send
            and seen.payload["personalizations"][0]["custom_args"]["clarion_id"] == "bad"
        ),
    )

    statuses = [await send(session, server, id_) for id_ in ("good", "bad", "good")]

    assert statuses == [202, 400, 202]
    assert server.deliveries == {"good": 2}


async def test_the_fail_ratio_draws_from_the_injected_randomness(
    session: aiohttp.ClientSession,
) -> None:
    """A share of the sends fails, the same ones for the same draws."""
    draws = iter([0.1, 0.9, 0.49, 0.5])
    async with SendGridLookalike(rng=lambda: next(draws)) as server:
        server.fail_ratio = 0.5

        statuses = [await send(session, server) for _ in range(4)]

    assert statuses == [500, 202, 500, 202]


async def test_a_refused_message_is_refused_although_a_fault_would_take_it(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """Faults that take the message take only what the provider would take."""
    server.behave(Fault.no_content())

    async with session.post(f"{server.url}/v3/mail/send", json={"surprise": 1}) as response:
        status = response.status

    assert (status, server.deliveries.total()) == (400, 0)


async def test_duplicates_are_counted_by_our_id(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """One delivery per personalization; what was taken twice shows."""
    await send(session, server, "a", "b")
    await send(session, server, "b")

    assert server.deliveries == {"a": 1, "b": 2}
    assert server.duplicates() == {"b": 2}
    assert (server.delivered("a"), server.delivered("never")) == (1, 0)


async def test_requests_are_kept_with_time_and_outcome(session: aiohttp.ClientSession) -> None:
    """Every request is there with what became of it."""
    clock = ManualClock(now=1000.0)
    async with SendGridLookalike(clock=clock) as server:
        await send(session, server, "a")
        clock.advance(5.0)
        server.behave(Fault.unavailable(), times=1)
        await send(session, server, "b")

        seen = [
            (one.at, one.correlation_id, one.outcome, one.status, one.is_delivered)
            for one in server.requests
        ]

    assert seen == [(1000.0, "a", "accepted", 202, True), (1005.0, None, "error", 503, False)]


async def test_only_the_latest_requests_are_kept_but_all_are_counted(
    session: aiohttp.ClientSession,
) -> None:
    """A long run does not fill the memory."""
    async with SendGridLookalike(keep=2) as server:
        for at in range(5):
            await send(session, server, f"n{at}")

        assert [one.correlation_id for one in server.requests] == ["n3", "n4"]
        assert server.ledger.summary()["requests"] == 5
        assert server.deliveries.total() == 5


async def test_waiting_names_what_there_is_when_time_is_up(server: SendGridLookalike) -> None:
    """A test that waits in vain says how far it came."""
    with pytest.raises(TimeoutError, match="'deliveries': 0"):
        await server.wait_for(1, timeout_s=0.01)


async def test_each_delivery_is_on_file_before_it_is_answered(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Another process counts from the file, also while the look-alike hangs."""
    path = tmp_path / "ledger.ndjson"
    async with SendGridLookalike(ledger=path) as server:
        await send(session, server, "a")
        server.behave(Fault.accept_then_hang())
        task = asyncio.create_task(send(session, server, "a", "b"))
        await server.wait_for(3)

        on_file = read_ledger(path)
        task.cancel()

    assert on_file == {"a": 2, "b": 1}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A writer that was killed in the middle of a line spoils nothing."""
    path = tmp_path / "ledger.ndjson"
    path.write_text('{"at": 1.0, "provider": "x", "id": "a"}\n{"at": 2.0, "prov')

    assert read_ledger(path) == {"a": 1}
    assert read_ledger(tmp_path / "missing") == {}


async def test_a_killed_provider_comes_back_on_the_same_port(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """While it is down, connections are refused; its counts survive."""
    port = server.port
    await send(session, server, "a")

    await server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await send(session, server, "b")
    await server.start()
    status = await send(session, server, "c")

    assert (server.port, status) == (port, 202)
    assert server.deliveries == {"a": 1, "c": 1}


async def test_a_dying_provider_resets_what_it_holds(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """`stop` waits for nobody, and nothing stays in flight."""
    server.behave(Fault.accept_then_hang())
    task = asyncio.create_task(send(session, server))
    await server.wait_for(1)

    await server.stop()
    with pytest.raises(aiohttp.ClientError):
        await task

    assert (server.in_flight, server.is_running, server.delivered("n1")) == (0, False, 1)


async def test_another_process_steers_and_counts_over_http(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """The control paths do what the methods do, and no fault concerns them."""
    order = {"fault": "throttled", "with": {"retry_after": 7}, "times": 1}
    async with session.post(f"{server.url}/_control", json=order) as response:
        ordered = response.status
    async with session.post(f"{server.url}/v3/mail/send", json=mail("a")) as response:
        throttled = (response.status, response.headers["Retry-After"])
    await send(session, server, "a")
    async with session.post(f"{server.url}/_control", json={"fault": "hang"}):
        pass
    async with session.get(f"{server.url}/_control/requests") as response:
        summary = await response.json()
    async with session.get(f"{server.url}/_control/delivered?id=a") as response:
        delivered = await response.json()

    assert (ordered, throttled) == (200, (429, "7"))
    assert (summary["requests"], summary["deliveries"]) == (2, 1)
    assert summary["outcomes"] == {"error": 1, "accepted": 1}
    assert delivered == {"id": "a", "delivered": 1}


async def test_control_sets_latency_and_share_of_failures_and_recovers(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """Every control that a method or attribute offers is there over HTTP."""
    await session.post(f"{server.url}/_control", json={"latency_s": 0.5, "fail_ratio": 1})
    set_ = (server.latency_s, server.fail_ratio)
    failed = await send(session, server)

    await session.post(f"{server.url}/_control", json={"recover": True, "clear": True})
    server.latency_s = 0.0
    accepted = await send(session, server)

    assert (set_, failed, accepted) == ((0.5, 1.0), 500, 202)
    assert server.ledger.summary()["requests"] == 1


@pytest.mark.parametrize(
    "order", ['{"fault": "nope"}', '{"falt": "hang"}', "not json", '["fault"]', '{"latency_s": []}']
)
async def test_a_wrong_order_is_refused_and_changes_nothing(
    server: SendGridLookalike, session: aiohttp.ClientSession, order: str
) -> None:
    """A demo that misspells a fault must hear of it."""
    async with session.post(f"{server.url}/_control", data=order) as response:
        refused = response.status

    assert (refused, await send(session, server)) == (400, 202)
