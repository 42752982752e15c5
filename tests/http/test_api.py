"""Sending one, looking at it, searching and cancelling, over a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from clarion.telemetry import log

PATH = "/v1/notifications"


# --- sending ---------------------------------------------------------------------------------


async def test_an_accepted_notification_is_answered_with_its_place(served, mail):
    """202, Location, and the notification as it was accepted; GET finds it there."""
    answer = await served.post(PATH, {**mail, "reference": "order-1", "metadata": {"a": "b"}})

    assert answer.status == 202
    assert answer.headers["Location"] == f"{PATH}/{answer.json['id']}"
    assert answer.json["status"] == "queued"
    assert answer.json["metadata"] == {"a": "b"}
    found = await served.get(answer.headers["Location"])
    assert found.status == 200
    assert found.json["reference"] == "order-1"


async def test_a_sent_notification_tells_its_story(served):
    """The outbox takes it; the timeline says which provider, and when."""
    sent = await served.send()

    async def is_sent():
        one = (await served.get(f"{PATH}/{sent['id']}")).json
        return one if one["status"] == "sent" else None

    one = await served.until(is_sent)
    assert one["provider"] == "outbox"
    assert {"at", "event", "provider", "outcome", "reason", "detail", "considered"} <= set(
        one["timeline"][-1]
    )


async def test_every_fault_of_a_body_is_told_at_once(served, mail):
    """422 with a pointer to each."""
    answer = await served.post(PATH, {**mail, "to": "nobody", "subjekt": "x", "priority": 7})

    assert answer.status == 422
    assert answer.is_problem
    assert sorted(answer.pointers) == ["/priority", "/subjekt", "/to"]
    assert "2 more faults" in answer.json["detail"]


async def test_a_correlation_id_is_taken_over_or_made_and_always_answered(served, mail):
    """X-Request-ID comes back; where there is none, or one that is none, a new one does."""
    given = await served.post(PATH, mail, X_Request_ID="trace-7")
    made = await served.post(PATH, mail)
    again = await served.post(PATH, mail)
    spaced = await served.post(PATH, mail, X_Request_ID="two words")
    long = await served.post(PATH, mail, X_Request_ID="x" * 500)

    assert given.headers["X-Request-ID"] == "trace-7"
    assert made.headers["X-Request-ID"] != again.headers["X-Request-ID"]
    assert spaced.headers["X-Request-ID"] not in ("", "two words")
    assert len(long.headers["X-Request-ID"]) < 100
    assert {given.status, made.status, spaced.status, long.status} == {202}
    problem = await served.get("/nothing", **{"X-Request-ID": "trace-8"})
    assert problem.headers["X-Request-ID"] == "trace-8"


async def test_the_correlation_id_is_in_the_line_of_a_failed_request(served, monkeypatch, capsys):
    """One id from the request to the log: the answer names it, the log has it."""

    async def fail(*_args):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(type(served.front.service), "stats", fail)
    log.configure("INFO", json=True)
    answer = await served.get("/v1/stats", **{"X-Request-ID": "trace-9"})

    assert answer.status == 500
    assert answer.is_problem
    assert "a bug of ours" not in answer.text
    line = next(line for line in capsys.readouterr().err.splitlines() if "request_failed" in line)
    assert '"correlation_id": "trace-9"' in line
    assert "a bug of ours" in line
    assert "Traceback" in line


# --- idempotency -----------------------------------------------------------------------------


async def test_a_repeated_key_repeats_the_answer(served, mail):
    """The same body: the first answer, word for word, and nothing new."""
    first = await served.post(PATH, mail, Idempotency_Key="k")
    second = await served.post(PATH, dict(reversed(mail.items())), Idempotency_Key="k")

    assert first.status == second.status == 202
    assert second.json == first.json
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert (await served.get("/v1/stats")).json["accepted"] == 1


async def test_a_key_with_another_body_is_refused(served, mail):
    """422, and nothing new."""
    await served.post(PATH, mail, Idempotency_Key="k")
    other = await served.post(PATH, {**mail, "text": "other"}, Idempotency_Key="k")

    assert other.status == 422
    assert other.json["type"].endswith("idempotency-conflict")
    assert (await served.get("/v1/stats")).json["accepted"] == 1


async def test_a_key_belongs_to_its_tenant(served, mail):
    """Two tenants may use the same key."""
    one = await served.post(PATH, {**mail, "tenant": "a"}, Idempotency_Key="k")
    other = await served.post(PATH, {**mail, "tenant": "b"}, Idempotency_Key="k")

    assert one.status == other.status == 202
    assert one.json["id"] != other.json["id"]


async def test_many_at_once_with_one_key_are_one_notification(served, mail):
    """The race is decided in the order of the writes: all get the same answer."""
    answers = await asyncio.gather(
        *(served.post(PATH, mail, Idempotency_Key="race") for _ in range(20))
    )

    assert {answer.status for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert (await served.get("/v1/stats")).json["accepted"] == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9\ud83d"])
async def test_a_key_that_cannot_be_is_a_fault(served, mail, key):
    """Empty, too long, no valid text: 4xx, and nothing is stored."""
    raw_key = key.encode("utf-8", "surrogatepass")
    request = (
        b"POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\nIdempotency-Key: "
        + raw_key
        + b"\r\n\r\n{}"
    )
    answer = await served.raw(request)

    assert answer.startswith((b"HTTP/1.1 422", b"HTTP/1.1 400"))
    assert b"idempotency" in answer.lower()


async def test_a_key_given_twice_is_refused(served):
    """Which of the two counts is nothing to guess about."""
    answer = await served.raw(
        b"POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n"
        b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n{}"
    )

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"problem+json" in answer


async def test_a_client_that_goes_away_does_not_take_its_notification_back(served, mail):
    """Its handler runs to the end: accepted is accepted, whether or not somebody listens."""
    body = json.dumps({**mail, "reference": "gone"}).encode()
    async with served.connect() as (_reader, writer):
        writer.write(
            b"POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert writer.transport.get_write_buffer_size() == 0

    async def is_there():
        return (await served.get(f"{PATH}?reference=gone")).json["items"]

    (found,) = await served.until(is_there)
    assert found["to"] == mail["to"]


# --- reading ---------------------------------------------------------------------------------


async def test_searching_by_everything_that_can_be_searched_by(served):
    """Each filter finds its own and nothing else; a plus in an address survives the query."""
    await served.post("/v1/queues/email/pause")
    one = await served.send(to="a+b@example.com", reference="r-1")
    text = (await served.post(PATH, {"channel": "sms", "to": "+14155550123", "text": "Hi"})).json

    async def ids(query):
        answer = await served.get(f"{PATH}?{query}")
        assert answer.status == 200, answer.text
        return [item["id"] for item in answer.json["items"]]

    assert await ids("channel=email") == [one["id"]]
    assert await ids("reference=r-1") == [one["id"]]
    assert await ids("to=a%2Bb@example.com") == [one["id"]]
    assert await ids("to=a+b@example.com") == [one["id"]]
    assert await ids("to=+14155550123") == [text["id"]]
    assert await ids("status=queued&channel=email") == [one["id"]]
    assert await ids("status=&channel=&reference=r-1") == [one["id"]]
    assert await ids("reference=none") == []


async def test_pages_lead_to_each_other(served):
    """Newest first, and each once, by `next`."""
    sent = [(await served.send())["id"] for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        page = (await served.get(f"{PATH}?limit=2&cursor={cursor}")).json
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]

    assert seen == sent[::-1]
    assert cursor is None


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("status=lost", "status"),
        ("cursor=nonsense", "cursor"),
        ("cursor=W10", "cursor"),
        ("chanel=email", "chanel"),
        ("to=%00", "to"),
        ("reference=" + "x" * 2000, "reference"),
        ("reference=%0d%0a", "reference"),
    ],
)
async def test_a_query_that_cannot_be_is_a_fault_that_says_where(served, query, pointer):
    """Unknown parameters included: a typing mistake must not widen a search."""
    answer = await served.get(f"{PATH}?{query}")

    assert answer.status == 422
    assert answer.is_problem
    assert answer.pointers == [pointer]


async def test_all_faults_of_a_query_are_told_at_once(served):
    """And a near miss is named."""
    answer = await served.get(f"{PATH}?chanel=email&limit=0")

    assert answer.pointers == ["chanel", "limit"]
    assert "did you mean channel?" in answer.json["errors"][0]["detail"]


@pytest.mark.parametrize(
    "id", ["nope", "%00", "%ff", "..%2f..%2fetc", "x" * 5000, "caf%C3%A9", "%F0%9F%92%A9", "%2e%2e"]
)
async def test_an_id_that_is_none_is_not_found(served, id):
    """Whatever stands there: 404 and a problem."""
    answer = await served.raw(
        b"GET /v1/notifications/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        % id.encode()
    )

    assert answer.startswith(b"HTTP/1.1 404")
    assert b"application/problem+json" in answer


async def test_dead_letters_are_searched_by_their_own_filters(served):
    """Reason, provider, channel, since, until; none here yet."""
    good = await served.get(
        "/v1/dead-letters?reason=permanent&provider=outbox&channel=email"
        "&since=2026-01-01T00:00:00Z&until=2026-12-31T00:00:00%2B01:00"
    )
    bad = await served.get("/v1/dead-letters?since=yesterday&until=2026-01-01T00:00:00&reason=bad")

    assert good.status == 200
    assert good.json == {"items": [], "next": None}
    assert bad.status == 422
    assert bad.pointers == ["since", "until", "reason"]


async def test_counts_reconcile(served):
    """`accepted` equals the sum of `by_status`."""
    await served.send()

    stats = (await served.get("/v1/stats")).json
    assert stats["accepted"] == sum(stats["by_status"].values()) == 1
    assert stats["by_channel"]["email"]["accepted"] == 1


# --- cancelling ------------------------------------------------------------------------------


async def test_what_waits_can_be_cancelled_once(served):
    """200 with its final state; the second time 409, in words."""
    await served.post("/v1/queues/email/pause")
    one = await served.send()

    first = await served.post(f"{PATH}/{one['id']}/cancel")
    second = await served.post(f"{PATH}/{one['id']}/cancel")

    assert first.status == 200
    assert first.json["status"] == "cancelled"
    assert second.status == 409
    assert "cancelled" in second.json["detail"]
    assert (await served.post(f"{PATH}/nope/cancel")).status == 404


async def test_a_full_lane_asks_to_come_back(serve, mail):
    """429 with Retry-After, and the words say which queue."""
    served = await serve(queue={"max_pending": 1})
    await served.post("/v1/queues/email/pause")
    await served.send()

    answer = await served.post(PATH, mail)

    assert answer.status == 429
    assert answer.is_problem
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await served.get("/v1/stats")).json["accepted"] == 1


async def test_while_it_drains_nothing_is_accepted_and_reading_goes_on(served, mail):
    """503 with Retry-After, /readyz 503, /livez 200."""
    one = await served.send()
    await served.engine.drain()

    answer = await served.post(PATH, mail)
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert (await served.get("/readyz")).status == 503
    assert (await served.get("/livez")).status == 200
    assert (await served.get(f"{PATH}/{one['id']}")).status == 200
