"""A provider whose words no database can hold: whatever it says, the notification ends."""

from __future__ import annotations

import asyncio

import clarion
from clarion.testing import Fault

NOT_UTF8 = b"HTTP/1.1 202 Accepted\r\nX-Message-Id: ab\xff\xfe\r\nContent-Length: 0\r\n\r\n"


async def test_words_that_are_no_text_end_a_notification_all_the_same(house):
    """A lone surrogate or a NUL in an error's message is replaced, and the reason is kept."""
    provider = await house.sendgrid()
    provider.behave(Fault.error(400, message="bad \ud800 and \0 thing"))
    path = house.configure({"only": provider.settings()}, {"email": ["only"]})
    async with clarion.start(path) as service:
        receipt = await service.send(**house.email())

        final = await receipt.settled(timeout=5)

        assert (final.status, final.reason) == ("failed", "permanent")
        told = await service.represent(await service.get(receipt.id), with_timeline=True)
        assert any("bad \ufffd and \ufffd thing" in (it["detail"] or "") for it in told["timeline"])


async def test_an_id_that_is_no_text_does_not_undo_a_delivery(house):
    """The bytes of a header are any; the message was taken, and is not sent again."""
    requests = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        requests.append(await reader.readexactly(int(length)))
        writer.write(NOT_UTF8)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        table = {"kind": "sendgrid", "api_key": "SG.x", "from_address": "a@example.com",
                 "base_url": f"http://127.0.0.1:{port}"}  # fmt: skip
        path = house.configure({"only": table}, {"email": ["only"]})
        async with clarion.start(path) as service:
            receipt = await service.send(**house.email())

            final = await receipt.settled(timeout=5)

    assert final.status == "sent"
    assert len(requests) == 1
