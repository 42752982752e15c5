"""Every way in which a provider can misbehave, and what each adapter makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Outcome
from clarion.providers.base import Adapter, Outgoing, Wire, answer_for_exception
from clarion.testing import FAULTS, Fault, Lookalike, SendGridLookalike, TwilioLookalike

CALLBACKS = "https://clarion.example"


class Case(NamedTuple):
    fault: Fault
    outcome: Outcome
    surely_not_accepted: bool = False
    taken: int = 0
    """Deliveries that the provider counts."""


CASES: dict[str, Case] = {
    "error": Case(Fault.error(500), Outcome.TRANSIENT),
    "unavailable": Case(Fault.unavailable(), Outcome.TRANSIENT, True),
    "unauthorized": Case(Fault.unauthorized(), Outcome.MISCONFIGURED, True),
    "throttled": Case(Fault.throttled(3), Outcome.THROTTLED, True),
    "html": Case(Fault.html(), Outcome.UNKNOWN),
    "hang": Case(Fault.hang(), Outcome.UNKNOWN),
    "accept_then_hang": Case(Fault.accept_then_hang(), Outcome.UNKNOWN, False, 1),
    "reset": Case(Fault.reset(), Outcome.UNKNOWN),
    "accept_then_reset": Case(Fault.accept_then_reset(), Outcome.UNKNOWN, False, 1),
    "truncated": Case(Fault.truncated(), Outcome.UNKNOWN, False, 1),
    "cut_off": Case(Fault.cut_off(), Outcome.UNKNOWN, False, 1),
    "no_content": Case(Fault.no_content(), Outcome.UNKNOWN, False, 1),
    "redirect": Case(Fault.redirect(), Outcome.UNKNOWN),
    "drip": Case(Fault.drip(30.0), Outcome.UNKNOWN, False, 1),
    "huge": Case(Fault.huge(), Outcome.UNKNOWN),
    "keepalive_close": Case(Fault.keepalive_close(), Outcome.ACCEPTED, False, 1),
    "slow": Case(Fault.slow(0.01), Outcome.ACCEPTED, False, 1),
}
"""By the name of the fault; the same for all providers but where `EXCEPTIONS` says otherwise."""

EXCEPTIONS: dict[tuple[str, str], Case] = {
    # The body of SendGrid's 202 says nothing; the status and the id in the header are complete.
    ("sendgrid", "truncated"): Case(Fault.truncated(), Outcome.ACCEPTED, False, 1),
}

OUTGOING = {
    "sendgrid": Outgoing("n1", "email", Content("ada@example.com", "Hi", "hello"), 1, "c1"),
    "twilio": Outgoing("n1", "sms", Content("+15551234567", text="hello"), 1, "c1"),
}
NEVER_ENDING = ("hang", "accept_then_hang", "drip")


@pytest.fixture(params=[SendGridLookalike, TwilioLookalike])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Lookalike]:
    async with request.param() as lookalike:
        yield lookalike


@pytest.fixture
async def adapter(server: Lookalike, make: Callable[..., Any]) -> Adapter:
    made: Adapter = await make(server.settings(), public_url=CALLBACKS)
    return made


def outgoing(server: Lookalike, id_: str = "n1") -> Outgoing:
    return replace(OUTGOING[server.provider], notification_id=id_)


async def send_until(
    adapter: Adapter, message: Outgoing, wire: Wire, arrived: Callable[[], Any] | None
) -> Answer:
    """Send as the Provider actor does; its time limit strikes once `arrived` has returned."""
    task = asyncio.create_task(adapter.send(message, wire))
    if arrived is None:
        return await task
    await arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return answer_for_exception(TimeoutError(), wire)


def test_every_fault_has_an_expected_outcome() -> None:
    """A new fault cannot be forgotten here."""
    assert set(CASES) == set(FAULTS)


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_misbehaving_provider_comes_to_the_right_outcome(
    server: Lookalike, adapter: Adapter, name: str
) -> None:
    """Outcome, certainty, and what the provider really took, for each fault on a real socket."""
    case = EXCEPTIONS.get((server.provider, name), CASES[name])
    server.behave(case.fault)
    wire = Wire()

    async def arrived() -> None:
        await server.wait_for(
            lambda: server.in_flight == 1 and server.delivered("n1") == case.taken
        )

    strikes = arrived if name in NEVER_ENDING else None
    answer = await send_until(adapter, outgoing(server), wire, strikes)

    assert (answer.outcome, answer.surely_not_accepted) == case[1:3], answer
    assert wire.is_written
    assert server.delivered("n1") == case.taken
    assert len([one for one in server.requests if one.is_send]) == 1, "nothing is tried twice"


@pytest.mark.parametrize("name", sorted(set(CASES) - set(NEVER_ENDING)))
async def test_a_broken_exchange_leaves_no_trace_in_the_next(
    server: Lookalike, adapter: Adapter, name: str
) -> None:
    """Whatever happened to one message, the next one is taken once and answered for itself.

    An idle connection that the provider closed may be noticed before the wire only; then the
    answer says so, and sending again is safe.
    """
    server.behave(CASES[name].fault, times=1)
    await adapter.send(outgoing(server, "n1"), Wire())

    answer = await adapter.send(outgoing(server, "n2"), Wire())
    if answer.surely_not_accepted:
        assert server.delivered("n2") == 0
        answer = await adapter.send(outgoing(server, "n2"), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert server.delivered("n2") == 1
    assert server.duplicates() == {}


@pytest.mark.parametrize("wish", [3, 10**9, -1, None])
async def test_a_throttled_call_carries_the_providers_wish(
    server: Lookalike, adapter: Adapter, wish: float | None
) -> None:
    """Seconds are passed on, absurd ones to be capped by policy; a negative one is none."""
    server.behave(Fault.throttled(wish))

    answer = await adapter.send(outgoing(server), Wire())

    assert answer.outcome is Outcome.THROTTLED
    if wish is not None and wish > 0:
        assert answer.retry_after_s == wish
    elif server.provider == "twilio":
        assert answer.retry_after_s is None
    else:  # SendGrid's rate headers say it too; its clock is the real one
        assert answer.retry_after_s is None or answer.retry_after_s > 0


async def test_a_dead_provider_is_not_reached(server: Lookalike, adapter: Adapter) -> None:
    """A refused connection: surely not accepted, and nothing was written."""
    await server.stop()
    wire = Wire()

    answer = await adapter.send(outgoing(server), wire)

    assert (answer.outcome, answer.reason) == (Outcome.TRANSIENT, "connect_failed")
    assert answer.surely_not_accepted
    assert not wire.is_written


async def test_a_provider_without_tls_gets_nothing(
    server: Lookalike, make: Callable[..., Any]
) -> None:
    """The handshake fails before a byte of the message leaves."""
    secure = server.url.replace("http://", "https://")
    adapter = await make({**server.settings(), "base_url": secure})
    wire = Wire()

    answer = await adapter.send(outgoing(server), wire)

    assert (answer.outcome, answer.reason) == (Outcome.TRANSIENT, "tls_failed")
    assert not wire.is_written


async def test_connections_are_bounded_and_a_call_that_waits_for_one_is_not_written(
    server: Lookalike, make: Callable[..., Any]
) -> None:
    """With two connections, two of five calls are out; cancelling the rest loses nothing."""
    adapter = await make(server.settings(), max_concurrent=2, public_url=CALLBACKS)
    server.behave(Fault.accept_then_hang())
    wires = [Wire() for _ in range(5)]
    tasks = [
        asyncio.create_task(adapter.send(outgoing(server, f"n{at}"), wire))
        for at, wire in enumerate(wires)
    ]

    await server.wait_for(2)
    written = [wire.is_written for wire in wires]
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks)

    assert sum(written) == 2
    assert server.max_in_flight == 2
    assert server.deliveries.total() == 2


async def test_interleaved_sends_keep_their_own_answers(
    server: Lookalike, make: Callable[..., Any]
) -> None:
    """Twenty calls at once, every other one refused: each gets the answer to its own message."""
    adapter = await make(server.settings(), max_concurrent=20, public_url=CALLBACKS)
    server.latency_s = 0.01
    server.behave(Fault.unavailable(), match=lambda seen: "odd" in str(seen.payload))

    ids = [f"{'odd' if at % 2 else 'even'}-{at}" for at in range(20)]
    answers = await asyncio.gather(*(adapter.send(outgoing(server, id_), Wire()) for id_ in ids))

    outcomes = {id_: answer.outcome for id_, answer in zip(ids, answers, strict=True)}
    assert outcomes == {id_: Outcome.TRANSIENT if "odd" in id_ else Outcome.ACCEPTED for id_ in ids}
    assert len({answer.provider_message_id for answer in answers[::2]}) == 10
    assert server.duplicates() == {}


async def test_a_healthy_provider_is_healthy(server: Lookalike, adapter: Adapter) -> None:
    """The probe asks without sending."""
    health = await adapter.probe()

    assert health.is_healthy
    assert server.deliveries.total() == 0


@pytest.mark.parametrize(
    ("fault", "is_misconfigured"),
    [
        (Fault.unauthorized(), True),
        (Fault.unavailable(), False),
        (Fault.html(), False),
        (Fault.reset(), False),
        (Fault.redirect(), False),
        (Fault.truncated(), False),
        (Fault.huge(status=200), False),
        (Fault.throttled(), False),
    ],
)
async def test_a_probe_tells_wrong_credentials_from_trouble(
    server: Lookalike, adapter: Adapter, fault: Fault, is_misconfigured: bool
) -> None:
    """Only what an operator has to mend counts as misconfigured."""
    server.behave(fault)

    health = await adapter.probe()

    assert (health.is_healthy, health.is_misconfigured) == (False, is_misconfigured)
    assert health.detail


async def test_a_probe_of_a_dead_provider_says_so(server: Lookalike, adapter: Adapter) -> None:
    """No exception, a sentence."""
    await server.stop()

    health = await adapter.probe()

    assert not health.is_healthy
    assert "refuses connections" in health.detail


@pytest.mark.parametrize("place", ["to", "subject"])
async def test_a_line_break_never_reaches_the_wire(
    server: Lookalike, adapter: Adapter, place: str
) -> None:
    """Defence in depth: the message is refused, not repaired."""
    message = outgoing(server)
    broken: dict[str, Any] = {place: "x\r\nBcc: evil@example.com"}
    bad = replace(message.content, **broken)
    wire = Wire()

    answer = await adapter.send(replace(message, content=bad), wire)

    assert (answer.outcome, wire.is_written) == (Outcome.PERMANENT, False)
    assert not server.requests


async def test_no_answer_shows_the_recipient_or_a_secret(
    server: Lookalike, adapter: Adapter
) -> None:
    """Providers quote what they were sent; details mask it."""
    to = outgoing(server).content.to
    secret = str(server.settings().get("api_key") or server.settings()["auth_token"])
    server.behave(Fault.error(400, message=f"no good: {to}, and key {secret}"))

    answer = await adapter.send(outgoing(server), Wire())

    assert "no good" in answer.detail
    assert to not in answer.detail
    assert secret not in answer.detail
    assert secret not in repr(adapter)
