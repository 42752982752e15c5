"""Dead letters over HTTP: what a request may say, and what it is answered."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import pytest

from clarion.domain.redrive import MAX_IDS, MAX_RATE, MIN_RATE
from clarion.service import MAX_PAGE
from clarion.testing import Fault, SendGridLookalike

PATHS = ("/v1/dead-letters/redrive", "/v1/dead-letters/discard")


@pytest.fixture
async def house(serve):
    """A server whose only provider refuses every message, and three that it refused."""
    async with SendGridLookalike() as provider:
        provider.behave(Fault.error(400))
        served = await serve(
            providers={"alpha": provider.settings()}, channels={"email": {"providers": ["alpha"]}}
        )
        served.ids = [(await served.send())["id"] for _ in range(3)]
        await served.until(lambda: _all_failed(served, 3))
        yield served


async def _all_failed(served, n):
    return (await served.get("/v1/stats")).json["by_status"].get("failed") == n


async def _has_ended(served, id):
    found = (await served.get(f"/v1/dead-letters/redrives/{id}")).json
    return found if found["state"] != "running" else None


async def test_a_redrive_answers_what_it_will_do(house):
    """202 with its address; there it shows how far it got, and in the list of all."""
    answer = await house.post(PATHS[0], {"provider": "alpha", "since": None, "rate": 500})
    begun = answer.json
    ended = await house.until(lambda: _has_ended(house, begun["id"]))

    assert answer.status == 202
    assert answer.headers["Location"] == f"/v1/dead-letters/redrives/{begun['id']}"
    assert begun["filter"] == {
        "reason": None, "provider": "alpha", "channel": None, "since": None, "until": None,
        "ids": None,
    }  # fmt: skip
    assert (begun["state"], begun["matched"], begun["rate"]) == ("running", 3, 500.0)
    assert (ended["state"], ended["moved"], ended["who"]) == ("done", 3, "api")
    assert ended["ended_at"] is not None
    listed = await house.get("/v1/dead-letters/redrives")
    assert listed.json["items"] == [ended]


async def test_what_comes_back_fails_again_by_itself(house):
    """A redrive is no promise: the same provider refuses the same message."""
    begun = (await house.post(PATHS[0], {})).json
    await house.until(lambda: _has_ended(house, begun["id"]))
    await house.until(lambda: _all_failed(house, 3))

    one = (await house.get(f"/v1/notifications/{house.ids[0]}")).json

    events = [event["event"] for event in one["timeline"]]
    assert events == ["accepted", "call", "redriven", "call", "failed"]
    assert one["attempts"] == 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reason": "cancelled"}, "/reason"),
        ({"channel": "fax"}, "/channel"),
        ({"channel": ["email"]}, "/channel"),
        ({"provider": 7}, "/provider"),
        ({"provider": "a\x00b"}, "/provider"),
        ({"since": "yesterday"}, "/since"),
        ({"until": "2027-01-01T00:00:00"}, "/until"),
        ({"dry_run": "yes"}, "/dry_run"),
        ({"recipient": "ada@example.com"}, "/recipient"),
        ({"ids": []}, "/ids"),
        ({"ids": "01JC0000000000000000000001"}, "/ids"),
        ({"ids": ["x"] * (MAX_IDS + 1)}, "/ids"),
        ({"ids": ["x" * 65]}, "/ids"),
        ({"ids": ["a", "\u00e9"]}, "/ids"),
        ({"ids": ["a", 7]}, "/ids"),
        ({"ids": ["a"], "channel": "email"}, "/ids"),
        ({"until": "2027-01-01T00:00:00Z", "ids": ["a"]}, "/ids"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused(house, path, body, pointer):
    """422 that names the fault; nothing is moved or put aside."""
    answer = await house.post(path, body)

    assert answer.status == 422
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert await _all_failed(house, 3)
    assert len((await house.get("/v1/dead-letters")).json["items"]) == 3


@pytest.mark.parametrize("rate", [0, -1, 5e-324, MIN_RATE / 2, MAX_RATE + 1, True, "10", [1]])
async def test_a_rate_has_its_bounds(house, rate):
    """One that is too fast would bury a provider, none at all would never end."""
    answer = await house.post(PATHS[0], {"rate": rate})

    assert answer.status == 422


async def test_a_discard_takes_no_rate(house):
    """It is done at once."""
    assert (await house.post(PATHS[1], {"rate": 5})).status == 422


async def test_all_faults_are_told_at_once(house):
    """One round trip is enough to mend a request."""
    answer = await house.post(PATHS[0], {"reason": "x", "rate": 0, "y": 1})

    assert [each["pointer"] for each in answer.json["errors"]] == ["/reason", "/rate", "/y"]


async def test_discarding_is_answered_with_how_many(house):
    """A dry run counts what it would put aside; the second time there is nothing left."""
    answers = [
        (await house.post(PATHS[1], body)).json
        for body in ({"dry_run": True}, {"channel": "email"}, {}, {"dry_run": True})
    ]

    assert answers == [{"matched": 3}, {"discarded": 3}, {"discarded": 0}, {"matched": 0}]
    assert (await house.get("/v1/dead-letters")).json["items"] == []
    assert await _all_failed(house, 3)


async def test_those_of_a_channel_that_has_left_the_settings_can_only_be_discarded(house):
    """There is no lane to move them into; each dry run tells what would be done."""
    service = house.front.service
    service.aftermath = replace(service.aftermath, channels=("sms",))

    answers = [
        (await house.post(path, body)).json
        for path, body in (
            (PATHS[0], {"dry_run": True}),
            (PATHS[1], {"dry_run": True}),
            (PATHS[1], {}),
        )
    ]

    assert answers == [{"matched": 0}, {"matched": 3}, {"discarded": 3}]


async def test_some_can_be_named_by_their_ids(house):
    """Those and no others; an id that is no dead letter's finds nothing, one named twice one."""
    first, second, third = house.ids
    some = {"ids": [second, "nobody", second]}

    dry = [(await house.post(path, {**some, "dry_run": True})).json for path in PATHS]
    begun = (await house.post(PATHS[0], {**some, "rate": 1000})).json
    ended = await house.until(lambda: _has_ended(house, begun["id"]))
    await house.until(lambda: _all_failed(house, 3))
    gone = (await house.post(PATHS[1], {"ids": [third, "nobody"]})).json

    assert dry == [{"matched": 1}, {"matched": 1}]
    assert begun["filter"]["ids"] == sorted({second, "nobody"})
    assert (ended["state"], ended["matched"], ended["moved"]) == ("done", 1, 1)
    assert gone == {"discarded": 1}
    left = (await house.get("/v1/dead-letters")).json["items"]
    assert {each["id"] for each in left} == {first, second}
    for id, n in ((first, 1), (second, 2), (third, 1)):
        story = (await house.get(f"/v1/notifications/{id}")).json["timeline"]
        assert [event["event"] for event in story].count("call") == n


async def test_as_many_as_a_page_shows_can_be_named(house):
    """So that what a page lists can be sent again in one request."""
    ids = [*house.ids, *(f"nobody-{n}" for n in range(MAX_IDS - 3))]

    answer = await house.post(PATHS[0], {"ids": ids, "dry_run": True})

    assert (answer.status, answer.json) == (200, {"matched": 3})
    assert MAX_IDS == MAX_PAGE


async def test_a_redrive_that_there_is_not_is_a_404(house):
    """To look at, and to cancel; one that has ended is a conflict."""
    begun = (await house.post(PATHS[0], {"rate": 1000})).json
    await house.until(lambda: _has_ended(house, begun["id"]))
    path = "/v1/dead-letters/redrives/"

    statuses = [
        (await house.get(f"{path}nobody")).status,
        (await house.post(f"{path}nobody/cancel", {})).status,
        (await house.get(f"{path}{'x' * 100}")).status,
        (await house.post(f"{path}{begun['id']}/cancel", {})).status,
    ]

    assert statuses == [404, 404, 404, 409]


@pytest.mark.parametrize("verb", ["sent", "retry"])
async def test_only_what_is_unknown_can_be_resolved(house, verb):
    """409 says how it stands; what is not there is a 404."""
    conflict = await house.post(f"/v1/notifications/{house.ids[0]}/resolve", {"as": verb})
    missing = await house.post("/v1/notifications/nobody/resolve", {"as": verb})

    assert (conflict.status, missing.status) == (409, 404)
    assert "failed" in conflict.json["detail"]


@pytest.mark.parametrize("body", [{}, {"as": "lost"}, {"as": ["sent"]}, {"as": "sent", "x": 1}])
async def test_a_decision_that_cannot_be_is_refused(house, body):
    """Before anything is looked up."""
    assert (await house.post("/v1/notifications/nobody/resolve", body)).status == 422


async def test_answers_are_as_the_reference_says(house):
    """Each against its schema."""
    document = (await house.get("/openapi.json")).json
    begun = (await house.post(PATHS[0], {"dry_run": False})).json
    for name, value in (
        ("Redrive", begun),
        ("Redrives", (await house.get("/v1/dead-letters/redrives")).json),
        ("Matched", (await house.post(PATHS[0], {"dry_run": True})).json),
        ("Discarded", (await house.post(PATHS[1], {})).json),
        ("Redrive", (await house.post(PATHS[0], {"ids": house.ids})).json),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)
