"""Inbound hooks over HTTP: who is let in, what becomes of a payload, what the sender is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clarion.errors import LaneFull, StorageUnavailable, Unanswered
from clarion.http.hook import _answer
from clarion.intake import Submission

TOKEN = "a-token-of-some-length"
SECRET = "a-secret-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MAIL = {"channel": "email", "to": "ada@example.com"}

ALERTS = {
    "token": TOKEN,
    "when": "item.status != 'muted'",
    "each": "payload.alerts",
    "idempotency_key": "{{ item.id }}",
    "notification": {**MAIL, "subject": "{{ item.title }}", "text": "{{ item.text }}"},
}
SIGNED = {
    "secret": SECRET,
    "signature": "github",
    "notification": {**MAIL, "text": "{{ payload | tojson }}", "reference": "{{ headers['x-a'] }}"},
}


def alert(id_: int, **more: Any) -> dict[str, Any]:
    return {"id": id_, "status": "firing", "title": f"Alert {id_}", "text": "It burns", **more}


async def call(served, *alerts, headers=BEARER):
    return await served.ask("POST", "/hooks/alerts", {"alerts": list(alerts)}, headers=headers)


def signed(body: bytes) -> dict[str, str]:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json", "X-A": "ref",
    }  # fmt: skip


async def accepted(served) -> int:
    return (await served.get("/v1/stats")).json["accepted"]


async def test_a_payload_becomes_notifications(serve):
    """Each item one of its own, found again by its id."""
    served = await serve(hooks={"alerts": ALERTS})

    answer = await call(served, alert(1), alert(2, status="muted"), alert(3))

    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 0)
    first = await served.get(f"/v1/notifications/{answer.json['results'][0]['id']}")
    assert first.json["to"] == "ada@example.com"


async def test_a_repeat_is_accepted_once(serve):
    """The same answer, and nothing new."""
    served = await serve(hooks={"alerts": ALERTS})

    first = await call(served, alert(1), alert(2))
    second = await call(served, alert(2), alert(1), alert(3))

    assert [each["id"] for each in second.json["results"]][:2] == [
        each["id"] for each in reversed(first.json["results"])
    ]
    assert await accepted(served) == 3


async def test_what_asks_for_nothing_is_answered_204(serve):
    """No array to send, and `when` says no."""
    served = await serve(hooks={"alerts": ALERTS})

    for alerts in ([], [alert(1, status="muted")]):
        answer = await call(served, *alerts)
        assert (answer.status, answer.text) == (204, "")
    assert await accepted(served) == 0


async def test_a_payload_that_cannot_be_mapped_says_why(serve):
    """Which setting, and what was missing; nothing was accepted."""
    served = await serve(hooks={"alerts": ALERTS})

    one = await call(served, {"id": 1, "status": "firing", "text": "x"})
    two = await call(served, {"id": 1, "status": "x", "text": "x"}, alert(2, text="\ud800"))
    whole = await served.ask("POST", "/hooks/alerts", {"nope": []}, headers=BEARER)

    assert (one.status, one.pointers) == (422, ["/subject"])
    assert one.is_problem
    assert "hooks.alerts.notification.subject does not fit the payload" in one.json["detail"]
    assert "there is no 'title' in an object that has id, status, text" in one.json["detail"]
    assert (two.status, two.pointers) == (422, ["/0/subject", "/1/text"])
    assert whole.status == 422
    assert "there is no 'alerts' in an object that has nope" in whole.json["detail"]
    assert await accepted(served) == 0


@pytest.mark.parametrize(
    "work",
    [
        "{% set x = item.text %}" + "{% set x = x + x %}" * 40,
        "{% set x = item.id + 2 %}" + "{% set x = x * x %}" * 40,
        "{% for each in item.many %}{% set x = item.many[1:] %}{% endfor %}",
        "{{ item.lists | sum(start=[]) | length }}",
    ],
)
async def test_a_template_that_grows_by_its_payload_is_refused_and_the_server_goes_on(serve, work):
    """Neither the memory is filled nor the event loop held; the next item is not in its debt."""
    heavy = {
        **ALERTS,
        "notification": {**ALERTS["notification"], "text": f"{work}{{{{ item.text }}}}"},
    }
    served = await serve(hooks={"alerts": ALERTS, "heavy": heavy})
    payload = alert(1, text="x" * 10_000, many=[0] * 40_000, lists=[[0] * 9] * 9_000)

    answer = await served.ask("POST", "/hooks/heavy", {"alerts": [payload]}, headers=BEARER)
    after = await call(served, alert(2))

    assert (answer.status, answer.pointers[0]) == (422, "/text")
    assert "hooks.heavy.notification.text does not fit the payload" in answer.text
    assert after.status == 202
    assert await accepted(served) == 1


async def test_an_item_that_is_wrong_spoils_no_other(serve):
    """It is a problem in its place."""
    served = await serve(hooks={"alerts": ALERTS})

    answer = await call(served, alert(1), {"status": "x"}, alert(3, text=""))

    assert answer.status == 202
    good, unmapped, empty = answer.json["results"]
    assert good["status"] == "queued"
    assert unmapped["problem"]["status"] == 422
    assert "nothing to send" in empty["problem"]["detail"].lower()
    assert await accepted(served) == 1


async def test_who_is_not_let_in_learns_nothing(serve):
    """Neither whether there is such a hook nor what was wrong; the log tells."""
    served = await serve(hooks={"alerts": ALERTS, "signed": SIGNED})

    answers = [
        await served.ask("POST", path, {"alerts": [alert(1)]}, headers=headers)
        for path in ("/hooks/alerts", "/hooks/signed", "/hooks/nope", "/hooks/%C3%A9")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Hub-Signature-256": "sha256=0"})
    ]

    assert {answer.status for answer in answers} == {403}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].is_problem
    by_query = await served.ask("POST", f"/hooks/alerts?token={TOKEN}", {"alerts": [alert(1)]})
    assert by_query.status == 403
    assert await accepted(served) == 0


async def test_a_signature_is_over_the_body_as_it_came(serve):
    """Every byte of it; and no credential gets into a message."""
    served = await serve(hooks={"signed": SIGNED})
    body = b'{ "a" :  1}'

    good = await served.ask("POST", "/hooks/signed", data=body, headers=signed(body))
    bad = await served.ask("POST", "/hooks/signed", data=body + b" ", headers=signed(body))

    assert good.status == 202
    assert bad.status == 403
    found = await served.get(f"/v1/notifications/{good.json['results'][0]['id']}")
    assert found.json["reference"] == "ref"


async def test_templates_see_no_header_that_may_hold_a_credential(serve):
    """What authenticates the sender is nothing to mail around."""
    hook = {"token": TOKEN, "notification": {**MAIL, "text": "x", "metadata": "headers"}}
    served = await serve(hooks={"all": hook})
    given = {**BEARER, "Cookie": "a=b", "X-Api-Key": "k", "X-Gitlab-Token": "t", "X-Event": "push"}

    answer = await served.ask("POST", "/hooks/all", {}, headers=given)

    found = await served.get(f"/v1/notifications/{answer.json['results'][0]['id']}")
    assert found.json["metadata"]["x-event"] == "push"
    assert not {"authorization", "cookie", "x-api-key", "x-gitlab-token"} & set(
        found.json["metadata"]
    )


async def test_a_body_that_is_none_is_a_problem(serve):
    """With the right token; without it even that is not told."""
    served = await serve(hooks={"alerts": ALERTS}, server={"max_body": 1_000})
    as_json = {**BEARER, "Content-Type": "application/json"}

    async def status(data: bytes, headers: dict[str, str]) -> int:
        return (await served.ask("POST", "/hooks/alerts", data=data, headers=headers)).status

    assert await status(b"{", as_json) == 400
    assert await status(b'{"a": NaN}', as_json) == 400
    assert await status(b"", as_json) == 400
    assert await status(b"[" * 900, as_json) == 400
    assert await status(b"{}", {**BEARER, "Content-Type": "text/plain"}) == 415
    assert await status(b" " * 1_001, as_json) == 413
    assert await status(b"{", {"Content-Type": "text/plain"}) == 403


async def test_a_page_in_a_browser_calls_no_hook_of_a_server_without_a_key(serve):
    """The rules of loopback stay."""
    served = await serve(hooks={"alerts": ALERTS})

    foreign = await call(served, alert(1), headers={**BEARER, "Origin": "https://evil.example"})
    rebound = await call(served, alert(1), headers={**BEARER, "Host": "evil.example"})

    assert (foreign.status, rebound.status) == (403, 403)
    assert await accepted(served) == 0


async def test_a_server_that_cannot_accept_asks_for_a_repeat(serve):
    """While it stops, for one; what is repeated later is accepted once."""
    served = await serve(hooks={"alerts": ALERTS})
    await served.engine.drain()

    answer = await call(served, alert(1), alert(2))

    assert answer.status == 503
    assert answer.is_problem
    assert int(answer.headers["Retry-After"]) >= 1


async def test_every_answer_of_a_hook_is_in_the_reference(serve):
    """The 204 too."""
    served = await serve(hooks={"alerts": ALERTS})

    document = (await served.get("/openapi.json")).json

    told = document["paths"]["/hooks/{name}"]["post"]["responses"]
    assert {"202", "204", "400", "403", "408", "413", "415", "422", "503"} <= set(told)
    assert "content" not in told["204"]


async def test_a_sender_is_asked_to_repeat_what_could_not_be_accepted_now():
    """503 for all of these, since some senders give up at a 429."""
    good = Submission("id", is_replay=False, _answer={"id": "id", "status": "queued"})
    for error in (LaneFull("full"), StorageUnavailable("disk"), Unanswered("late")):
        answer = _answer("x", [good, error])
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1


# --- whatever is sent ----------------------------------------------------------------------------

KEYS = st.sampled_from(["alerts", "status", "id", "title", "text", "to", "items", "get"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
    | st.sampled_from(["email", "ada@example.com", "2030-01-01T00:00:00Z", "high"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)  # fmt: skip
ALERT = st.dictionaries(KEYS, VALUE, max_size=4).map(lambda changed: alert(1, **{
    name: value for name, value in changed.items() if name != "id"
}) | changed)  # fmt: skip
OPEN = {
    "token": TOKEN,
    "idempotency_key": "{{ payload.id | default('') }}",
    "notification": {
        "channel": "{{ payload.channel | default('email') }}", "to": "{{ payload.to }}",
        "text": "{{ payload.text }}", "html": "<p>{{ payload.text }}</p>",
        "priority": "{{ payload.status }}", "send_at": "{{ payload.title }}",
        "metadata": "payload.items", "headers": "payload.get",
    },
}  # fmt: skip


async def test_no_payload_breaks_the_server(serve):
    """Every answer is a 2xx or a 4xx that explains itself, and the counts reconcile."""
    served = await serve(hooks={"alerts": ALERTS, "open": OPEN})
    loop = asyncio.get_running_loop()

    async def ask(path: str, body: bytes) -> None:
        headers = {**BEARER, "Content-Type": "application/json"}
        answer = await served.ask("POST", path, data=body, headers=headers)
        assert answer.status < 500, answer.text
        assert answer.status < 400 or answer.is_problem

    @settings(
        max_examples=200,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        path=st.sampled_from(["/hooks/alerts", "/hooks/open"]),
        payload=VALUE | ALERT | st.lists(ALERT | VALUE, max_size=3).map(lambda a: {"alerts": a}),
    )
    def check(path: str, payload: Any) -> None:
        asking = ask(path, json.dumps(payload).encode())
        asyncio.run_coroutine_threadsafe(asking, loop).result(20)

    await asyncio.to_thread(check)
    stats = (await served.get("/v1/stats")).json
    assert stats["accepted"] == sum(stats["by_status"].values()) > 0
