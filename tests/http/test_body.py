"""Bodies of every bad kind, and batches."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from dataclasses import replace

import pytest

from clarion.http.body import MAX_ITEMS, parse

ONE = "/v1/notifications"
MANY = "/v1/notifications/batch"
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


def dump(value):
    return json.dumps(value).encode()


# --- the parser ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (b"hello", "Expecting value"),
        (b'{"a": 1', "Expecting"),
        (b'{"a": 1} {}', "follows"),
        (b"{'a': 1}", "double quotes"),
        (b'{"a": NaN}', "NaN is no JSON value"),
        (b'{"a": -Infinity}', "-Infinity is no JSON value"),
        (b'{"a": 1, "a": 1}', "'a' is there twice"),
        (b'{"x": {"\\u0061": 1, "a": 2}}', "'a' is there twice"),
        (b'"\xff"', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b'{"a": "\x01"}', "control character"),
        (b"[" * 200_000, "too deeply"),
        (b'{"a":' * 200_000, "too deeply"),
        (b"[" + b"9" * 5000 + b"]", "4300"),
        (b"\x00", "Expecting value"),
    ],
)
def test_what_is_no_json_is_told_in_words(text, told):
    """A ValueError, whatever it is: never a RecursionError, never a value."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)

    assert told in str(caught.value)


def test_a_fault_of_one_text_does_not_stay_for_the_next():
    """The parser notes faults beside the value; each text starts without any."""
    with pytest.raises(ValueError, match="twice"):
        parse(b'{"a": 1, "a": 2}')

    assert parse(b'{"a": 1}') == {"a": 1}


def test_space_around_a_body_costs_no_more_than_looking_at_it():
    """32 MB of blanks are one match of a pattern, not 32 million steps."""
    assert parse(b" " * 1_000_000 + b"{}" + b"\n" * 1_000_000) == {}


# --- one -------------------------------------------------------------------------------------


async def test_a_body_of_the_wrong_type_is_refused(served, mail):
    """415 for what a browser may send across sites, for none at all, and for other charsets."""
    types = [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/xml", "application/json; charset=latin-1", "application/x-ndjson", "nonsense",
    ]  # fmt: skip
    for content_type in types:
        answer = await served.ask(
            "POST", ONE, data=dump(mail), headers={"Content-Type": content_type}
        )
        assert answer.status == 415, content_type
        assert answer.is_problem
    none = await served.raw(
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert none.startswith(b"HTTP/1.1 415")
    good = await served.ask(
        "POST", ONE, data=dump(mail), headers={"Content-Type": "Application/JSON; charset=UTF-8"}
    )
    assert good.status == 202


async def test_a_compressed_body_is_refused_and_not_unfolded(served, mail):
    """A megabyte of nothing in a kilobyte: 415 by its header alone."""
    bomb = gzip.compress(b" " * 10_000_000 + dump(mail))
    answer = await served.ask("POST", ONE, data=bomb, headers={**JSON, "Content-Encoding": "gzip"})

    assert answer.status == 415
    assert answer.is_problem


async def test_a_body_that_says_it_is_too_large_is_not_read(served):
    """413 at once: not one byte of it was sent."""
    answer = await served.raw(
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 5000000\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"1,000,000 bytes" in answer


async def test_who_waits_for_100_continue_is_refused_before_sending(served, mail):
    """`Expect: 100-continue`: a refusal comes instead of it, else it comes and the body follows."""
    head = (
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    )
    refused = await served.raw(head % 5_000_000)
    body = dump(mail)
    async with served.connect() as (reader, writer), asyncio.timeout(10):
        writer.write(head % len(body))
        interim = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        answer = await reader.read()

    assert refused.startswith(b"HTTP/1.1 413")
    assert interim.startswith(b"HTTP/1.1 100")
    assert answer.startswith(b"HTTP/1.1 202")


async def test_an_expectation_that_is_not_met_is_a_problem(served):
    """417, in the shape of all errors."""
    answer = await served.raw(
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nExpect: a-miracle\r\nContent-Length: 2\r\n\r\n{}"
    )

    assert answer.startswith(b"HTTP/1.1 417")
    assert b"problem+json" in answer


async def test_a_body_that_grows_too_large_is_cut_off(served):
    """413 for chunks that add up, though no length was told."""

    async def chunks():
        for _ in range(40):
            yield b"x" * 50_000

    answer = await served.ask("POST", ONE, data=chunks(), headers=JSON)

    assert answer.status == 413
    assert answer.is_problem


async def test_a_body_just_below_the_limit_passes(serve, mail):
    """`server.max_body` counts bytes, and its last one is allowed."""
    body = dump({**mail, "text": ""})
    served = await serve(server={"max_body": len(body) + 10})
    fits = await served.post(ONE, {**mail, "text": "x" * 10})
    spills = await served.post(ONE, {**mail, "text": "x" * 11})

    assert fits.status == 202
    assert spills.status == 413


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n"]
)
async def test_broken_chunks_are_the_sender_s_fault(served, chunks):
    """400 and a problem; the connection ends."""
    answer = await served.raw(
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    )

    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"problem+json" in answer


async def test_a_chunk_that_breaks_later_is_the_sender_s_fault_too(served, serve_front):
    """The head is fine, and the handler at work, when the body turns out to be none."""
    hurried = await serve_front(replace(served.front, body_s=0.05))
    async with hurried.connect() as (reader, writer), asyncio.timeout(10):
        writer.write(
            b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"zz\r\nhello\r\n")
        answer = await reader.read()

    assert answer.split()[1].startswith(b"4")
    assert b"problem+json" in answer
    assert (await served.get("/v1/stats")).json["accepted"] == 0


async def test_a_body_that_trickles_is_given_up(served, serve_front):
    """408 after the time that a body may take; the sender stays connected and says nothing."""
    hurried = await serve_front(replace(served.front, body_s=0.05))
    answer = await hurried.raw(
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"problem+json" in answer


async def test_a_sender_that_goes_away_in_its_body_leaves_nothing(served, mail):
    """Nothing is accepted, nothing breaks, and the next one is served."""
    half = (
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + dump(mail)[:-1]
    )
    for _ in range(20):
        async with served.connect() as (_reader, writer):
            writer.write(half)
            await writer.drain()

    assert (await served.get("/v1/stats")).json["accepted"] == 0
    assert (await served.post(ONE, mail)).status == 202


# --- batches ---------------------------------------------------------------------------------


async def test_a_bad_item_does_not_spoil_a_batch(served, mail):
    """Each has its own result, in order; what is no notification has a problem of its own."""
    items = [mail, {**mail, "to": 5}, "text", None, [mail], {**mail, "channel": "push"}, mail]
    answer = await served.post(MANY, items)

    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 5)
    results = answer.json["results"]
    assert [each["index"] for each in results] == list(range(7))
    assert [each.get("status") for each in results] == ["queued", *[None] * 5, "queued"]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/to"
    assert results[1]["problem"]["status"] == 422
    assert (await served.get(f"{ONE}/{results[6]['id']}")).status == 200


async def test_an_item_that_is_no_strict_json_is_the_item_s_trouble(served, mail):
    """NaN or a name given twice inside an array: that item, not the batch."""
    good = dump(mail)
    nan = good[:-1] + b', "data": {"x": NaN}}'
    twice = good[:-1] + b', "to": "eve@example.com"}'
    deep = good[:-1] + b', "data": ' + b'{"a":' * 40 + b"1" + b"}" * 41
    answer = await served.ask(
        "POST", MANY, data=b"[" + b", ".join([good, nan, twice, deep, good]) + b"]", headers=JSON
    )

    assert answer.status == 202
    assert ["id" in each for each in answer.json["results"]] == [True, False, False, False, True]
    assert "NaN" in answer.json["results"][1]["problem"]["detail"]
    assert "'to'" in answer.json["results"][2]["problem"]["detail"]
    assert "deeper" in answer.json["results"][3]["problem"]["detail"]


async def test_lines_are_a_batch_too(served, mail):
    """NDJSON under each of its names; blank lines are nothing, a bad line is its own trouble."""
    lines = b"\n".join(
        [dump(mail), b"", b"{broken", b"\xff\xfe", b"[" * 100_000, b"  " + dump(mail) + b"\r"]
    )
    for content_type in ("application/x-ndjson", "application/ndjson", "application/jsonl"):
        answer = await served.ask("POST", MANY, data=lines, headers={"Content-Type": content_type})
        assert answer.status == 202
        assert ["id" in each for each in answer.json["results"]] == [
            True, False, False, False, True,
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"[]", JSON, 422),
        (b"", JSON, 400),
        (b"", LINES, 422),
        (b"\n\n", LINES, 422),
        (b"{}", JSON, 400),
        (b"[{}", JSON, 400),
        (b"[{},]", JSON, 400),
        (b"[{} {}]", JSON, 400),
        (b"[{}] x", JSON, 400),
        (b"[,]", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'["\xff"]', JSON, 400),
        (b"[{}]", {"Content-Type": "text/csv"}, 415),
    ],
)
async def test_a_batch_that_cannot_be_read_is_refused_whole(served, body, headers, status):
    """Nothing of it is accepted, and it says why."""
    answer = await served.ask("POST", MANY, data=body, headers=headers)

    assert answer.status == status
    assert answer.is_problem
    assert (await served.get("/v1/stats")).json["accepted"] == 0


async def test_a_batch_of_ten_thousand_passes_and_one_more_does_not(served, mail):
    """The contract's bound, on its both sides, as an array and as lines."""
    line = dump(mail)
    full = await served.ask("POST", MANY, data=b"\n".join([line] * MAX_ITEMS), headers=LINES)
    over = await served.ask("POST", MANY, data=b"\n".join([line] * (MAX_ITEMS + 1)), headers=LINES)
    array = await served.ask(
        "POST", MANY, data=b"[" + b",".join([b"7"] * (MAX_ITEMS + 1)) + b"]", headers=JSON
    )

    assert full.status == 202
    assert full.json["accepted"] == MAX_ITEMS
    assert over.status == array.status == 413
    assert "10,000" in over.json["detail"]
    assert (await served.get("/v1/stats")).json["accepted"] == MAX_ITEMS


async def test_a_batch_has_a_limit_of_its_own(served, mail):
    """Beyond `server.max_body` in all, but no item may be larger than one sent alone."""
    large = {**mail, "text": "x" * 600_000}
    body = dump([large, large, {**mail, "html": "x" * 1_100_000}])
    answer = await served.ask("POST", MANY, data=io.BytesIO(body), headers=JSON)

    assert answer.status == 202
    assert ["id" in each for each in answer.json["results"]] == [True, True, False]
    too_much = await served.raw(
        b"POST /v1/notifications/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 32000001\r\n\r\n"
    )
    assert too_much.startswith(b"HTTP/1.1 413")


async def test_items_carry_their_own_idempotency_keys(served, mail):
    """A replay inside a batch is the same id; a header for all would protect none, so: 400."""
    keyed = {**mail, "idempotency_key": "k"}
    first = (await served.post(MANY, [keyed, keyed, {**keyed, "text": "other"}])).json["results"]
    second = (await served.post(MANY, [keyed])).json["results"]
    header = await served.post(MANY, [mail], Idempotency_Key="k")

    assert first[0]["id"] == first[1]["id"] == second[0]["id"]
    assert ["replayed" in each for each in first[:2] + second] == [False, True, True]
    assert first[2]["problem"]["type"].endswith("idempotency-conflict")
    assert header.status == 400
    assert "idempotency_key" in header.json["detail"]


async def test_a_full_lane_rejects_its_own_items_only(serve, mail):
    """The other channel's are accepted; each refused item has a 429 of its own."""
    served = await serve(queue={"max_pending": 2})
    await served.post("/v1/queues/email/pause")
    text = {"channel": "sms", "to": "+14155550123", "text": "Hi"}
    answer = await served.post(MANY, [mail, mail, mail, text])

    assert answer.status == 202
    assert answer.json["accepted"] == 1
    assert [each.get("problem", {}).get("status") for each in answer.json["results"]] == [
        429, 429, 429, None,
    ]  # fmt: skip
