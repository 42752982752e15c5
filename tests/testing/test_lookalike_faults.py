"""Each misbehaviour, seen by a client over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohappyeyeballs import AddrInfoType

from clarion.testing import Fault, SendGridLookalike, TwilioLookalike

AUTHORIZATION = {"Authorization": "Bearer SG.test"}


def mail(id_: str = "n1") -> dict[str, object]:
    return {
        "personalizations": [
            {"to": [{"email": "ada@example.com"}], "custom_args": {"clarion_id": id_}}
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


async def send(
    session: aiohttp.ClientSession, server: SendGridLookalike, id_: str = "n1"
) -> tuple[int, bytes, dict[str, str]]:
    async with session.post(
        f"{server.url}/v3/mail/send", json=mail(id_), allow_redirects=False
    ) as response:
        return response.status, await response.read(), dict(response.headers)


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_an_error_of_its_own_has_the_published_shape_and_takes_nothing(
    server: SendGridLookalike, session: aiohttp.ClientSession, status: int
) -> None:
    """A complete error answer that the provider itself wrote."""
    server.behave(Fault.error(status))

    async with session.post(f"{server.url}/v3/mail/send", json=mail()) as response:
        body = await response.json()

    assert response.status == status
    assert set(body["errors"][0]) == {"message", "field", "help"}
    assert server.delivered("n1") == 0


async def test_an_error_may_hide_that_the_message_was_taken(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """With `accepts` the ledger counts a delivery that the client was told failed."""
    server.behave(Fault.error(500, accepts=True))

    status, _, _ = await send(session, server)

    assert (status, server.delivered("n1")) == (500, 1)


async def test_a_proxy_answers_with_html(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """502 with a page, not with the provider's shape."""
    server.behave(Fault.html())

    status, body, headers = await send(session, server)

    assert status == 502
    assert headers["Content-Type"].startswith("text/html")
    assert body.startswith(b"<html>")


@pytest.mark.parametrize("wish", [3, 10**9, -1, "Wed, 04 Mar 2026 05:06:07 GMT", None])
async def test_throttling_carries_the_wish_verbatim(
    server: SendGridLookalike, session: aiohttp.ClientSession, wish: float | str | None
) -> None:
    """429 with seconds, an absurd or negative number, a date, or no Retry-After at all."""
    server.behave(Fault.throttled(wish))

    status, body, headers = await send(session, server)

    assert status == 429
    assert headers.get("Retry-After") == (None if wish is None else str(wish))
    assert headers["X-RateLimit-Remaining"] == "0"
    assert b"too many requests" in body
    assert server.deliveries.total() == 0


async def test_everyone_is_unauthorized_until_it_recovers(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """401 for sends and for the health probe alike, then well again."""
    server.behave(Fault.unauthorized())
    refused, body, _ = await send(session, server)
    async with session.get(f"{server.url}/v3/scopes") as response:
        probe_refused = response.status

    server.recover()
    accepted, _, _ = await send(session, server)
    async with session.get(f"{server.url}/v3/scopes") as response:
        probe_accepted = response.status

    assert (refused, probe_refused, accepted, probe_accepted) == (401, 401, 202, 200)
    assert b"authorization grant is invalid" in body


@pytest.mark.parametrize(("fault", "taken"), [(Fault.accept_then_hang(), 1), (Fault.hang(), 0)])
async def test_a_hang_never_answers_and_the_ledger_knows_whether_it_took_the_message(
    server: SendGridLookalike, session: aiohttp.ClientSession, fault: Fault, taken: int
) -> None:
    """The client cannot tell the two apart; the place is free when it hangs up."""
    server.behave(fault)
    task = asyncio.create_task(send(session, server))
    await server.wait_for(lambda: server.in_flight == 1 and server.delivered("n1") == taken)

    task.cancel()
    await server.wait_for(lambda: server.in_flight == 0)

    assert server.delivered("n1") == taken
    assert (server.requests[0].outcome, server.requests[0].status) == ("hang", None)


@pytest.mark.parametrize(("fault", "taken"), [(Fault.accept_then_reset(), 1), (Fault.reset(), 0)])
async def test_a_reset_breaks_the_connection(
    server: SendGridLookalike, session: aiohttp.ClientSession, fault: Fault, taken: int
) -> None:
    """The client meets a connection error, and no answer."""
    server.behave(fault)

    with pytest.raises(aiohttp.ClientOSError):
        await send(session, server)

    assert server.delivered("n1") == taken
    assert (server.requests[0].outcome, server.requests[0].status) == ("reset", None)


async def test_success_may_come_with_half_a_document() -> None:
    """201, correctly framed, whose JSON ends in the middle; the message was taken."""
    async with TwilioLookalike() as server:
        server.behave(Fault.truncated())
        login = aiohttp.encode_basic_auth(server.account_sid, server.auth_token)
        form = {"To": "+15551234567", "From": "+15005550006", "Body": "hi"}
        path = f"/2010-04-01/Accounts/{server.account_sid}/Messages.json"
        async with (
            aiohttp.ClientSession(headers={"Authorization": login}) as session,
            session.post(server.url + path, data=form) as response,
        ):
            with pytest.raises(ValueError, match="Unterminated"):
                await response.json()

        assert response.status == 201
        assert server.deliveries.total() == 1


async def test_an_answer_may_be_cut_off(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """Fewer bytes than announced, then the end of the connection; the message was taken."""
    server.behave(Fault.cut_off())

    with pytest.raises(aiohttp.ClientPayloadError):
        await send(session, server)

    assert server.delivered("n1") == 1


async def test_204_comes_where_another_success_is_due(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """204 without the headers of a real success."""
    server.behave(Fault.no_content())

    status, body, headers = await send(session, server)

    assert (status, body, server.delivered("n1")) == (204, b"", 1)
    assert "X-Message-Id" not in headers


async def test_a_redirect_points_into_a_private_network(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """301 to the metadata address of a cloud; nothing was taken."""
    server.behave(Fault.redirect())

    status, _, headers = await send(session, server)

    assert status == 301
    assert headers["Location"] == "http://169.254.169.254/latest/meta-data/"
    assert server.deliveries.total() == 0


async def test_a_slow_drip_defeats_timeouts_between_bytes(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """The head is there, and bytes keep coming one at a time, but the answer does not end."""
    server.behave(Fault.drip(interval_s=0.005))

    async with session.post(f"{server.url}/v3/mail/send", json=mail()) as response:
        first = await response.content.readany()
        second = await response.content.readany()
        announced = response.content_length

    assert (response.status, announced, server.delivered("n1")) == (202, 60, 1)
    assert len(first + second) < 60


async def test_an_error_body_may_be_ten_megabytes(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """A client without a cap on reading would take all of it."""
    server.behave(Fault.huge())

    status, body, _ = await send(session, server)

    assert (status, len(body)) == (500, 10_000_000)


async def test_a_huge_body_ends_when_the_client_hangs_up(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """A client that caps its reading costs the server nothing more."""
    server.behave(Fault.huge(size_bytes=500_000_000))

    async with session.post(f"{server.url}/v3/mail/send", json=mail()) as response:
        await response.content.readexactly(1000)
        response.close()
    await server.wait_for(lambda: server.in_flight == 0)

    assert response.status == 500


async def test_a_connection_is_closed_while_it_is_idle(server: SendGridLookalike) -> None:
    """The answer promises keep-alive, and then the connection ends."""
    server.behave(Fault.keepalive_close(), times=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "POST /v3/mail/send HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nAuthorization: Bearer SG.test"
    body = str(mail()).replace("'", '"')
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\n{kind}\r\n\r\n{body}".encode())

    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 202")
    assert b"connection: close" not in answer.lower()
    assert server.delivered("n1") == 1


async def test_a_client_reconnects_after_an_idle_close_without_sending_twice(
    server: SendGridLookalike,
) -> None:
    """Two messages over a connection that died between them are two deliveries.

    The second is sent once the client has seen the end. Earlier it would meet the dead connection
    and fail, rightly: the server reads nothing more from it.
    """
    server.behave(Fault.keepalive_close())
    sockets: list[socket.socket] = []

    def remember(address: AddrInfoType) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    connector = aiohttp.TCPConnector(socket_factory=remember)
    async with aiohttp.ClientSession(headers=AUTHORIZATION, connector=connector) as session:
        await send(session, server, "a")
        await _closed(sockets[0])
        server.recover()
        status, _, _ = await send(session, server, "b")

    assert status == 202
    assert len(sockets) == 2
    assert (server.delivered("a"), server.delivered("b")) == (1, 1)


async def _closed(client: socket.socket) -> None:
    async with asyncio.timeout(5):
        while client.fileno() != -1:
            await asyncio.sleep(0)


async def test_a_slow_answer_was_taken_long_before(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """The delivery counts at once; the answer comes after the delay."""
    server.behave(Fault.slow(delay_s=30.0))
    task = asyncio.create_task(send(session, server))

    await server.wait_for(1)
    task.cancel()
    await asyncio.wait([task])

    assert server.delivered("n1") == 1


async def test_latency_is_between_taking_and_answering(
    server: SendGridLookalike, session: aiohttp.ClientSession
) -> None:
    """With latency, sends overlap inside the provider."""
    server.latency_s = 0.05

    tasks = [asyncio.create_task(send(session, server, f"n{at}")) for at in range(4)]
    await server.wait_for(4)
    inside = server.in_flight
    statuses = {status for status, _, _ in await asyncio.gather(*tasks)}

    assert statuses == {202}
    assert (inside, server.max_in_flight) == (4, 4)
