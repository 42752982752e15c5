"""The page at `/` and the one of each notification, rendered from a real engine."""

from __future__ import annotations

import asyncio
import dataclasses
import html
import itertools
import re
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import pytest
from aiohttp import web
from typer.testing import CliRunner

from clarion.actors.supervisor_messages import CircuitReport, ProviderSnapshot, SupervisorSnapshot
from clarion.cli.command import app as cli
from clarion.domain.notification import Status
from clarion.domain.outcome import Health, Outcome
from clarion.errors import StorageUnavailable
from clarion.http.dashboard import overview, view
from clarion.http.dashboard import page as page_module
from clarion.http.dashboard.row import CIRCUIT_WORDS, PROVIDER_MARKS
from clarion.http.dashboard.view import OUTCOME_MARKS, STATUS_MARKS

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7*7 }}"
NOWHERE = {"email": {"providers": ["mail"]}}
STATES = (
    "ok", "ramping", "open", "half_open", "forced_open", "disabled", "misconfigured", "throttled",
    "stalled", "down",
)  # fmt: skip
"""Every state that a ProviderSnapshot documents."""
_VOID = {"meta", "link", "img", "br", "input"}


class Read(HTMLParser):
    """What a browser makes of a page; fails on tags that do not close each other."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.attributes = set(), [], set(), set()
        self._open, self._words = [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def _note(self, tag, attrs):
        if tag == "script" and dict(attrs).get("src", "").startswith("/static/live.js?"):
            # The only one that belongs there; it has no text of its own.
            return
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.links.append(value)
            if name == "id":
                assert value not in self.ids, f"two elements are #{value}"
                self.ids.add(value)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self._words.append(data)

    @property
    def words(self):
        """The text, white space folded."""
        return " ".join(" ".join(self._words).split())


async def read(served, path="/", status=200):
    """Load a page."""
    answer = await served.get(path)
    assert answer.status == status, answer.text
    return Read(answer.text)


def mail_provider(url, **more):
    """Settings of a SendGrid account at `url`."""
    return {
        "kind": "sendgrid", "api_key": "SG.x", "from_address": "news@example.com",
        "base_url": url, **more,
    }  # fmt: skip


async def until_status(served, id, status):
    async def is_there():
        return (await served.get(f"/v1/notifications/{id}")).json["status"] == status

    await served.until(is_there)


def provider(state, **more):
    """A provider in a state."""
    snapshot = ProviderSnapshot(
        name=f"the-{state}", kind="outbox", channels=("email",), state=state,
        circuit=CircuitReport(f"the-{state}", "closed", 3, None, 0), is_enabled=True, in_flight=3,
        slots=4, max_concurrent=8, health=None, reason="", retry_after_s=None,
    )  # fmt: skip
    return dataclasses.replace(snapshot, **more)


def answer_with(monkeypatch, served, *providers, actors=None):
    """Let the supervisor say this."""

    async def say():
        return SupervisorSnapshot(providers, actors or {}, {})

    monkeypatch.setattr(served.front.service, "providers", say)


# --- what there is to see --------------------------------------------------------------------


async def test_a_fresh_server_says_what_to_do_first(served):
    """All is well, nothing was sent, and the command that changes that."""
    page = await read(served)

    assert "All is well" in page.words
    assert "Nothing has been sent yet" in page.words
    assert "clarion send --channel email --to you@example.com" in page.words


async def test_a_newcomer_finds_what_was_sent_and_its_timeline(served):
    """From the row to the story: accepted, the call with its provider, and the end."""
    sent = await served.send()
    await until_status(served, sent["id"], "sent")

    page = await read(served)
    story = await read(served, f"/notifications/{sent['id']}")

    assert f"/notifications/{sent['id']}" in page.links
    assert "It was sent: outbox took it" in page.words
    for words in ("Clarion took it", "A call to outbox", "first in the route", "It ended as sent"):
        assert words in story.words


async def test_recipients_are_masked(served):
    """Pages end up on screenshots; the JSON has the address in clear."""
    sent = await served.send(to="ada.lovelace@example.com")
    for path in ("/", f"/notifications/{sent['id']}"):
        text = (await served.get(path)).text

        assert "ada.lovelace" not in text
        assert "a***@example.com" in text


async def test_the_counts_are_those_of_the_stats_and_reconcile(served):
    """Every status has its number, and their sum is what was accepted."""
    for _ in range(3):
        await served.send()
    cancelled = await served.send(send_at=_in_an_hour(served))
    await served.post(f"/v1/notifications/{cancelled['id']}/cancel")
    for status, n in (("sent", 3), ("cancelled", 1)):
        await served.until(lambda s=status, n=n: _counts(served, s, n))

    text = (await served.get("/")).text
    numbers = [int(n) for n in re.findall(r"<dd>(?:<a[^>]*>)?([\d,]+)", text)]

    assert numbers[0] == 4
    assert sum(numbers[1:]) == numbers[0]
    assert len(numbers) == 1 + len(Status)


def _in_an_hour(served):
    from clarion.domain.instant import rfc3339

    return rfc3339(served.front.clock.now() + 3600)


async def _counts(served, status, n):
    return (await served.get("/v1/stats")).json["by_status"].get(status) == n


async def test_a_status_a_channel_and_earlier_pages_can_be_followed(served, monkeypatch):
    """The numbers lead to their rows; a page that is full leads to the earlier ones."""
    monkeypatch.setattr(overview, "ROWS", 2)
    ids = [(await served.send())["id"] for _ in range(3)]
    for id in ids:
        await until_status(served, id, "sent")

    page = await read(served, "/?status=sent&channel=email")
    (earlier,) = [link for link in page.links if "cursor=" in link]
    rest = await read(served, earlier)

    assert stories(page) == [ids[2], ids[1]]
    assert stories(rest) == [ids[0]]
    assert stories(await read(served, "/?status=failed")) == []
    assert stories(await read(served, "/?channel=sms")) == []


def stories(page):
    """The notifications that a page links to, in order."""
    return [link.rpartition("/")[2] for link in page.links if "/notifications/" in link]


@pytest.mark.parametrize(
    "query",
    [
        "status=nonsense",
        "cursor=%00",
        "channel=%ED%A0%80",
        "channel=<script>",
        "refresh=" + "9" * 9,
    ],
)
async def test_a_query_that_cannot_be_is_answered_with_a_page(served, query):
    """Whatever stands in the address, the operator sees how the engine stands."""
    page = await read(served, f"/?{query}")

    assert "All is well" in page.words
    assert "script" not in page.tags


async def test_the_page_reloads_itself_only_for_who_asks(served):
    """For browsers without scripts: `?refresh=5` asks for it."""
    calm, asked = await served.get("/"), await served.get("/?refresh=5")
    hasty = await served.get("/?refresh=0")

    assert "http-equiv" not in calm.text
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in asked.text
    assert f'content="{overview.MIN_RELOAD_S}"' in hasty.text


async def test_a_notification_that_is_not_there_is_told_kindly(served):
    """404, as a page, whatever the id looks like."""
    for id in ("01JC0000000000000000000001", "%C3%A9", "<script>"):
        page = await read(served, f"/notifications/{id}", 404)

        assert "There is no such notification" in page.words
        assert "script" not in page.tags


# --- trouble ---------------------------------------------------------------------------------


async def test_a_held_lane_an_open_circuit_and_a_wrong_key_are_told_first(serve):
    """What is wrong, and what to do about it, before everything else."""
    async with refusing(401, "the key is wrong") as url:
        served = await serve(
            providers={"mail": mail_provider(url), "spare": mail_provider("http://127.0.0.1:1")},
            channels={"email": {"providers": ["mail"]}, "sms": {"providers": ["outbox"]}},
        )
        sent = await served.send()
        await served.until(lambda: _is_held(served, sent["id"]))
        page = await read(served)

    assert re.search(r"\d problems?", page.words)
    assert "The lane email is held" in page.words
    assert "mail refuses our account" in page.words
    assert "Mend its credentials or sender in [providers.mail]" in page.words
    assert "held" in page.words


async def _is_held(served, id):
    return (await served.get(f"/v1/notifications/{id}")).json["held"]


async def test_what_an_operator_did_is_shown_with_the_command_that_undoes_it(served):
    """A pause, a disabled provider and a forced breaker are easily forgotten."""
    await served.front.service.pause("email")
    await served.front.service.set_breaker("outbox", "open")
    forced = await read(served)
    await served.front.service.set_provider("outbox", is_enabled=False)
    disabled = await read(served)

    assert "clarion queues resume email" in forced.words
    assert "clarion breakers reset outbox" in forced.words
    assert "clarion providers enable outbox" in disabled.words


async def test_every_command_that_the_page_names_is_one_of_the_command_line(served, monkeypatch):
    """Who types at 3 a.m. what the page says must not be told that it does not exist."""
    answer_with(monkeypatch, served, *(provider(state) for state in STATES))
    await served.front.service.pause("email")

    text = (await served.get("/")).text
    typed = {command.split()[1] for command in _commands(text)}
    for command in _commands(text):
        words = itertools.takewhile(lambda word: word[0] != "-", command.split()[1:3])
        found = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--help"])
        assert found.exit_code == 0, command

    assert {"send", "queues", "breakers", "providers", "check"} <= typed


def _commands(text):
    return re.findall(r"<code>(clarion [a-z -]+)", html.unescape(text))


def test_every_word_of_the_engine_has_a_rendering():
    """A state, a circuit, a status or an outcome that is new must get its mark."""
    assert set(PROVIDER_MARKS) == set(STATES)
    documented = re.findall(r'"(\w+)"', _state_documentation())
    assert set(documented) == set(STATES)
    assert set(CIRCUIT_WORDS) == {"closed", "open", "half_open", "forced_open", "disabled"}
    assert set(STATUS_MARKS) == set(Status)
    assert set(OUTCOME_MARKS) == set(Outcome)


def _state_documentation():
    import inspect

    from clarion.actors import supervisor_messages

    source = inspect.getsource(supervisor_messages.ProviderSnapshot)
    return source.partition("state: str")[2].partition("circuit:")[0].replace('"""', "")


@pytest.mark.parametrize("state", STATES)
async def test_every_state_of_a_provider_has_word_and_symbol(served, monkeypatch, state):
    """Never by colour alone: the word stands there, beside a symbol that exists."""
    answer_with(monkeypatch, served, provider(state, reason="for a reason"))

    text = (await served.get("/")).text

    mark = PROVIDER_MARKS[state]
    assert f'<use href="#s-{mark.shape}"/></svg><span>{mark.word}</span>' in text
    assert f'<symbol id="s-{mark.shape}"' in text
    assert "for a reason" in text
    assert "3 of 4" in text


@pytest.mark.parametrize("state", sorted(set(STATES) - {"ok", "ramping"}))
async def test_a_provider_that_is_not_well_is_in_the_headline(served, monkeypatch, state):
    """Nobody has to read the tables to learn that something is wrong."""
    answer_with(monkeypatch, served, provider(state))

    page = await read(served)

    assert "All is well" not in page.words
    assert re.search(r"\d (problem|warning)", page.words)


async def test_a_failing_health_probe_is_told(served, monkeypatch):
    """It still takes messages, but somebody may want to know."""
    ill = Health(is_healthy=False, detail="no route to host", checked_at=served.front.clock.now())
    answer_with(monkeypatch, served, provider("ok", health=ill))

    page = await read(served)

    assert "The health probe of the-ok fails: no route to host" in page.words


async def test_an_actor_over_its_restart_budget_is_told(served, monkeypatch):
    answer_with(monkeypatch, served, provider("ok"), actors={"journal": "failed"})

    assert "The actor journal is failed" in (await read(served)).words


async def test_counts_that_do_not_reconcile_are_a_problem(served, monkeypatch):
    """It must never be; if it is, the page does not hide it."""

    async def stats():
        return {"accepted": 5, "by_status": {"sent": 4}, "by_channel": {}}

    monkeypatch.setattr(served.front.service, "stats", stats)

    assert "The counts do not reconcile: 5 accepted, 4 accounted for" in (await read(served)).words


async def test_the_page_renders_without_the_supervisor(served):
    """Its part says that it is missing; the lanes and the notifications are there."""
    sent = await served.send()
    await until_status(served, sent["id"], "sent")
    await served.engine.runtime.stop("supervisor", 5)

    page = await read(served)

    assert "The supervisor does not say how the providers stand" in page.words
    assert f"/notifications/{sent['id']}" in page.links
    assert {"lanes", "providers", "latest"} <= page.ids


async def test_a_silent_supervisor_is_not_waited_for(served, monkeypatch):
    """Each part has its own time limit."""
    monkeypatch.setattr(page_module, "ANSWER_S", 0.05)
    monkeypatch.setattr(served.front.service, "providers", asyncio.Event().wait)

    page = await read(served)

    assert "no answer within 0.05 s" in page.words
    assert "email" in page.words


async def test_the_page_renders_while_the_store_cannot_be_read(served, monkeypatch):
    """Lanes and providers answer from memory; a story says that it has to wait."""

    async def fail(_question):
        raise StorageUnavailable("the disk does not answer")

    monkeypatch.setattr(served.engine.reader, "_ask", fail)
    page = await read(served)
    story = await read(served, "/notifications/01JC0000000000000000000001", 503)

    assert "The store cannot be read: the disk does not answer" in page.words
    assert "takes messages" in page.words
    assert "Nothing has been sent yet" not in page.words
    assert "It cannot be read now" in story.words


# --- hostile content, links, headers ---------------------------------------------------------


@asynccontextmanager
async def refusing(status, message):
    """Run a provider that refuses every message with these words."""

    async def refuse(_request):
        return web.json_response({"errors": [{"message": message}]}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_hostile_content_stays_text(serve):
    """What customers, tenants and providers write is never part of the page's own code."""
    async with refusing(400, HOSTILE) as url:
        served = await serve(providers={"mail": mail_provider(url)}, channels=NOWHERE)
        sent = await served.send(
            subject=HOSTILE, reference=HOSTILE, tenant=HOSTILE, text=HOSTILE,
            metadata={HOSTILE: HOSTILE}, headers={"X-Note": HOSTILE},
        )  # fmt: skip
        await until_status(served, sent["id"], "failed")
        page = await read(served)
        story = await read(served, f"/notifications/{sent['id']}")

    for each in (page, story):
        assert "script" not in each.tags
        assert not [name for name in each.attributes if name.startswith("on") or name == "style"]
    assert "<script>alert('x')</script>" in page.words  # the tenant, as text
    assert story.words.count("{{ 7*7 }}") >= 4
    assert "49" not in html.unescape(story.words).split()


async def test_every_link_leads_somewhere(served):
    """Pages, the style, the symbol in the tab, and the places inside a page."""
    sent = await served.send()
    await until_status(served, sent["id"], "sent")
    for path in ("/", f"/notifications/{sent['id']}", "/?status=sent&refresh=5"):
        page = await read(served, path)
        for link in page.links:
            target, _, fragment = link.partition("#")
            if target:
                answer = await served.get(target)
                assert answer.status == 200, (path, link)
            if fragment:
                there = Read(answer.text) if target else page
                assert fragment in there.ids, (path, link)
    assert {"/docs", "/metrics", "/health"} <= set(page.links)


async def test_pages_carry_a_policy_that_allows_our_own_script_alone(served):
    """Nothing else runs, nothing is embedded, nothing is kept, no other site learns of a reader."""
    for path in ("/", "/notifications/none"):
        headers = (await served.get(path)).headers
        policy = headers["Content-Security-Policy"]

        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self' data:;")
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self'; connect-src 'self'; form-action 'self'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", ["..%2fdashboard.py", "nothing.css", "dashboard.css%00"])
async def test_nothing_but_the_drawings_is_served(served, name):
    answer = await served.get(f"/static/{name}")

    assert answer.status == 404


# --- in a browser ----------------------------------------------------------------------------

PATHS = ("/", "/dead-letters", "/dead-letters/redrive?reason=permanent", "/dead-letters/discard")


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 390), ("dark", 320), ("light", 768), ("dark", 980), ("light", 1280)],
)
async def test_the_pages_fit_a_telephone_and_a_desk(serve, browse, scheme, width):
    """No sideways scrolling with long words in every place, and a silent console."""
    long = "w" * 180
    async with refusing(400, "m" * 300) as url:
        name = "a-provider-with-a-name-of-sixty-four-letters-" + "x" * 19
        served = await serve(
            providers={name: mail_provider(url)},
            channels={"email": {"providers": [name, "outbox"]}, "sms": {"providers": ["outbox"]}},
        )
        await served.front.service.pause("sms")
        sent = await served.send(
            to=f"{'l' * 60}@{'d' * 60}.example.com", subject=long, tenant=long, reference=long,
            metadata={long: long}, headers={"X-Campaign": long},
        )  # fmt: skip
        await until_status(served, sent["id"], "failed")
        async with browse(scheme, width) as (page, complaints):
            for path in (*PATHS, f"/notifications/{sent['id']}"):
                await page.goto(served.url + path)
                found = await page.evaluate("document.documentElement.scrollWidth")
                assert found <= width, path
    assert complaints == []


async def test_a_notification_is_reached_by_keyboard(served, browse):
    """From the top of the page by Tab and Enter alone; the first stop skips to the content."""
    sent = await served.send()
    await until_status(served, sent["id"], "sent")

    async with browse() as (page, complaints):
        await page.goto(served.url + "/")
        await page.keyboard.press("Tab")
        assert await focus(page) == "#content"
        for _ in range(40):
            if "/notifications/" in await focus(page):
                break
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/notifications/{sent['id']}")
        heading = await page.inner_text("h1")

    assert sent["id"] in heading
    assert complaints == []


async def focus(page):
    """Where the link with the focus leads."""
    return await page.evaluate("document.activeElement.getAttribute('href') || ''")


@pytest.mark.parametrize("name", ["receipt", "redriven", "something new"])
def test_every_event_of_a_timeline_has_a_line(name):
    """What a provider told later and what people did is shown; an unknown word is no error."""
    event = {"event": name, "provider": "mail", "outcome": "delivered", "why": None}

    step = view._step(event, "")

    assert step.headline
    assert step.mark.word
