"""Chaos over sockets: the whole service before providers that break every rule of a connection.

Whatever a provider does with its end, each notification ends once, what may have been sent twice
is marked, `at_most_once` is not, the counts reconcile, and the fallback goes on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

import clarion
import clarion.errors
from clarion.testing import CertificateAuthority, Fault
from clarion.testing.fault import FAULTS

AT_LEAST_ONCE, AT_MOST_ONCE = 24, 8
TIMEOUT_S = 0.4
MORE_THAN_FITS = 11_000
"""Of a mailbox that takes 10,000 messages."""
MADE = {
    "error": lambda: Fault.error(500),
    "slow": lambda: Fault.slow(10 * TIMEOUT_S),
    "drip": lambda: Fault.drip(0.05),
    "huge": lambda: Fault.huge(20_000_000, status=200),
}
"""Faults that need a word on how bad they are; all others are made as they come."""


def peak_rss_mb(pid):
    """Return the most memory that a process ever held, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def reconciled(client, ids):
    """Wait until all have ended; return them by id, with the counts checked."""
    ended = {id: await client.wait_final(id, timeout_s=30.0) for id in ids}
    stats = await client.stats()
    by_status = {status: n for status, n in stats["by_status"].items() if n}
    assert by_status == Counter(each["status"] for each in ended.values())
    assert stats["accepted"] == len(ids)
    return ended


@pytest.mark.parametrize("name", FAULTS)
async def test_whatever_the_wire_does_each_ends_once(house, name):
    """The primary misbehaves throughout, its fallback is well."""
    primary, second = await house.sendgrid(), await house.sendgrid()
    house.configure(
        {
            "primary": primary.settings(timeout=TIMEOUT_S, bulkhead={"max_concurrent": 4}),
            "second": second.settings(),
        },
        {"email": {"providers": ["primary", "second"]}},
        defaults={"unknown_grace": 0.1},
    )
    primary.behave(MADE.get(name, FAULTS[name])())
    clarion = await house.start()
    before_mb = peak_rss_mb(clarion.pid)
    once = [house.email(n, delivery="at_most_once") for n in range(AT_MOST_ONCE)]
    again = [house.email(n) for n in range(AT_MOST_ONCE, AT_MOST_ONCE + AT_LEAST_ONCE)]
    ids = await house.send_all(clarion.client, [*once, *again])

    ended = await reconciled(clarion.client, ids)

    taken = primary.deliveries + second.deliveries
    for id in ids[:AT_MOST_ONCE]:
        assert taken[id] <= 1, ended[id]
        assert ended[id]["status"] in ("sent", "unknown"), ended[id]
        assert ended[id]["status"] == "unknown" or taken[id] == 1
    for id in ids[AT_MOST_ONCE:]:
        assert ended[id]["status"] == "sent", ended[id]
        assert taken[id] == 1 or (taken[id] and ended[id]["possibly_duplicated"]), ended[id]
    # 20 MB came with each of the answers that were begun.
    assert peak_rss_mb(clarion.pid) < before_mb + 100


@asynccontextmanager
async def tls_server(context):
    """Listen with TLS; gives the URL and what was read behind a handshake that succeeded."""
    heard: list[bytes] = []

    async def listen(reader, writer):
        with suppress(OSError, ssl.SSLError):
            heard.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


@pytest.mark.parametrize(
    ("host", "is_expired", "is_trusted"),
    [("127.0.0.1", False, False), ("127.0.0.1", True, True), ("mail.example.com", False, True)],
    ids=["of an unknown authority", "expired", "of another host"],
)
async def test_a_bad_certificate_gets_no_byte_of_a_message(
    house, tmp_path, host, is_expired, is_trusted
):
    """Nothing is written, so nothing is in doubt: the circuit opens and the fallback sends."""
    authority = CertificateAuthority(tmp_path)
    second = await house.sendgrid()
    trust = {"SSL_CERT_FILE": str(authority.ca_file)} if is_trusted else {}
    async with tls_server(authority.server_context(host, is_expired=is_expired)) as (url, heard):
        house.configure(
            {
                "primary": {**second.settings(), "base_url": url},
                "second": second.settings(),
            },
            {"email": {"providers": ["primary", "second"]}},
        )
        clarion = await house.start(env=trust)
        ids = await house.send_all(clarion.client, [house.email(n) for n in range(20)])
        ended = await reconciled(clarion.client, ids)
        state = house.provider(await clarion.client.providers(), "primary")

    assert {each["status"] for each in ended.values()} == {"sent"}
    assert not any(each["possibly_duplicated"] for each in ended.values())
    assert heard == [] or set(heard) == {b""}
    assert state["circuit"] in ("open", "half_open")
    first = (await clarion.client.get(ids[0]))["timeline"]
    calls = [event for event in first if event["event"] == "call"]
    assert calls[0]["reason"] == "tls_failed", calls[0]


async def test_a_right_certificate_is_trusted(house, tmp_path):
    """The test above refuses for the right reason: with all in order the handshake succeeds."""
    authority = CertificateAuthority(tmp_path)
    second = await house.sendgrid()
    async with tls_server(authority.server_context()) as (url, heard):
        house.configure({"primary": {**second.settings(), "base_url": url}}, {"email": ["primary"]})
        clarion = await house.start(env={"SSL_CERT_FILE": str(authority.ca_file)})
        await clarion.client.post(**house.email(1))
        await house.until(lambda: heard)

    assert heard[0].startswith(b"POST /v3/mail/send")


async def test_a_flood_is_answered_and_what_was_accepted_is_kept(tmp_path):
    """More at once than the mailbox of the lane takes: yes or not now, and never a silence."""
    (tmp_path / "settings.toml").touch()
    async with clarion.start(tmp_path / "settings.toml") as service:
        await service.pause("email")
        answers = await asyncio.gather(
            *(
                service.send(channel="email", to=f"user{n}@example.com", text="Hi")
                for n in range(MORE_THAN_FITS)
            ),
            return_exceptions=True,
        )
    refused = [each for each in answers if isinstance(each, clarion.errors.MailboxFull)]
    accepted = {each.id for each in answers if not isinstance(each, Exception)}
    async with clarion.start(tmp_path / "settings.toml") as service:
        stats = await service.stats()

    assert refused
    assert "queue:email is full" in str(refused[0])
    assert len(accepted) + len(refused) == MORE_THAN_FITS
    assert stats["accepted"] == len(accepted)
