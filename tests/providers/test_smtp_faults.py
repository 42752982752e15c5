"""Every way in which a mail server can misbehave, at every stage, and what becomes of the mail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Outcome
from clarion.providers.base import Outgoing, Wire, answer_for_exception
from clarion.providers.smtp import Smtp
from clarion.testing import FAULTS, CertificateAuthority, Fault, SmtpLookalike, at_stage

Make = Callable[..., Any]


class Case(NamedTuple):
    fault: Fault
    outcome: Outcome
    surely_not_accepted: bool = False
    taken: int = 0
    """Deliveries that the server counts."""


CASES: dict[str, Case] = {
    "error": Case(Fault.error(500), Outcome.TRANSIENT, True),
    "unavailable": Case(Fault.unavailable(), Outcome.TRANSIENT, True),
    "unauthorized": Case(Fault.unauthorized(), Outcome.MISCONFIGURED, True),
    "throttled": Case(Fault.throttled(3), Outcome.THROTTLED, True),
    "html": Case(Fault.html(), Outcome.UNKNOWN),
    "hang": Case(Fault.hang(), Outcome.TRANSIENT, True),
    "accept_then_hang": Case(Fault.accept_then_hang(), Outcome.UNKNOWN, False, 1),
    "reset": Case(Fault.reset(), Outcome.TRANSIENT, True),
    "accept_then_reset": Case(Fault.accept_then_reset(), Outcome.UNKNOWN, False, 1),
    "truncated": Case(Fault.truncated(), Outcome.UNKNOWN, False, 1),
    "cut_off": Case(Fault.cut_off(), Outcome.UNKNOWN, False, 1),
    "no_content": Case(Fault.no_content(), Outcome.ACCEPTED, False, 1),
    "redirect": Case(Fault.redirect(), Outcome.RECIPIENT, True),
    "drip": Case(Fault.drip(30.0), Outcome.UNKNOWN, False, 1),
    "huge": Case(Fault.huge(), Outcome.UNKNOWN),
    "keepalive_close": Case(Fault.keepalive_close(), Outcome.ACCEPTED, False, 1),
    "slow": Case(Fault.slow(0.01), Outcome.ACCEPTED, False, 1),
}
"""By the name of the fault, at the stage where a mail server is most likely to have it."""
NEVER_ENDING = ("hang", "accept_then_hang", "drip")
LOGIN = ("greeting", "EHLO", "STARTTLS", "AUTH")
BEFORE_THE_DOT = ("MAIL", "RCPT", "DATA")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server() -> AsyncIterator[SmtpLookalike]:
    async with SmtpLookalike() as lookalike:
        yield lookalike


@pytest.fixture
async def guarded(authority: CertificateAuthority) -> AsyncIterator[SmtpLookalike]:
    """A server that wants encryption and a login."""
    lookalike = SmtpLookalike("clarion", "top-secret", tls=authority.server_context())
    async with lookalike:
        yield lookalike


def outgoing(id_: str = "n1", **content: Any) -> Outgoing:
    given = {"to": "ada@example.org", "subject": "Hi", "text": "hello", **content}
    return Outgoing(id_, "email", Content(**given), 1, "c1")


async def send_until(
    adapter: Smtp, message: Outgoing, wire: Wire, arrived: Callable[[], Any] | None
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


def pool_of(adapter: Smtp) -> Any:
    return adapter._pool


def test_every_fault_has_an_expected_outcome() -> None:
    """A new fault cannot be forgotten here."""
    assert set(CASES) == set(FAULTS)


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_misbehaving_server_comes_to_the_right_outcome(
    server: SmtpLookalike, make: Make, name: str
) -> None:
    """Outcome, certainty, and what the server really took, on a real socket."""
    case = CASES[name]
    adapter = await make(server.settings())
    server.behave(case.fault)
    wire = Wire()

    async def arrived() -> None:
        verb = "DATA" if case.taken == 0 else None
        await server.wait_for(
            lambda: server.delivered("n1") == case.taken and server.in_flight == 1
        )
        while verb and verb not in server.commands:
            await asyncio.sleep(0)

    strikes = arrived if name in NEVER_ENDING else None
    answer = await send_until(adapter, outgoing(), wire, strikes)

    assert (answer.outcome, answer.surely_not_accepted) == case[1:3], answer
    assert server.delivered("n1") == case.taken
    assert len([one for one in server.requests if one.is_send]) == 1, "nothing is tried twice"


@pytest.mark.parametrize("name", sorted(set(CASES) - set(NEVER_ENDING)))
async def test_a_broken_exchange_leaves_no_trace_in_the_next(
    server: SmtpLookalike, make: Make, name: str
) -> None:
    """Whatever happened to one mail, the next one is taken once and answered for itself."""
    adapter = await make(server.settings())
    server.behave(CASES[name].fault, times=1)
    await adapter.send(outgoing("n1"), Wire())

    answer = await adapter.send(outgoing("n2"), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert server.delivered("n2") == 1
    assert server.duplicates() == {}


# --- each stage --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [*LOGIN, *BEFORE_THE_DOT, "END"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.error(code=421, message="4.3.2 Shutting down"), "smtp_421_4.3.2"),
        (Fault.html(), "garbled_reply"),
        (Fault.reset(), "connection_lost"),
        (Fault.truncated(), "connection_lost"),
        (Fault.huge(), "garbled_reply"),
    ],
)
async def test_until_the_final_dot_all_trouble_is_transient_and_nothing_is_taken(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make, stage: str, fault: Fault,
    reason: str,
) -> None:  # fmt: skip
    """And after it unknown, but for a refusal; the connection is dropped either way."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))
    guarded.behave(at_stage(stage, fault))
    wire = Wire()

    answer = await adapter.send(outgoing(), wire)

    is_certain = stage != "END" or fault.code == 421
    assert answer.outcome is (Outcome.TRANSIENT if is_certain else Outcome.UNKNOWN), answer
    assert answer.surely_not_accepted is is_certain
    assert answer.reason == reason
    assert wire.is_written is (stage == "END")
    assert pool_of(adapter).idle == pool_of(adapter).in_use == 0
    guarded.recover()
    assert (await adapter.send(outgoing(), Wire())).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("stage", [*LOGIN, *BEFORE_THE_DOT, "content", "END"])
async def test_a_server_that_hangs_is_given_up_with_its_connection(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make, stage: str
) -> None:
    """The time limit is the caller's; a half-used connection never goes back."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))
    guarded.behave(at_stage(stage, Fault.hang()))
    wire = Wire()

    async def arrived() -> None:
        last = {"greeting": "", "content": "DATA", "END": "DATA"}.get(stage, stage)
        async with asyncio.timeout(5.0):
            while guarded.connections == 0 or (last and last not in guarded.commands):
                await asyncio.sleep(0.001)
            while stage in ("content", "END") and not wire.is_written:
                await asyncio.sleep(0.001)

    answer = await send_until(adapter, outgoing(), wire, arrived)

    # A small mail leaves in one piece with its dot, whatever the server reads of it.
    is_out = stage in ("content", "END")
    assert answer.outcome is (Outcome.UNKNOWN if is_out else Outcome.TRANSIENT)
    assert wire.is_written is is_out
    assert pool_of(adapter).idle == pool_of(adapter).in_use == 0
    async with asyncio.timeout(5.0):
        # Whoever does not read does not see either that the other side is gone.
        while guarded.open_connections > (stage == "content"):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", ["reset", "hang"])
async def test_a_large_mail_whose_dot_has_not_left_is_surely_not_accepted(
    server: SmtpLookalike, make: Make, kind: str
) -> None:
    """Cut off in the middle: transient, and what was unsent is dropped, not sent while closing."""
    adapter = await make(server.settings())
    fault = Fault.reset() if kind == "reset" else Fault.hang()
    server.behave(at_stage("content", fault))
    wire = Wire()
    message = outgoing(text="line of text\n" * 1_500_000)

    async def arrived() -> None:
        async with asyncio.timeout(20.0):
            while "DATA" not in server.commands:
                await asyncio.sleep(0.01)

    answer = await send_until(adapter, message, wire, arrived if kind == "hang" else None)

    assert (answer.outcome, answer.surely_not_accepted) == (Outcome.TRANSIENT, True), answer
    assert not wire.is_written
    assert server.deliveries.total() == 0


@pytest.mark.parametrize(
    ("stage", "code", "text", "outcome"),
    [
        ("greeting", 554, "5.7.1 No SMTP service here", Outcome.MISCONFIGURED),
        ("greeting", 421, "4.7.0 Too many connections from you", Outcome.THROTTLED),
        ("EHLO", 550, "5.7.1 Go away", Outcome.MISCONFIGURED),
        ("STARTTLS", 454, "4.7.0 TLS not available", Outcome.TRANSIENT),
        ("AUTH", 535, "5.7.8 Wrong", Outcome.MISCONFIGURED),
        ("AUTH", 454, "4.7.0 Temporary authentication failure", Outcome.TRANSIENT),
        ("MAIL", 452, "4.3.1 Insufficient system storage", Outcome.TRANSIENT),
        ("DATA", 554, "5.5.1 No valid recipients", Outcome.PERMANENT),
    ],
)
async def test_a_refusal_before_the_content(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make, stage: str, code: int,
    text: str, outcome: Outcome,
) -> None:  # fmt: skip
    """Of the session, where no message is to blame, and of the mail."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))
    guarded.behave(at_stage(stage, Fault.error(code=code, message=text)))

    answer = await adapter.send(outgoing(), Wire())

    assert answer.outcome is outcome, answer
    assert answer.surely_not_accepted
    assert text[6:] in answer.detail


async def test_no_answer_shows_the_recipient_or_the_password(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make
) -> None:
    """Servers quote what they were sent; details mask it, and hold no line break."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))
    said = "5.1.1 <ada@example.org>: no top-secret \x1b[31m\t user"
    guarded.behave(at_stage("RCPT", Fault.error(code=550, message=said)))

    answer = await adapter.send(outgoing(), Wire())

    assert "user" in answer.detail
    assert "ada@" not in answer.detail
    assert "top-secret" not in answer.detail
    assert answer.detail.isprintable()


# --- connections -------------------------------------------------------------------------------


async def test_a_connection_is_used_again(server: SmtpLookalike, make: Make) -> None:
    """One greeting for many mails; nothing is asked between them."""
    adapter = await make(server.settings())

    for at in range(5):
        assert (await adapter.send(outgoing(f"n{at}"), Wire())).outcome is Outcome.ACCEPTED

    assert server.connections == 1
    assert server.commands == ["EHLO"] + 5 * ["MAIL", "RCPT", "DATA"]


async def test_an_encrypted_connection_is_used_again(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make
) -> None:
    """After a refusal of the content too, which once left its buffer paused for ever."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))

    for at in range(5):
        guarded.behave(at_stage("END", Fault.error(code=554, message="5.7.1 Spam")), times=1)
        async with asyncio.timeout(5.0):
            refused = await adapter.send(outgoing(f"r{at}"), Wire())
            taken = await adapter.send(outgoing(f"n{at}"), Wire())
        assert (refused.outcome, taken.outcome) == (Outcome.PERMANENT, Outcome.ACCEPTED)

    assert guarded.connections == 1


async def test_a_refused_recipient_is_taken_back_before_the_next_mail(
    server: SmtpLookalike, make: Make
) -> None:
    """RSET, over the same connection."""
    adapter = await make(server.settings())
    server.behave(Fault.error(404), times=1)

    refused = await adapter.send(outgoing("n1"), Wire())
    taken = await adapter.send(outgoing("n2"), Wire())

    assert (refused.outcome, taken.outcome) == (Outcome.RECIPIENT, Outcome.ACCEPTED)
    assert server.commands == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]


async def test_a_connection_that_the_server_closed_is_not_used(
    server: SmtpLookalike, make: Make
) -> None:
    """It is known by its state; no mail is begun on it."""
    adapter = await make(server.settings())
    server.behave(Fault.keepalive_close(), times=1)
    await adapter.send(outgoing("n1"), Wire())
    async with asyncio.timeout(5.0):
        while server.open_connections:
            await asyncio.sleep(0.001)

    answer = await adapter.send(outgoing("n2"), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert server.connections == 2
    assert server.commands.count("MAIL") == 2


@pytest.mark.parametrize(
    "fault", [Fault.reset(), Fault.error(code=421, message="4.4.2 Idle too long"), Fault.html()]
)
async def test_a_mail_is_begun_again_where_a_used_connection_turns_out_to_be_dead(
    server: SmtpLookalike, make: Make, fault: Fault
) -> None:
    """Once, on a new one, and only before the server has answered to MAIL as it should."""
    adapter = await make(server.settings())
    await adapter.send(outgoing("n1"), Wire())
    server.behave(at_stage("MAIL", fault), times=1)

    answer = await adapter.send(outgoing("n2"), Wire())

    assert answer.outcome is Outcome.ACCEPTED
    assert server.connections == 2
    assert server.duplicates() == {}


@pytest.mark.parametrize("stage", ["RCPT", "DATA", "END"])
async def test_a_mail_that_the_server_has_begun_is_not_begun_again(
    server: SmtpLookalike, make: Make, stage: str
) -> None:
    """What to do then is for the policies to decide."""
    adapter = await make(server.settings())
    await adapter.send(outgoing("n1"), Wire())
    server.behave(at_stage(stage, Fault.reset()), times=1)

    answer = await adapter.send(outgoing("n2"), Wire())

    expected = Outcome.UNKNOWN if stage == "END" else Outcome.TRANSIENT
    assert (answer.outcome, answer.reason) == (expected, "connection_lost")
    assert server.connections == 1


async def test_a_restarted_server_costs_no_mail(server: SmtpLookalike, make: Make) -> None:
    """Every kept connection is dead, and none of them is used."""
    adapter = await make(server.settings())
    server.latency_s = 0.05
    await asyncio.gather(*(adapter.send(outgoing(f"a{at}"), Wire()) for at in range(4)))
    assert pool_of(adapter).idle == 4
    await server.stop()
    await server.start()

    answers = await asyncio.gather(*(adapter.send(outgoing(f"b{at}"), Wire()) for at in range(4)))

    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert server.duplicates() == {}


async def test_a_dead_server_is_not_reached(server: SmtpLookalike, make: Make) -> None:
    """A refused connection: surely not accepted, and nothing was written."""
    adapter = await make(server.settings())
    await server.stop()
    wire = Wire()

    answer = await adapter.send(outgoing(), wire)

    assert (answer.outcome, answer.reason) == (Outcome.TRANSIENT, "connect_failed")
    assert answer.surely_not_accepted
    assert not wire.is_written


async def test_connections_are_bounded_and_a_call_that_waits_for_one_is_not_written(
    server: SmtpLookalike, make: Make
) -> None:
    """With two connections, two of five calls are out; cancelling all leaks nothing."""
    adapter = await make(server.settings(), max_concurrent=2)
    server.behave(Fault.accept_then_hang())
    wires = [Wire() for _ in range(5)]
    tasks = [
        asyncio.create_task(adapter.send(outgoing(f"n{at}"), wire)) for at, wire in enumerate(wires)
    ]

    await server.wait_for(2)
    written = [wire.is_written for wire in wires]
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks)

    assert sum(written) == server.connections == 2
    assert server.deliveries.total() == 2
    assert pool_of(adapter).idle == pool_of(adapter).in_use == 0
    server.recover()
    answers = await asyncio.gather(*(adapter.send(outgoing(f"m{at}"), Wire()) for at in range(3)))
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}


async def test_interleaved_sends_keep_their_own_answers(server: SmtpLookalike, make: Make) -> None:
    """Twenty calls over four connections, every other one refused."""
    adapter = await make(server.settings())
    server.latency_s = 0.005
    server.behave(
        at_stage("RCPT", Fault.error(404)), match=lambda seen: "odd" in seen.payload["to"]
    )

    names = [f"{'odd' if at % 2 else 'even'}{at}" for at in range(20)]
    answers = await asyncio.gather(
        *(adapter.send(outgoing(name, to=f"{name}@example.org"), Wire()) for name in names)
    )

    outcomes = {name: answer.outcome for name, answer in zip(names, answers, strict=True)}
    assert outcomes == {
        name: Outcome.RECIPIENT if "odd" in name else Outcome.ACCEPTED for name in names
    }
    assert len({answer.provider_message_id for answer in answers[::2]}) == 10
    assert server.connections <= 4
    assert set(server.deliveries) == set(names[::2])


async def test_closing_says_goodbye(server: SmtpLookalike, make: Make) -> None:
    """QUIT on every idle connection, within a bound."""
    adapter = await make(server.settings())
    await adapter.send(outgoing(), Wire())

    await adapter.close()

    assert server.commands[-1] == "QUIT"


# --- the probe ---------------------------------------------------------------------------------


async def test_a_probe_logs_in_anew_and_sends_nothing(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make
) -> None:
    """A kept connection would not notice that the password was changed."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))
    await adapter.send(outgoing(), Wire())

    health = await adapter.probe()

    assert health.is_healthy
    assert guarded.commands[-5:] == ["EHLO", "STARTTLS", "EHLO", "AUTH", "NOOP"]
    assert guarded.connections == 2
    assert guarded.deliveries.total() == 1


@pytest.mark.parametrize(
    ("stage", "fault", "is_misconfigured"),
    [
        ("greeting", Fault.error(code=421, message="4.3.2 Shutting down"), False),
        ("greeting", Fault.html(), False),
        ("EHLO", Fault.reset(), False),
        ("AUTH", Fault.error(code=535, message="5.7.8 Wrong"), True),
        ("AUTH", Fault.error(code=454, message="4.7.0 Later"), False),
        ("NOOP", Fault.error(code=451, message="4.3.0 Later"), False),
    ],
)
async def test_a_probe_tells_wrong_settings_from_trouble(
    guarded: SmtpLookalike, authority: CertificateAuthority, make: Make, stage: str, fault: Fault,
    is_misconfigured: bool,
) -> None:  # fmt: skip
    """Only what an operator has to mend counts as misconfigured."""
    adapter = await make(guarded.settings(ca_file=str(authority.ca_file)))
    guarded.behave(at_stage(stage, fault))

    health = await adapter.probe()

    assert (health.is_healthy, health.is_misconfigured) == (False, is_misconfigured)
    assert health.detail


async def test_a_probe_of_a_dead_server_says_so(server: SmtpLookalike, make: Make) -> None:
    """No exception, a sentence."""
    adapter = await make(server.settings())
    await server.stop()

    health = await adapter.probe()

    assert not health.is_healthy
    assert "refuses connections" in health.detail
