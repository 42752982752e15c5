"""The buttons of the pages: what they do, whom they obey, what they say when it was not done."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
from urllib.parse import urlencode

import pytest

from clarion.domain.instant import rfc3339
from clarion.domain.notification import Status
from clarion.errors import StorageUnavailable
from clarion.http.dashboard import deed
from clarion.http.dashboard.form import MAX_FORM_BYTES
from clarion.http.dashboard.row import CIRCUIT_WORDS
from clarion.http.dashboard.steering import DECISIONS, STEERING
from clarion.testing import Fault, SendGridLookalike

FORM = "application/x-www-form-urlencoded"


async def press(served, path, form="", **headers):
    """Send what a browser sends when a button of our page is pressed."""
    sent = {"Content-Type": FORM, "Origin": served.url, "Sec-Fetch-Site": "same-origin", **headers}
    given = {name: value for name, value in sent.items() if value is not None}
    return await served.ask("POST", path, data=form.encode(), headers=given)


async def lane(served, channel="email"):
    items = (await served.get("/v1/queues")).json["items"]
    return next(each for each in items if each["channel"] == channel)


async def provider(served, name="outbox"):
    items = (await served.get("/v1/providers")).json["items"]
    return next(each for each in items if each["name"] == name)


def in_an_hour(served):
    return rfc3339(served.front.clock.now() + 3600)


async def test_a_lane_is_paused_and_resumed(served):
    """The answer leads to the page that shows it, and loading that anew repeats nothing."""
    paused = await press(served, "/steer/pause/email")
    assert (paused.status, paused.headers["Location"]) == (303, "/#lanes")
    assert (await lane(served))["paused"]

    assert (await press(served, "/steer/resume/email")).status == 303
    assert not (await lane(served))["paused"]


async def test_a_provider_and_its_circuit_are_steered(served):
    """Each word of the page does what the API's does."""
    seen = []
    for word in ("open", "reset", "close", "reset", "disable", "enable"):
        answer = await press(served, f"/steer/{word}/outbox")
        assert (answer.status, answer.headers["Location"]) == (303, "/#providers"), word
        found = await provider(served)
        seen.append((found["circuit"], found["enabled"]))

    assert seen == [
        ("forced_open", True), ("closed", True), ("disabled", True), ("closed", True),
        ("closed", False), ("closed", True),
    ]  # fmt: skip


async def test_every_button_that_a_page_draws_has_a_route():
    """None leads nowhere."""
    drawn = [
        each
        for enabled, circuit in itertools.product((True, False), CIRCUIT_WORDS)
        for each in deed.provider_deeds("a/b", enabled, circuit)
    ]
    drawn += [deed.lane_deed("a/b", paused) for paused in (True, False)]

    words = {each.path.split("/")[2] for each in drawn}
    assert words == set(STEERING)
    assert {each.path.split("/")[3] for each in drawn} == {"a%2Fb"}


async def test_who_did_it_is_written_down_and_shown(serve):
    """The name that a browser's login gave; with one key for all it is what people say."""
    served = await serve(server={"api_key": "correct-horse"})
    login = "Basic " + base64.b64encode(b"Ada\x07 <L>:correct-horse").decode()

    answer = await press(served, "/steer/pause/email", Authorization=login)
    page = await served.get("/", Authorization=login)

    assert answer.status == 303
    assert (await served.front.service.controls())["lane", "email"].who == "page:Ada <L>"
    assert "by page:Ada &lt;L&gt;" in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": None},
        {"Origin": "null", "Sec-Fetch-Site": None},
        {"Origin": None, "Sec-Fetch-Site": None},
        {"Origin": None, "Sec-Fetch-Site": "same-site"},
        {"Origin": None, "Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("key", ["", "correct-horse"])
async def test_a_form_of_another_page_does_nothing(serve, key, headers):
    """Also where a browser adds the login by itself; and what says nothing is not believed."""
    served = await serve(server={"api_key": key})
    login = "Basic " + base64.b64encode(f":{key}".encode()).decode() if key else None

    answer = await press(served, "/steer/pause/email", Authorization=login, **headers)

    assert answer.status == 403
    bearer = {"Authorization": f"Bearer {key}"} if key else {}
    assert not (await served.get("/v1/queues", **bearer)).json["items"][0]["paused"]


async def test_a_form_behind_a_proxy_is_known_by_the_public_url(serve):
    """Proxies may send a Host of their own; the browser still names what it sees."""
    served = await serve(server={"public_url": "https://Notify.example.com"})

    right = await press(served, "/steer/pause/email", Origin="https://notify.example.com")
    wrong = await press(served, "/steer/resume/email", Origin="https://notify.example.com:8443")

    assert (right.status, wrong.status) == (303, 403)


@pytest.mark.parametrize(
    ("path", "form", "headers", "status", "words"),
    [
        ("/steer/pause/nothing", "", {}, 404, "nothing"),
        ("/steer/open/nothing", "", {}, 404, "nothing"),
        ("/steer/explode/email", "", {}, 404, "explode"),
        ("/notifications/none/cancel", "", {}, 404, "none"),
        ("/notifications/none/explode", "", {}, 404, "explode"),
        ("/redrives/none/cancel", "", {}, 404, "none"),
        ("/steer/pause/email", "{}", {"Content-Type": "application/json"}, 415, "urlencoded"),
        ("/steer/pause/email", "a=%ff", {}, 400, "cannot be read"),
        ("/steer/pause/email", "a=" + "b" * MAX_FORM_BYTES, {}, 413, "larger"),
        ("/steer/pause/email", "&".join(f"a{n}=b" for n in range(99)), {}, 400, "cannot be read"),
        ("/dead-letters/redrive", "rate=fast", {}, 422, "&#39;fast&#39; is no number"),
        ("/dead-letters/redrive", "rate=nan", {}, 422, "Rate must be a number"),
        ("/dead-letters/redrive", "rate=0", {}, 422, "Rate must be a number"),
        ("/dead-letters/redrive", "reason=bad&channel=fax", {}, 422, "must be one of"),
        ("/dead-letters/discard", "since=yesterday", {}, 422, "Since "),
    ],
)
async def test_what_was_not_done_is_told_as_a_page(served, path, form, headers, status, words):
    """What is wrong, and a way back; the status says it to programs."""
    answer = await press(served, path, form, **headers)

    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "This was not done" in answer.text
    assert words in answer.text
    assert "/static/live.js" not in answer.text


# --- one notification ------------------------------------------------------------------------


async def test_a_scheduled_one_is_cancelled_once(served):
    """The second press finds it final."""
    sent = await served.send(send_at=in_an_hour(served))
    story = f"/notifications/{sent['id']}"
    assert f'action="{story}/cancel"' in (await served.get(story)).text

    first = await press(served, f"{story}/cancel")
    second = await press(served, f"{story}/cancel")

    assert (first.status, first.headers["Location"]) == (303, story)
    assert second.status == 409
    assert "The notification is final: its status is cancelled" in second.text
    assert f'action="{story}/cancel"' not in (await served.get(story)).text


async def test_every_status_offers_what_may_be_decided_and_no_more(served):
    """A live one is cancelled, an unknown one decided about, a dead letter moved."""
    id = (await served.send())["id"]
    one = await served.front.service.get(id)
    offered = {}
    for status in Status:
        found = deed.decisions(dataclasses.replace(one, status=status))
        offered[status] = [each.path.rpartition("/")[2] for each in found]
    put_aside = dataclasses.replace(one, status=Status.FAILED, discarded_at=1.0)

    assert offered.pop(Status.UNKNOWN) == ["sent", "retry"]
    assert offered.pop(Status.FAILED) == ["redrive", "discard"]
    for status in (Status.SCHEDULED, Status.QUEUED, Status.SENDING):
        assert offered.pop(status) == ["cancel"]
    assert set(itertools.chain(*offered.values())) == set()
    assert deed.decisions(put_aside) == ()
    assert set(DECISIONS) == {"cancel", "sent", "retry"}


@pytest.mark.parametrize(("word", "status"), [("sent", "sent"), ("retry", "sent")])
async def test_an_unknown_one_is_decided_about(serve, word, status):
    """A person says that it was sent, or has it sent again, marked."""
    async with SendGridLookalike() as provider:
        provider.behave(Fault.accept_then_reset(), times=1)
        served = await serve(
            providers={"alpha": provider.settings()}, channels={"email": {"providers": ["alpha"]}}
        )
        sent = await served.send(delivery="at_most_once")
        story = f"/notifications/{sent['id']}"
        await served.until(lambda: has_status(served, sent["id"], "unknown"))

        answer = await press(served, f"{story}/{word}")
        await served.until(lambda: has_status(served, sent["id"], status))

        assert answer.status == 303
        found = (await served.get(f"/v1{story}")).json
        assert found["possibly_duplicated"] is (word == "retry")
        assert sum(provider.deliveries.values()) == (2 if word == "retry" else 1)


async def has_status(served, id, status):
    return (await served.get(f"/v1/notifications/{id}")).json["status"] == status


# --- dead letters ----------------------------------------------------------------------------


@pytest.fixture
async def house(serve):
    """A server whose provider refuses every message, and three that it refused."""
    async with SendGridLookalike() as provider:
        provider.behave(Fault.error(400))
        served = await serve(
            providers={"alpha": provider.settings()}, channels={"email": {"providers": ["alpha"]}}
        )
        served.ids = [(await served.send(to=f"ada{n}@example.com"))["id"] for n in range(3)]
        served.provider = provider
        await served.until(lambda: count(served, "failed", 3))
        yield served


async def count(served, status, n):
    return (await served.get("/v1/stats")).json["by_status"].get(status) == n


async def test_the_page_lists_dead_letters_and_leads_to_each(house):
    """The latest first, with what a person can do about it."""
    text = (await house.get("/dead-letters")).text

    assert re.findall(r'href="/notifications/(\w+)"', text) == house.ids[::-1]
    assert "permanent" in text
    assert 'href="/dead-letters/redrive?"' in text


@pytest.mark.parametrize(
    ("query", "n"),
    [
        ("", 3),
        ("reason=permanent", 3),
        ("reason=exhausted", 0),
        ("provider=alpha&channel=email", 3),
        ("provider=beta", 0),
        ("since=2020-01-01T10:00", 3),
        ("until=2020-01-01T10:00:30", 0),
        ("since=2020-01-01T10:00:00%2B02:00", 3),
    ],
)
async def test_what_is_asked_for_is_listed_and_counted_alike(house, query, n):
    """The list, and the question before anything is moved, mean the same."""
    listed = (await house.get(f"/dead-letters?{query}")).text
    asked = (await house.get(f"/dead-letters/redrive?{query}")).text
    put_aside = (await house.get(f"/dead-letters/discard?{query}")).text

    assert listed.count('class="id"') == n
    assert f"Redrive {n} dead letter" in asked
    assert f"Discard {n} dead letter" in put_aside
    assert ("nothing to do" in asked) is (n == 0)


@pytest.mark.parametrize("path", ["/dead-letters?channel=fax", "/dead-letters?cursor=x"])
async def test_a_question_that_cannot_be_is_answered_with_a_page(house, path):
    """What is wrong stands there, and the filter to mend it."""
    answer = await house.get(path)

    assert answer.status == 200
    assert 'class="absent"' in answer.text
    assert 'name="reason"' in answer.text


async def test_a_redrive_moves_what_was_asked_for_and_shows_how_far_it_got(house):
    """The question names the instant up to which, so that what is done is what was seen."""
    asked = (await house.get("/dead-letters/redrive?reason=permanent")).text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', asked))
    late = (await house.send())["id"]
    await house.until(lambda: has_status(house, late, "failed"))
    house.provider.recover()

    answer = await press(house, "/dead-letters/redrive", urlencode({**fields, "rate": "500"}))
    await house.until(lambda: count(house, "sent", 3))

    assert (answer.status, answer.headers["Location"]) == (303, "/dead-letters#redrives")
    assert set(fields) == {"reason", "until"}
    page = (await house.get("/dead-letters")).text
    assert "3 of 3 moved" in page
    assert "500/s" in page
    assert "by page" in page
    assert re.findall(r'class="id" href="/notifications/(\w+)"', page) == [late]


async def test_a_redrive_can_be_stopped(house):
    """What was moved by then goes on; the rest stays."""
    await press(house, "/dead-letters/redrive", "rate=0.01")
    page = (await house.get("/dead-letters")).text
    (path,) = re.findall(r'action="(/redrives/\w+/cancel)"', page)

    answer = await press(house, path)

    assert (answer.status, answer.headers["Location"]) == (303, "/dead-letters#redrives")
    page = (await house.get("/dead-letters")).text
    assert "cancelled" in page
    assert "/cancel" not in page
    assert (await press(house, path)).status == 409


async def test_discarded_ones_leave_the_list(house):
    """They stay failed."""
    answer = await press(house, "/dead-letters/discard", "channel=email")

    assert (answer.status, answer.headers["Location"]) == (303, "/dead-letters?discarded=3")
    page = (await house.get("/dead-letters?discarded=3")).text
    assert "3 put aside. They stay failed" in page
    assert page.count('class="id"') == 0
    assert await count(house, "failed", 3)


async def test_one_dead_letter_is_moved_by_its_own_button(house):
    """The others stay where they are."""
    first, second, third = house.ids
    house.provider.recover()

    moved = await press(house, f"/dead-letters/{first}/redrive")
    aside = await press(house, f"/dead-letters/{second}/discard")
    await house.until(lambda: has_status(house, first, "sent"))

    assert (moved.status, moved.headers["Location"]) == (303, f"/notifications/{first}")
    assert (aside.status, aside.headers["Location"]) == (303, f"/notifications/{second}")
    page = (await house.get("/dead-letters")).text
    assert re.findall(r'class="id" href="/notifications/(\w+)"', page) == [third]
    assert "1 chosen one" in page


async def test_the_page_of_dead_letters_renders_while_the_store_cannot_be_read(house, monkeypatch):
    """It says so; a question about them cannot be answered."""

    async def fail(_question):
        raise StorageUnavailable("the disk does not answer")

    monkeypatch.setattr(house.engine.reader, "_ask", fail)

    page, asked = await house.get("/dead-letters"), await house.get("/dead-letters/discard")

    assert page.status == 200
    assert "The dead letters cannot be read: the disk does not answer" in page.text
    assert asked.status == 503
    assert "The disk does not answer" in asked.text
