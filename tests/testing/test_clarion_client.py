"""The client of Clarion's API that tests share."""

from __future__ import annotations

import asyncio
import json

import pytest

from clarion.testing import SendGridLookalike
from clarion.testing.client import ClarionClient


@pytest.fixture
async def server():
    async with SendGridLookalike() as one:
        yield one


async def test_a_request_while_the_client_closes_opens_a_connection_of_its_own(server):
    """A client is closed at each death of its server, whoever else is about to ask."""
    closed, may_end = asyncio.Event(), asyncio.Event()
    async with ClarionClient(server.url) as client:
        await client.request("GET", "/")
        close = client._session.close

        async def close_slowly():
            await close()
            closed.set()
            await may_end.wait()

        client._session.close = close_slowly
        closing = asyncio.create_task(client.close())
        await closed.wait()

        try:
            answer = await client.request("GET", "/")
        finally:
            may_end.set()
            await closing

        assert answer.status == 404
        assert not client._session.closed


async def test_how_a_server_stands_is_what_each_of_its_views_says(server):
    """Whatever they answer; and what does not answer says why."""
    async with ClarionClient(server.url) as client:
        refused = await client.standing()
        await server.stop()
        silent = await client.standing()

    views = ["/v1/stats", "/v1/queues", "/v1/providers", "/health"]
    assert [line.partition(": ")[0] for line in refused.splitlines()] == views
    for line in refused.splitlines():
        status, _, body = line.partition(": ")[2].partition(" ")
        assert status == "404"
        assert "errors" in json.loads(body)
    assert [line.partition(": ")[0] for line in silent.splitlines()] == views
    assert all("Connect" in line for line in silent.splitlines())
