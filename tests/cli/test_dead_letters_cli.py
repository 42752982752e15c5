"""`clarion dead-letters` and `clarion resolve`: what is asked, what is shown, how it ends."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from typing import Any

import pytest
from aiohttp import web

from clarion.cli.client import Server, ServerUnreachable
from clarion.cli.output import Output
from clarion.cli.redrive import PATIENCE_S, Follower
from clarion.testing import ManualClock

ID = "01JC0000000000000000000001"
FILTER = ("--reason", "exhausted", "--provider", "alpha", "--channel", "email")
WANTED = {"reason": "exhausted", "provider": "alpha", "channel": "email"}
BEGIN = "POST /v1/dead-letters/redrive"
LOOK = f"GET /v1/dead-letters/redrives/{ID}"


def redrive(state: str = "running", moved: int = 0, **fields: Any) -> dict[str, Any]:
    """A redrive of three as the API shows it."""
    return {
        "id": ID, "state": state, "matched": 3, "moved": moved, "skipped": 0, "rate": 10.0,
        "created_at": "2026-01-01T00:00:00.000Z", "ended_at": None, **fields,
    }  # fmt: skip


async def test_a_redrive_is_followed_to_its_end(there: Any, run: Any) -> None:
    """It tells how many, asks until it has ended, and says what came of it."""
    there.answer(BEGIN, redrive(), status=202)
    there.answer(LOOK, redrive(moved=1), redrive("done", moved=2, skipped=1))

    ran = await run("dead-letters", "redrive", *FILTER, "--rate", "5")

    assert ran.code == 0
    assert there.seen[0].body == {**WANTED, "rate": 5.0}
    assert ran.out == f"redrive {ID} is done: 2 of 3 moved, 1 skipped\n"
    assert "3 to move, 10 a second" in ran.err


async def test_with_json_the_end_is_the_document(there: Any, run: Any) -> None:
    """One document on standard output, whatever was said meanwhile."""
    there.answer(BEGIN, redrive(), status=202)
    there.answer(LOOK, redrive("done", moved=3))

    ran = await run("dead-letters", "redrive", "--json")

    assert ran.json == redrive("done", moved=3)
    assert there.seen[0].body == {}


async def test_a_redrive_that_was_cancelled_is_a_no(there: Any, run: Any) -> None:
    """1: not all of them were moved."""
    there.answer(BEGIN, redrive(), status=202)
    there.answer(LOOK, redrive("cancelled", moved=1))

    assert (await run("dead-letters", "redrive")).code == 1


async def test_detached_it_does_not_wait(there: Any, run: Any) -> None:
    """The redrive is the server's business."""
    there.answer(BEGIN, redrive(), status=202)

    ran = await run("dead-letters", "redrive", "--detach")

    assert (ran.code, len(there.seen)) == (0, 1)
    assert "is running: 0 of 3 moved" in ran.out


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_a_dry_run_only_counts(there: Any, run: Any, verb: str) -> None:
    """Nothing else is asked."""
    there.answer(f"POST /v1/dead-letters/{verb}", {"matched": 1})

    told = await run("dead-letters", verb, *FILTER, "--dry-run")
    as_json = await run("dead-letters", verb, *FILTER, "--dry-run", "--json")

    assert told.out == "1 dead letter like that\n"
    assert as_json.json == {"matched": 1}
    assert [seen.body for seen in there.seen] == [{**WANTED, "dry_run": True}] * 2


@pytest.mark.parametrize(("moved", "code"), [(2, 0), (1, 1)])
async def test_some_can_be_named(there: Any, run: Any, moved: int, code: int) -> None:
    """By their ids, one given twice counts once; 1 where one of them is no dead letter."""
    there.answer(BEGIN, redrive(matched=moved), status=202)
    there.answer(LOOK, redrive("done", matched=moved, moved=moved))
    there.answer("POST /v1/dead-letters/discard", {"discarded": moved})

    again = await run("dead-letters", "redrive", "a", "b", "a")
    begun = await run("dead-letters", "redrive", "--detach", "a", "b")
    aside = await run("dead-letters", "discard", "a", "b", "--yes")

    assert [ran.code for ran in (again, begun, aside)] == [code] * 3
    bodies = [seen.body for seen in there.seen if seen.method == "POST"]
    assert bodies == [{"ids": ["a", "b", "a"]}, {"ids": ["a", "b"]}, {"ids": ["a", "b"]}]
    told = "1 of those that were named is no dead letter"
    assert [told in ran.err for ran in (again, begun, aside)] == [code == 1] * 3


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_ids_and_a_filter_are_bad_usage(there: Any, run: Any, verb: str) -> None:
    """Either names them all; which of the two was meant nobody can tell."""
    ran = await run("dead-letters", verb, ID, *FILTER)

    assert (ran.code, there.seen) == (2, [])
    for name in WANTED:
        assert f"--{name}" in ran.err


async def test_discarding_wants_a_yes(there: Any, run: Any) -> None:
    """Where nobody can be asked, it is an option; without it nothing is put aside."""
    there.answer("POST /v1/dead-letters/discard", {"matched": 2})
    refused = await run("dead-letters", "discard", "--all")
    asked = [seen.body for seen in there.seen]
    there.answer("POST /v1/dead-letters/discard", {"discarded": 2})

    done = await run("dead-letters", "discard", *FILTER, "--yes")

    assert refused.code == 2
    assert asked == [{"dry_run": True}]
    assert (done.code, done.out) == (0, "2 put aside\n")
    assert there.seen[-1].body == WANTED


async def test_redrives_are_listed_and_cancelled(there: Any, run: Any) -> None:
    """By their id."""
    there.answer("GET /v1/dead-letters/redrives", {"items": [redrive("done", moved=3)]})
    there.answer(f"POST /v1/dead-letters/redrives/{ID}/cancel", redrive("cancelled", moved=1))

    listed = await run("dead-letters", "redrives")
    cancelled = await run("dead-letters", "cancel", ID)

    assert ID in listed.out
    assert "is cancelled: 1 of 3 moved" in cancelled.out


@pytest.mark.parametrize(("status", "code"), [("failed", 0), ("sent", 1)])
async def test_one_is_shown_with_its_story(there: Any, run: Any, status: str, code: int) -> None:
    """What is no dead letter is a no, and shown all the same."""
    there.answer(
        f"GET /v1/notifications/{ID}",
        {"id": ID, "channel": "email", "to": "ada@example.com", "status": status, "attempts": 5},
    )

    ran = await run("dead-letters", "show", ID)

    assert ran.code == code
    assert ran.out.startswith(f"{ID}  email to ada@example.com")


async def test_a_redrive_is_shown_again_by_its_id(there: Any, run: Any) -> None:
    """Who let go of it, or lost the connection, looks at that one."""
    there.answer(LOOK, redrive("done", moved=3))

    told = await run("dead-letters", "redrives", ID)
    as_json = await run("dead-letters", "redrives", ID, "--json")

    assert told.out == f"redrive {ID} is done: 3 of 3 moved\n"
    assert as_json.json == redrive("done", moved=3)


@pytest.mark.parametrize("verb", ["redrives", "cancel"])
async def test_a_redrive_that_is_not_there_says_where_they_are(
    there: Any, run: Any, verb: str
) -> None:
    """The id of a notification is not that of a redrive."""
    ran = await run("dead-letters", verb, "nope")

    assert ran.code == 1
    assert "`clarion dead-letters redrives` shows the latest ones" in ran.err


async def test_an_empty_word_is_no_filter_that_matches_all(there: Any, run: Any) -> None:
    """`--reason "$UNSET" --yes` must not put everything aside: the server refuses it."""
    there.answer("POST /v1/dead-letters/discard", {"discarded": 0})

    await run("dead-letters", "discard", "--reason", "", "--yes")

    assert there.seen[0].body == {"reason": ""}


@pytest.mark.parametrize("word", ["sent", "retry"])
async def test_a_person_decides_about_an_unknown_one(there: Any, run: Any, word: str) -> None:
    """The answer is the notification as it stands then."""
    path = f"/v1/notifications/{ID}/resolve"
    there.answer(
        f"POST {path}", {"id": ID, "channel": "email", "to": "a@b.example", "status": word}
    )

    ran = await run("resolve", ID, "--as", word)

    assert ran.code == 0
    assert there.seen[0].body == {"as": word}


async def test_another_decision_is_bad_usage(there: Any, run: Any) -> None:
    """Nothing is asked; help says what there is."""
    ran = await run("resolve", ID, "--as", "lost")

    assert (ran.code, there.seen) == (2, [])


async def test_following_waits_for_a_server_that_is_starting(there: Any, run: Any) -> None:
    """A 503 is a restart, not the end of the redrive."""
    there.answer(BEGIN, redrive(), status=202)
    there.answer(LOOK, web.Response(status=503, text="{}"), redrive("done", moved=3))

    ran = await run("dead-letters", "redrive")

    assert ran.code == 0
    assert ran.out == f"redrive {ID} is done: 3 of 3 moved\n"


@pytest.mark.parametrize("rate", ["nan", "inf"])
async def test_a_rate_is_a_number(there: Any, run: Any, rate: str) -> None:
    """JSON has no other."""
    ran = await run("dead-letters", "redrive", "--rate", rate)

    assert (ran.code, there.seen) == (2, [])
    assert "--rate" in ran.err


async def test_following_waits_for_a_server_that_restarts_but_not_for_ever(there: Any) -> None:
    """The redrive goes on with the server; somebody has to say that it is gone."""
    clock = ManualClock()
    there.answer(LOOK, ConnectionResetError())
    follower = Follower(Server(there.url), Output(is_json=True), clock)
    follower.pause.wait = lambda _s: clock.advance(10.0)  # type: ignore[method-assign]

    with pytest.raises(ServerUnreachable):
        await asyncio.to_thread(follower.follow, redrive())

    assert len(there.seen) == PATIENCE_S / 10.0 + 1


async def test_on_a_terminal_a_bar_shows_the_progress(there: Any) -> None:
    """Drawn on standard error, so that the result can be piped."""
    there.answer(BEGIN, redrive(), status=202)
    there.answer(LOOK, redrive(moved=2), redrive("done", moved=3))
    ours, theirs = pty.openpty()

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "dead-letters", "redrive", "--url", there.url,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    async with asyncio.timeout(20.0):
        out, _ = await process.communicate()
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)

    assert out.decode() == f"redrive {ID} is done: 3 of 3 moved\n"
    assert "3/3" in drawn


async def test_a_discard_of_all_has_to_be_said(there: Any, run: Any) -> None:
    """What an unset variable leaves of `discard $IDS --yes` puts nothing aside."""
    there.answer("POST /v1/dead-letters/discard", {"discarded": 2})

    nothing = await run("dead-letters", "discard", "--yes")
    everything = await run("dead-letters", "discard", "--all", "--yes")

    assert nothing.code == 2
    assert "give ids or a filter, or --all" in nothing.err
    assert everything.code == 0
    assert [seen.body for seen in there.seen] == [{}]
