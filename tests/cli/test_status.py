"""`clarion status` and the commands that steer: what is asked, and what is shown."""

from __future__ import annotations

from typing import Any

import pytest

ID = "01JC0000000000000000000001"

STATS = {"accepted": 12, "by_status": {"queued": 2, "sent": 10, "failed": 0}, "by_channel": {}}
QUEUES = {
    "items": [
        {
            "channel": "email", "paused": False, "held": True,
            "held_reason": "sendgrid is open", "ready": 2, "scheduled": 0, "waiting": 1,
            "in_flight": 3, "oldest_at": "2026-01-01T00:00:00.000Z",
        },
        {
            "channel": "sms", "paused": True, "held": False, "held_reason": None, "ready": 0,
            "scheduled": 7, "waiting": 0, "in_flight": 0, "oldest_at": None,
        },
    ]
}  # fmt: skip
PROVIDERS = {
    "items": [
        {
            "name": "sendgrid", "kind": "sendgrid", "channels": ["email"], "state": "open",
            "breaker": {"state": "open", "failures": 5}, "in_flight": 0, "slots": 32,
            "reason": "its circuit is open [bold]",
        },
    ]
}  # fmt: skip


NODE = {
    "id": "3caeed9f6b", "host": "mail-1", "pid": 4711, "version": "1.2.3",
    "since": "2026-01-01T00:00:00.000Z", "address": "http://mail-1:8080",
}  # fmt: skip


def script(there: Any, **health: Any) -> None:
    there.answer("GET /health", {"status": "pass", "checks": {}, **health})
    there.answer("GET /v1/stats", STATS)
    there.answer("GET /v1/queues", QUEUES)
    there.answer("GET /v1/providers", PROVIDERS)


def row(text: str, name: str) -> list[str]:
    """The cells of the table row that begins with a name."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return [cell for cell in line.strip().split("  ") if cell]


async def test_without_an_id_it_shows_counts_lanes_and_providers(there: Any, run: Any) -> None:
    """One command tells an operator where the trouble is."""
    script(there)

    ran = await run("status")

    assert ran.code == 0
    assert ran.out.splitlines()[0] == "12 accepted: 2 queued, 10 sent"
    assert "held" in row(ran.out, "email")[1]
    assert "paused" in row(ran.out, "sms")[1]
    assert "sendgrid is open" in ran.out


async def test_a_provider_is_shown_with_its_breaker(there: Any, run: Any) -> None:
    """Its words are shown as they are, not taken for markup."""
    script(there)

    ran = await run("providers", "list")

    cells = [cell.strip() for cell in row(ran.out, "sendgrid")]
    assert cells == ["sendgrid", "sendgrid", "email", "open", "open", "-", "0", "32", "-"]
    assert "sendgrid: its circuit is open [bold]" in ran.out.splitlines()


async def test_with_json_it_is_one_document(there: Any, run: Any) -> None:
    """All three answers as the server gave them."""
    script(there)

    ran = await run("status", "--json")

    assert ran.json == {"stats": STATS, "queues": QUEUES, "providers": PROVIDERS}


async def test_nodes_that_share_something_are_shown(there: Any, run: Any) -> None:
    """Only where there are some: most deployments are one process."""
    script(there, nodes=[NODE, {**NODE, "id": "cfd75a9edd", "host": "mail-2"}])

    ran = await run("status")
    as_json = await run("status", "--json")

    assert [cell.strip() for cell in row(ran.out, "3caeed9f6b")][:3] == [
        "3caeed9f6b", "mail-1", "4711",
    ]  # fmt: skip
    assert "mail-2" in ran.out
    assert [each["id"] for each in as_json.json["nodes"]] == ["3caeed9f6b", "cfd75a9edd"]


async def test_a_server_that_fails_is_shown_too(there: Any, run: Any) -> None:
    """`/health` answers 503 then."""
    script(there)
    there.answer("GET /health", {"status": "fail", "checks": {}, "nodes": [NODE]}, 503)

    ran = await run("status")

    assert ran.code == 0
    assert "mail-1" in ran.out


async def test_with_an_id_it_tells_the_story(there: Any, run: Any) -> None:
    """Which providers were considered, what they answered, and what that means."""
    there.answer(
        f"GET /v1/notifications/{ID}",
        {
            "id": ID, "channel": "email", "to": "ada@example.com", "status": "sent",
            "attempts": 1, "provider": "outbox", "possibly_duplicated": True,
            "explanation": "outbox took it; it may have arrived twice.",
            "timeline": [
                {
                    "at": "2026-01-01T00:00:00.000Z", "event": "call", "provider": "outbox",
                    "outcome": "accepted", "reason": "", "detail": "250 OK",
                    "considered": [{"provider": "sendgrid", "reason": "circuit open"}],
                }
            ],
        },
    )  # fmt: skip

    ran = await run("status", ID)

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == f"{ID}  email to ada@example.com"
    assert lines[1] == "sent by outbox (possibly twice), 1 attempt"
    assert lines[2] == "outbox took it; it may have arrived twice."
    assert "250 OK" in ran.out
    assert "sendgrid: circuit open" in ran.out


async def test_an_unknown_id_is_a_no(there: Any, run: Any) -> None:
    """1, the server's words, and where ids are found."""
    problem = {"detail": f"there is no notification {ID!r}"}
    there.answer(f"GET /v1/notifications/{ID}", problem, status=404)

    ran = await run("status", ID)

    assert ran.code == 1
    assert ran.err == (
        f"error: there is no notification {ID!r}\n"
        "`clarion list` shows the latest ones, with their ids.\n"
    )


async def test_an_id_is_one_segment_of_the_path(there: Any, run: Any) -> None:
    """What was typed cannot reach another route."""
    await run("status", "a/../../metrics?x=1")

    assert [seen.path for seen in there.seen] == ["/v1/notifications/a/../../metrics?x=1"]
    assert there.seen[0].query == {}


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        (("providers", "enable", "a"), "/v1/providers/a/enable", "a is enabled"),
        (("providers", "disable", "a"), "/v1/providers/a/disable", "a is disabled"),
        (("queues", "pause", "sms"), "/v1/queues/sms/pause", "sms is paused"),
        (("queues", "resume", "sms"), "/v1/queues/sms/resume", "sms sends again"),
        (("breakers", "open", "a"), "/v1/breakers/a/open", "forced open"),
        (("breakers", "close", "a"), "/v1/breakers/a/close", "held closed"),
        (("breakers", "reset", "a"), "/v1/breakers/a/reset", "its own rules"),
    ],
)
@pytest.mark.parametrize("answer", [None, {"name": "a"}])
async def test_each_command_reaches_its_route(
    there: Any, run: Any, arguments: tuple[str, ...], path: str, words: str, answer: Any
) -> None:
    """And says what it did; an answer without a body is an answer."""
    there.answer(f"POST {path}", answer, status=204 if answer is None else 200)

    told, as_json = await run(*arguments), await run(*arguments, "--json")

    assert (told.code, as_json.code) == (0, 0)
    assert words in told.out
    assert as_json.json == (answer or {})
    assert [(seen.method, seen.path) for seen in there.seen] == [("POST", path)] * 2


async def test_lanes_are_listed_alone(there: Any, run: Any) -> None:
    """Without counts and providers."""
    there.answer("GET /v1/queues", QUEUES)

    ran = await run("queues", "list")

    assert ran.code == 0
    assert row(ran.out, "email")


async def test_dead_letters_are_filtered_by_the_server(there: Any, run: Any) -> None:
    """Every filter of the API has its option, and the next page is one copy away."""
    dead = {
        "id": ID, "channel": "email", "to": "ada@example.com", "reason": "recipient",
        "provider": "outbox", "attempts": 1, "updated_at": "2026-01-01T00:00:00.000Z",
        "explanation": "The address does not exist.",
    }  # fmt: skip
    there.answer("GET /v1/dead-letters", {"items": [dead], "next": "c2"})

    ran = await run(
        "dead-letters", "list", "--reason", "recipient", "--provider", "outbox",
        "--channel", "email", "--since", "2026-01-01T00:00:00Z",
        "--until", "2026-01-02T00:00:00Z", "--limit", "1", "--cursor", "c1",
    )  # fmt: skip

    assert ran.code == 0
    assert there.seen[0].query == {
        "reason": "recipient", "provider": "outbox", "channel": "email", "limit": "1",
        "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "cursor": "c1",
    }  # fmt: skip
    assert "The address does not exist." in ran.out
    assert "--cursor c2" in ran.err


async def test_no_dead_letters_is_good_news(there: Any, run: Any) -> None:
    """Nothing on standard output, so that a count of lines is a count of letters."""
    there.answer("GET /v1/dead-letters", {"items": [], "next": None})

    ran = await run("dead-letters", "list")

    assert (ran.code, ran.out) == (0, "")
    assert "no dead letters" in ran.err


async def test_a_lane_that_is_silent_says_why(there: Any, run: Any) -> None:
    """A closed lane without a reason would leave an operator where they were."""
    silent = {"channel": "email", "accepting": False, "problem": "it keeps failing"}
    there.answer("GET /v1/queues", {"items": [silent]})

    ran = await run("queues", "list")

    assert row(ran.out, "email")[1].strip() == "closed"
    assert "it keeps failing" in ran.out


async def test_a_story_has_no_columns_that_say_nothing(there: Any, run: Any) -> None:
    """It should fit into a window."""
    event = {"at": "2026-01-01T00:00:00.000Z", "event": "accepted"}
    told = {"id": ID, "channel": "email", "to": "ada@example.com", "status": "queued"}
    there.answer(f"GET /v1/notifications/{ID}", {**told, "timeline": [event]})

    ran = await run("status", ID)

    heading = next(line for line in ran.out.splitlines() if "event" in line)
    assert heading.split() == ["at", "event"]


async def test_a_story_says_the_same_words_once(there: Any, run: Any) -> None:
    """The end of a notification repeats what its last call was told."""
    at = "2026-01-01T00:00:00.000Z"
    call = {"at": at, "event": "call", "detail": "written to a file", "why": "first in the route"}
    end = {"at": at, "event": "sent", "detail": "written to a file"}
    told = {"id": ID, "channel": "email", "to": "ada@example.com", "status": "sent"}
    there.answer(f"GET /v1/notifications/{ID}", {**told, "timeline": [call, end]})

    ran = await run("status", ID)

    assert ran.out.count("written to a file") == 1
    assert ran.out.splitlines()[-3:] == [
        "    written to a file",
        "    chosen: first in the route",
        f"{at}  sent",
    ]
