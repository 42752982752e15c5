"""`clarion list`, `cancel` and `health`, and what is said where nothing is found."""

from __future__ import annotations

from typing import Any

import pytest

ID = "01JC0000000000000000000001"


async def test_notifications_are_searched_by_the_server(there: Any, run: Any) -> None:
    """Every filter of the API has its option, and the next page is one copy away."""
    found = {
        "id": ID, "status": "sent", "channel": "email", "provider": "main", "attempts": 1,
        "reference": "order-7", "to": "ada@example.com", "created_at": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    there.answer("GET /v1/notifications", {"items": [found], "next": "c2"})

    ran = await run(
        "list", "--status", "sent", "--channel", "email", "--to", "ada@example.com",
        "--reference", "order-7", "--limit", "1", "--cursor", "c1",
    )  # fmt: skip

    assert ran.code == 0
    assert there.seen[0].query == {
        "status": "sent", "channel": "email", "to": "ada@example.com", "reference": "order-7",
        "limit": "1", "cursor": "c1",
    }  # fmt: skip
    heading, line = ran.out.splitlines()
    assert heading.split() == [
        "id", "status", "channel", "provider", "attempts", "age", "reference", "to",
    ]  # fmt: skip
    assert line.split()[0] == ID
    assert line.split()[-2:] == ["order-7", "ada@example.com"]
    assert "--cursor c2" in ran.err


async def test_a_list_without_rows_is_empty(there: Any, run: Any) -> None:
    """So that a count of lines is a count of notifications; JSON is the page as it came."""
    there.answer("GET /v1/notifications", {"items": [], "next": None})

    told, as_json = await run("list"), await run("list", "--json")

    assert (told.code, told.out) == (0, "")
    assert "no notifications like that" in told.err
    assert as_json.json == {"items": [], "next": None}


async def test_cancel_says_what_became_of_it(there: Any, run: Any) -> None:
    """One line for a script, the explanation for the person."""
    answer = {"id": ID, "status": "cancelled", "explanation": "No provider had it."}
    there.answer(f"POST /v1/notifications/{ID}/cancel", answer)

    told, as_json = await run("cancel", ID), await run("cancel", ID, "--json")

    assert (told.code, told.out) == (0, f"{ID} cancelled\n")
    assert told.err == "No provider had it.\n"
    assert as_json.json == answer


async def test_what_is_final_cannot_be_cancelled(there: Any, run: Any) -> None:
    """The answer is no."""
    problem = {"detail": "The notification is final: its status is sent"}
    there.answer(f"POST /v1/notifications/{ID}/cancel", problem, status=409)

    ran = await run("cancel", ID)

    assert (ran.code, ran.out) == (1, "")
    assert "its status is sent" in ran.err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("providers", "disable", "mian"), "did you mean main?"),
        (("breakers", "open", "spair"), "did you mean spare?"),
        (("providers", "enable", "zzz"), "there are main, spare"),
        (("queues", "pause", "emial"), "did you mean email?"),
        (("cancel", "nope"), "`clarion list` shows the latest ones"),
        (("status", "nope"), "`clarion list` shows the latest ones"),
    ],
)
async def test_what_is_not_found_comes_with_what_was_meant(
    there: Any, run: Any, arguments: tuple[str, ...], hint: str
) -> None:
    """The next step is told in every error."""
    there.answer("GET /v1/providers", {"items": [{"name": "main"}, {"name": "spare"}]})
    there.answer("GET /v1/queues", {"items": [{"channel": "email"}]})

    ran = await run(*arguments)

    assert ran.code == 1
    assert hint in ran.err


HEALTH = {
    "status": "warn",
    "functions": {"accept": "pass", "deliver": {"email": "fail"}},
    "checks": {
        "storage": [{"status": "pass", "observedValue": "writable"}],
        "queue:email": [{"status": "warn", "observedValue": "held", "output": "its work waits"}],
        "actor:journal": [{"status": "pass", "observedValue": "running"}],
        "actor:queue:email": [{"status": "fail", "observedValue": "hung"}],
    },
}


async def test_health_is_told_part_by_part(there: Any, run: Any) -> None:
    """What the server can do, then each part with its advice; actors that run go without saying."""
    there.answer("GET /health", HEALTH)

    told, as_json = await run("health"), await run("health", "--json")

    assert told.code == 0
    assert told.out.splitlines() == [
        "warn: accept pass, deliver email fail",
        "",
        "part               status  state",
        "storage            pass    writable",
        "queue:email        warn    held",
        "    its work waits",
        "actor:queue:email  fail    hung",
    ]
    assert as_json.json == HEALTH


async def test_bad_health_is_a_no(there: Any, run: Any) -> None:
    """The server says it with a 503, in the shape of good news."""
    there.answer("GET /health", {**HEALTH, "status": "fail"}, status=503)

    told, as_json = await run("health"), await run("health", "--json")

    assert (told.code, as_json.code) == (1, 1)
    assert told.out.startswith("fail: ")
    assert told.err == ""
    assert as_json.json["status"] == "fail"
