"""E-mail over SMTP, end to end: delivery, failover, and what a lost reply comes to."""

from __future__ import annotations

import email
import email.policy
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from clarion.testing import CertificateAuthority, Fault, SmtpLookalike, at_stage

TIMEOUT_S = 0.5


@pytest.fixture
async def mail_server():
    """Start mail servers; they are gone after the test."""
    async with AsyncExitStack() as stack:

        async def start(*args, **options):
            return await stack.enter_async_context(SmtpLookalike(*args, **options))

        yield start


async def test_mails_are_delivered_over_encrypted_connections_that_are_kept(
    house, mail_server, tmp_path
):
    """Fifty mails, each once, over no more than the four connections of the kind's default."""
    authority = CertificateAuthority(tmp_path)
    server = await mail_server("clarion", "secret", tls=authority.server_context())
    house.configure(
        {"mail": server.settings(ca_file=str(authority.ca_file), health_every=0)},
        {"email": ["mail"]},
    )
    clarion = await house.start()

    mails = [house.email(n, html=f"<p>Grüße {n}</p>") for n in range(50)]
    ids = await house.send_all(clarion.client, mails)
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 50}
    assert server.deliveries == dict.fromkeys(ids, 1)
    assert server.connections <= 4
    seen = next(one for one in server.requests if one.correlation_id == ids[7])
    assert seen.payload["to"] == "user7@example.com"
    read = email.message_from_bytes(seen.payload["content"], policy=email.policy.default)
    assert read["Subject"] == "Hello 7"
    assert read.get_body(("html",)).get_content().strip() == "<p>Grüße 7</p>"
    assert house.provider(await clarion.client.providers(), "mail")["max_concurrent"] == 4


async def test_a_dead_mail_server_is_routed_around(house, mail_server):
    """The second one takes all, each once, and the first one's circuit opens."""
    dead, alive = await mail_server(), await mail_server()
    house.configure(
        {
            "first": dead.settings(breaker={"timeout": 30.0, "timeout_max": 60.0}),
            "second": alive.settings(),
        },
        {"email": ["first", "second"]},
    )
    clarion = await house.start()
    before = await house.send_all(clarion.client, [house.email(n) for n in range(5)])
    await clarion.client.wait_drained()
    assert set(dead.deliveries) == set(before)

    await dead.stop()
    after = await house.send_all(clarion.client, [house.email(n) for n in range(5, 65)])
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 65}
    assert alive.deliveries == dict.fromkeys(after, 1)
    first = house.provider(await clarion.client.providers(), "first")
    assert first["state"] != "ok"


@pytest.mark.parametrize("fault", [Fault.accept_then_reset(), Fault.accept_then_hang()])
async def test_a_reply_lost_after_the_final_dot_is_unknown(house, mail_server, fault):
    """At most once: the server took it, one mail was sent, and nobody guesses."""
    server = await mail_server()
    house.configure({"mail": server.settings(timeout=TIMEOUT_S)}, {"email": ["mail"]})
    server.behave(fault, times=1)
    clarion = await house.start()
    one = await clarion.client.post(**house.email(1, delivery="at_most_once"))

    final = await clarion.client.wait_final(one["id"])

    assert final["status"] == "unknown"
    assert server.deliveries == {one["id"]: 1}
    assert final["possibly_duplicated"] is False


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_a_reply_lost_before_the_content_is_not(house, mail_server, stage):
    """Surely not accepted, so at most once goes on too; and the mail is delivered once."""
    server = await mail_server()
    house.configure({"mail": server.settings()}, {"email": ["mail"]})
    server.behave(at_stage(stage, Fault.reset()), times=1)
    clarion = await house.start()
    one = await clarion.client.post(**house.email(1, delivery="at_most_once"))

    final = await clarion.client.wait_final(one["id"])

    assert final["status"] == "sent"
    assert server.deliveries == {one["id"]: 1}
    assert final["possibly_duplicated"] is False


async def test_a_refused_recipient_is_a_dead_letter_that_says_why(house, mail_server):
    """In the server's words, without the address, and without a second try elsewhere."""
    first, second = await mail_server(), await mail_server()
    house.configure(
        {"first": first.settings(), "second": second.settings()}, {"email": ["first", "second"]}
    )
    message = "5.1.1 <user1@example.com>: no such user here"
    first.behave(at_stage("RCPT", Fault.error(code=550, message=message)))
    clarion = await house.start()
    one = await clarion.client.post(**house.email(1))

    final = await clarion.client.wait_final(one["id"])

    assert (final["status"], final["reason"]) == ("failed", "recipient")
    detail = next(each["detail"] for each in final["timeline"] if each["outcome"] == "recipient")
    assert "no such user here" in detail
    assert "user1@" not in detail
    assert not second.commands or "MAIL" not in second.commands


async def test_a_server_that_greylists_is_no_broken_one(house, mail_server):
    """Its circuit stays closed, the spare takes the mail meanwhile, and known senders get in."""
    grey, spare = await mail_server(), await mail_server()
    greylisted = replace(
        at_stage("RCPT", Fault.error()), code=451, message="4.7.1 Greylisted, come back later"
    )
    house.configure(
        {
            "first": grey.settings(breaker={"failure_threshold": 3, "timeout": 60.0}),
            "second": spare.settings(),
        },
        {"email": ["first", "second"]},
    )
    clarion = await house.start()

    grey.behave(greylisted)
    strangers = await house.send_all(clarion.client, [house.email(n) for n in range(20)])
    await clarion.client.wait_drained()
    grey.recover()
    known = await house.send_all(clarion.client, [house.email(n) for n in range(20, 25)])
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 25}
    assert spare.deliveries == dict.fromkeys(strangers, 1)
    assert grey.deliveries == dict.fromkeys(known, 1)
    first = house.provider(await clarion.client.providers(), "first")
    assert (first["state"], first["circuit"]) == ("ok", "closed")


async def test_a_greylisted_mail_comes_back_after_its_wait(house, mail_server):
    """Where there is no other server it waits, here as long as the settings believe at most."""
    grey = await mail_server()
    greylisted = replace(at_stage("RCPT", Fault.error()), code=450, message="4.2.0 Greylisted")
    house.configure(
        {"only": grey.settings(breaker={"failure_threshold": 1, "timeout": 60.0})},
        {"email": {"providers": ["only"], "retry": {"retry_after_max": 0.2}}},
    )
    clarion = await house.start()

    grey.behave(greylisted, times=1)
    (id,) = await house.send_all(clarion.client, [house.email(1)])
    mail = await clarion.client.wait_final(id)

    assert (mail["status"], mail["attempts"]) == ("sent", 2)
    assert "second try" in str(mail["timeline"])
    assert not mail["possibly_duplicated"]


IDLE_TOO_LONG = replace(at_stage("MAIL", Fault.error()), code=421, message="4.4.2 Timeout exceeded")


@pytest.mark.parametrize("closing", [Fault.keepalive_close(), IDLE_TOO_LONG])
async def test_a_connection_that_the_server_closed_while_idle_costs_nothing(
    house, mail_server, closing
):
    """Without a word or with 421: the mail goes over a fresh one, at its first try."""
    server = await mail_server()
    house.configure(
        {
            "mail": server.settings(
                bulkhead={"max_concurrent": 1}, breaker={"failure_threshold": 1, "timeout": 60.0}
            )
        },
        {"email": ["mail"]},
    )
    clarion = await house.start()
    if closing is IDLE_TOO_LONG:
        await house.send_all(clarion.client, [house.email(1)])
        await clarion.client.wait_drained()
    server.behave(closing, times=1)

    for n in range(2, 5):
        await house.send_all(clarion.client, [house.email(n)])
        await clarion.client.wait_drained()

    found = [await clarion.client.get(id) for id in server.deliveries]
    assert {(one["status"], one["attempts"]) for one in found} == {("sent", 1)}
    assert set(server.deliveries.values()) == {1}
    assert server.connections == 2
    assert house.provider(await clarion.client.providers(), "mail")["circuit"] == "closed"
