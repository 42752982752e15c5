"""No webhook reaches what is not public, however its URL or its name is written."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.providers.http_session import HttpSession
from clarion.providers.webhook import Webhook, WebhookConfig
from clarion.providers.webhook_guard import (
    BlockedAddress,
    Guard,
    is_public,
    url_fault,
    was_blocked,
)
from clarion.testing import ManualClock, WebhookLookalike

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.0.1", "172.32.0.1", "100.63.255.255",
          "100.128.0.1", "192.0.1.1", "198.17.0.1", "223.255.255.255", "2606:4700:4700::1111",
          "2a00:1450:4001::200e", "2001:4860:4860::8888"]  # fmt: skip

REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255", "100.100.100.200"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0", "febf::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "192.0.0.192",
                 "168.63.129.16"],
    "unique local": ["fc00::1", "fd12:3456::1"],
    "site-local": ["fec0::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.0.8", "192.0.0.171"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "6to4 relay": ["192.88.99.1"],
    "mapped IPv4": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1"],
    "compatible IPv4": ["::127.0.0.1", "::a00:1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8", "64:ff9b:1::1"],
    "6to4": ["2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001::1"],
    "discard and others": ["100::1", "5f00::1", "4000::1", "0100::"],
    "no address": ["", "localhost", "1.2.3", "0x7f000001", "2130706433", "0177.0.0.1"],
}  # fmt: skip

SPELLINGS = [
    "127.0.0.1", "127.1", "0x7f000001", "0x7f.0.0.1", "2130706433", "017700000001", "0177.0.0.1",
    "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]",
    "localhost", "LOCALHOST", "localhost.", "127.0.0.1.",
]  # fmt: skip
"""Ways to write this machine."""


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    """Those right beside the blocks that are not public, too."""
    assert is_public(address)


@pytest.mark.parametrize(
    ("why", "address"), [(why, each) for why, all_ in REFUSED.items() for each in all_]
)
def test_an_address_that_is_not_public_may_not_be_called(why: str, address: str) -> None:
    """Nor one that holds another inside, wherever that would lead."""
    assert not is_public(address), why


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_not_to_be(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """A second opinion: its registry is older than ours, and never stricter."""
    if is_public(str(ip)):
        assert ip.is_global
        assert not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/x?y=1", "http://example.com:8080/", "https://example.com:443/",
     "https://[2606:4700::1111]:8443/"],
)  # fmt: skip
def test_an_ordinary_url_has_no_fault(url: str) -> None:
    """Whether its host is public is seen later, at the socket."""
    assert url_fault(url) is None


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "gopher://x/", "https://", "https:///x",
     "https://user@example.com/", "https://user:secret@example.com/", "https://a@b@127.0.0.1/",
     "https://example.com\\@127.0.0.1/", "http://example.com:22/", "http://example.com:25/",
     "http://example.com:6379000/", "http://example.com:x/", "http://[::1", "example.com", "",
     "https://[fe80::1%25eth0]/", "https://[2606:4700::1111%1]/", "https://[v1.x]/"],
)  # fmt: skip
def test_a_url_of_another_kind_is_refused_before_any_look_up(url: str) -> None:
    """Other schemes, credentials, ports of other protocols."""
    fault = url_fault(url)

    assert fault
    assert "secret" not in fault


# --- at the socket -----------------------------------------------------------------------------


class Names:
    """Stands for DNS: answers each question for a name with the next of its addresses."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked = 0
        self._answers = answers

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        addresses = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM, 6, "", (each, port),
            )
            for each in addresses
        ]  # fmt: skip


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookLookalike]:
    async with WebhookLookalike("") as server:
        yield server


@pytest.fixture
async def send() -> AsyncIterator[Callable[..., Any]]:
    """Send one message to a URL by an adapter with settings and names of the test."""
    opened: list[Webhook] = []

    async def send(url: str, lookup: Any = socket.getaddrinfo, **settings: Any) -> Answer:
        class Named(Webhook):
            pass

        Named.lookup = staticmethod(lookup)
        adapter = Named("hooks", WebhookConfig(**settings), max_concurrent=4, clock=ManualClock())
        await adapter.open()
        opened.append(adapter)
        message = Outgoing("n1", "webhook", Content(url, text="Hi"), 1, "c1")
        return await adapter.send(message, Wire())

    yield send
    for adapter in opened:
        await adapter.close()


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_this_machine_is_not_reached_however_it_is_written(
    receiver: WebhookLookalike, send: Callable[..., Any], spelling: str
) -> None:
    """No request arrives, and nothing that is retried."""
    answer = await send(f"http://{spelling}:{receiver.port}/hook")

    assert answer.outcome in (Outcome.RECIPIENT, Outcome.TRANSIENT), answer
    assert answer.surely_not_accepted
    assert answer.outcome is Outcome.RECIPIENT or answer.reason == "dns_failed"
    assert receiver.ledger.seen == 0


async def test_a_name_that_leads_to_a_private_address_is_refused(
    receiver: WebhookLookalike, send: Callable[..., Any]
) -> None:
    """And nobody is told to which."""
    answer = await send(f"http://inside.example:{receiver.port}/", Names(["127.0.0.1"]))

    assert (answer.outcome, answer.reason) == (Outcome.RECIPIENT, "private_address")
    assert "127" not in answer.detail
    assert receiver.ledger.seen == 0


async def test_a_name_that_was_public_a_moment_ago_is_judged_again(
    receiver: WebhookLookalike,
) -> None:
    """Rebinding: what counts is the address that the connection is made to."""
    names = Names(["93.184.215.14"], ["127.0.0.1"])
    with ThreadPoolExecutor(1) as threads:
        guard = Guard(threads, names, allow_private=False)
        checked = await guard.resolver.resolve("rebinding.example", receiver.port)

        error = await broken(guard, f"http://rebinding.example:{receiver.port}/")

    assert [each["host"] for each in checked] == ["93.184.215.14"]
    assert names.asked == 2
    assert was_blocked(error)
    assert receiver.ledger.seen == 0


async def test_no_socket_is_made_for_a_private_address_whoever_resolved_it(
    receiver: WebhookLookalike,
) -> None:
    """The last barrier stands by itself: with a resolver that lets everything through."""
    with ThreadPoolExecutor(1) as threads:
        guard = Guard(threads, Names(["127.0.0.1"]), allow_private=False)
        guard.resolver = Guard(threads, Names(["127.0.0.1"]), allow_private=True).resolver

        error = await broken(guard, f"http://inside.example:{receiver.port}/")

    assert was_blocked(error)
    assert receiver.ledger.seen == 0


async def broken(guard: Guard, url: str) -> Exception:
    """Return what breaks a request through this guard."""
    session = HttpSession(2, make_connector=lambda: guard.connector(2))
    await session.open()
    try:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.request("GET", url, Wire())
    finally:
        await session.close()
    return caught.value


async def test_of_several_addresses_only_the_public_ones_are_called() -> None:
    """One private address among them opens no door, and shuts none."""
    with ThreadPoolExecutor(1) as threads:
        names = Names(["127.0.0.1", "93.184.215.14", "::1"], ["10.0.0.1", "fe80::1"])
        resolver = Guard(threads, names, allow_private=False).resolver
        mixed = await resolver.resolve("mixed.example", 443)
        with pytest.raises(BlockedAddress):
            await resolver.resolve("mixed.example", 443)

    assert [each["host"] for each in mixed] == ["93.184.215.14"]


async def test_a_redirect_to_this_machine_is_not_followed(
    receiver: WebhookLookalike, canned: Any, send: Callable[..., Any]
) -> None:
    """Not even where private addresses are allowed: no redirect is."""
    canned.says(307, Location=receiver.hook)

    answer = await send(canned.url, allow_private=True)

    assert (answer.outcome, answer.reason) == (Outcome.PERMANENT, "http_307")
    assert len(canned.requests) == 1
    assert receiver.ledger.seen == 0


async def test_private_addresses_can_be_allowed(
    receiver: WebhookLookalike, send: Callable[..., Any]
) -> None:
    """For networks where every sender is trusted, and for tests."""
    answer = await send(receiver.hook, allow_private=True)

    assert answer.outcome is Outcome.ACCEPTED
    assert receiver.delivered("n1") == 1


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example"])
async def test_a_name_that_cannot_be_one_is_not_found(send: Callable[..., Any], name: str) -> None:
    """An outcome, not an error of ours."""
    answer = await send(f"http://{name}/")

    assert (answer.outcome, answer.reason) == (Outcome.TRANSIENT, "dns_failed")


async def test_a_name_that_hangs_takes_no_thread_of_others(
    receiver: WebhookLookalike, send: Callable[..., Any]
) -> None:
    """Names are looked up in threads of the provider's own, one per call that may be out."""
    release, asked = threading.Event(), threading.Event()

    def hang(host: str, port: int, **_: Any) -> list[Any]:
        asked.set()
        assert release.wait(10.0)
        return []

    task = asyncio.create_task(send("http://hanging.example/", hang))
    try:
        assert await asyncio.to_thread(asked.wait, 5.0)
        answer = await send(receiver.hook.replace("127.0.0.1", "localhost"), allow_private=True)
        assert answer.outcome is Outcome.ACCEPTED
        assert not task.done()
    finally:
        release.set()
    assert (await task).outcome is Outcome.TRANSIENT
