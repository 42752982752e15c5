"""Pages that follow the engine: what a stream sends, and where its bounds are."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from clarion.domain.instant import rfc3339
from clarion.http.dashboard import live, overview


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look often, so that a test does not wait for a person's pace."""
    monkeypatch.setattr(live, "PERIOD_S", 0.05)


STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def following(served, path="/"):
    """Follow a page; gives the answer and a reader of its next events."""
    async with served.session.get(served.url + path, headers=STREAM) as answer:
        yield answer, Events(answer.content)


class Events:
    """Reads server-sent events."""

    def __init__(self, content):
        self._content = content

    async def next_part(self):
        """Return (name, html) of the next part."""
        while True:
            line = (await asyncio.wait_for(self._content.readline(), 10)).decode()
            assert line, "the stream ended"
            if line.startswith("data: "):
                found = json.loads(line.removeprefix("data: "))
                return found["name"], found["html"]

    async def until(self, name, words):
        """Return the first part of that name in which the words stand."""
        async with asyncio.timeout(10):
            while True:
                part, html = await self.next_part()
                if part == name and words in html:
                    return html


async def test_a_stream_begins_with_every_part(served):
    """Whoever comes again after a break has the whole page anew."""
    async with following(served) as (answer, events):
        first = [(await events.next_part())[0] for _ in range(len(overview.PARTS) + 2)]

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert first == ["title", *overview.PARTS, "now"]


async def test_what_changes_is_sent_and_nothing_else(served):
    """The clock at the foot moves; lanes and providers only when somebody steers them."""
    async with following(served) as (_, events):
        await events.until("now", "As of")
        quiet = {(await events.next_part())[0] for _ in range(3)}
        await served.post("/v1/queues/email/pause")
        title = await events.until("title", "warning")
        lanes = await events.until("lanes", "paused")

    assert quiet == {"now"}
    assert "/steer/resume/email" in lanes
    assert title == "Delivering, with 1 warning · Clarion"


async def test_a_story_is_followed_to_its_end(served):
    """From the call that is out to the provider's answer."""
    sent = await served.send(send_at=rfc3339(served.front.clock.now() + 3600))
    async with following(served, f"/notifications/{sent['id']}") as (_, events):
        await events.until("story", "scheduled")
        await served.post(f"/v1/notifications/{sent['id']}/cancel")
        await events.until("story", "It ended as cancelled")


async def test_filters_hold_for_the_stream_too(served):
    """The address of the stream is the page's own, with all that stands in it."""
    await served.send()
    async with following(served, "/?channel=sms") as (_, events):
        html = await events.until("latest", "There is none")

    assert "<b>sms</b>" in html


async def test_the_page_of_dead_letters_is_followed_but_for_its_filter(served):
    """What a person fills in is not taken out of their hands."""
    async with following(served, "/dead-letters") as (_, events):
        parts = [(await events.next_part())[0] for _ in range(4)]

    assert parts == ["title", "dead", "redrives", "now"]


async def test_what_is_not_there_is_not_followed(served):
    """204 tells a browser not to come again."""
    answer = await served.get("/notifications/none", **STREAM)

    assert answer.status == 204


async def test_streams_are_bounded(served, monkeypatch):
    """One more is refused, and has a place once another ends."""
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    async with following(served) as (_, one), following(served) as (_, two):
        await one.next_part()
        await two.next_part()
        refused = await served.get("/", **STREAM)
        page = await served.get("/")

    assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    assert page.status == 200

    async def has_place():
        async with served.session.get(served.url + "/", headers=STREAM) as answer:
            return answer.status == 200

    await served.until(has_place)


async def test_a_reader_who_reads_no_more_is_let_go(served, monkeypatch):
    """Its place comes free although it never closes."""
    monkeypatch.setattr(live, "READ_S", 0.2)
    monkeypatch.setattr(live, "_event", lambda _name, _html: f": {'x' * 1_000_000}\n\n")
    async with served.connect() as (_reader, writer):
        head = f"GET /?channel=email HTTP/1.1\r\nHost: {served.url[7:]}\r\n"
        writer.write(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        await served.until(lambda: _n(served, 1))
        await served.until(lambda: _n(served, 0))


async def _n(served, n):
    return served.app[live.LIVE]._n == n


async def test_a_bug_in_a_look_ends_the_stream_and_is_logged(served, monkeypatch):
    """The next one finds the page mended, or fails in its turn."""
    async with following(served) as (_, events):
        await events.until("now", "As of")

        async def fail():
            raise RuntimeError("a bug")

        monkeypatch.setattr(served.front.service, "stats", fail)
        with pytest.raises((aiohttp.ClientPayloadError, AssertionError)):
            await events.until("now", "never")


async def test_streams_end_when_the_server_stops(serve_front, served):
    """A page that is looked at does not hold up a shutdown."""
    other = await serve_front(served.front)
    async with following(other) as (answer, events):
        await events.until("now", "As of")
        await other.stop()
        async with asyncio.timeout(live.READ_S):
            assert await answer.content.read() is not None
            assert answer.content.at_eof()


async def test_a_stream_needs_the_key_as_its_page_does(serve):
    served = await serve(server={"api_key": "correct-horse"})

    assert (await served.get("/", **STREAM)).status == 401
