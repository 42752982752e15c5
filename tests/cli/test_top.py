"""`clarion top`: what a frame shows, how rates come about, and how it ends."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import clarion.cli
from clarion.cli.client import Server, ServerProblem, ServerUnreachable
from clarion.cli.top import Look, Rates, look, rates, watch

_ROOT = Path(clarion.cli.__file__).parent.parent.parent

LANE = {
    "channel": "email", "paused": False, "held": True, "held_reason": "sendgrid is open",
    "accepting": True, "ready": 2, "scheduled": 3, "waiting": 4, "in_flight": 5,
    "oldest_at": "2026-01-01T00:00:00.000Z", "problem": None,
}  # fmt: skip
PROVIDER = {
    "name": "sendgrid", "kind": "sendgrid", "state": "open", "circuit": "open", "failures": 7,
    "in_flight": 0, "slots": 32, "retry_after_s": 41.6, "reason": "its circuit is open [bold]",
}  # fmt: skip


def stats(accepted: int = 0, **by_status: int) -> dict[str, Any]:
    """Counts of one channel, as the API gives them."""
    counts = {"accepted": accepted, "by_status": by_status}
    return {**counts, "by_channel": {"email": counts}}


def script(there: Any, *counts: dict[str, Any]) -> None:
    there.answer("GET /v1/stats", *(counts or (stats(1200, queued=2, sent=1198),)))
    there.answer("GET /v1/queues", {"items": [LANE]})
    there.answer("GET /v1/providers", {"items": [PROVIDER]})


def row(text: str, name: str) -> list[str]:
    """The cells of the last table row that begins with a name."""
    *_, line = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return [cell.strip() for cell in line.strip().split("  ") if cell.strip()]


# --- one frame -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--once",), ()])
async def test_in_a_pipe_it_is_one_frame(there: Any, run: Any, options: tuple[str, ...]) -> None:
    """Lanes, providers and breakers, without colours and cursor movements, and it ends."""
    script(there)

    ran = await run("top", *options)

    assert ran.code == 0
    assert ran.out.splitlines()[0].endswith("1,200 accepted: 2 queued, 1,198 sent")
    assert row(ran.out, "email")[:6] == ["email", "held", "2", "3", "4", "5"]
    assert row(ran.out, "email")[-3:] == ["-", "-", "-"]
    assert "email: sendgrid is open" in ran.out
    assert row(ran.out, "sendgrid") == [
        "sendgrid", "sendgrid", "-", "open", "open", "7", "0", "32", "42 s",
    ]  # fmt: skip
    assert "sendgrid: its circuit is open [bold]" in ran.out
    assert "\x1b" not in ran.out


async def test_with_json_it_is_one_document(there: Any, run: Any) -> None:
    """The shape of `clarion status --json`."""
    script(there)

    ran, same = await run("top", "--json"), await run("status", "--json")

    assert ran.json == same.json


async def test_no_server_at_the_start_is_exit_code_3(run: Any) -> None:
    """There is nothing to watch."""
    ran = await run("top", CLARION_URL="http://127.0.0.1:1")

    assert ran.code == 3
    assert "no Clarion answers" in ran.err


# --- rates -----------------------------------------------------------------------------------


def seen(at_s: float, counts: dict[str, Any]) -> Look:
    return Look(at_s, 1_800_000_000.0 + at_s, counts, [LANE], [PROVIDER])


def test_a_rate_is_what_changed_in_the_time_between():
    """By the time that passed, not by the time that was meant to pass."""
    before = seen(10.0, stats(100, queued=100))
    now = seen(12.5, stats(200, queued=145, sent=30, delivered=20, failed=4, expired=1))

    assert rates(before, now, "email") == Rates(accepted=40.0, sent=20.0, lost=2.0)


def test_a_receipt_is_no_second_sending():
    """It moves a notification from sent to delivered; nothing was sent by that."""
    before, now = seen(0.0, stats(5, sent=5)), seen(1.0, stats(5, delivered=4, undelivered=1))

    assert rates(before, now, "email").sent == 0


def test_there_is_no_rate_without_two_looks():
    """A dash, not a zero that nobody measured; an unknown lane has none either."""
    now = seen(1.0, stats(5))

    assert rates(None, now, "email") == Rates()
    assert rates(now, now, "email") == Rates()
    assert rates(seen(0.0, {}), now, "sms") == Rates(0, 0, 0)


def test_counts_that_fell_are_no_negative_rate():
    """Another database behind the same address."""
    assert rates(seen(0.0, stats(9, sent=9)), seen(1.0, stats(1)), "email") == Rates(0, 0, 0)


# --- watching --------------------------------------------------------------------------------


class _Clock:
    """Half a second passes with every look."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        self.at += 0.5
        return self.at

    def now(self) -> float:
        return 1_800_000_000.0


class _Keys:
    """Looks on for some frames, then leaves, by q or by Ctrl-C."""

    def __init__(self, frames: int, *, is_interrupt: bool = False) -> None:
        self.left = frames
        self._is_interrupt = is_interrupt

    def is_end(self, timeout_s: float) -> bool:
        self.left -= 1
        if self.left <= 0 and self._is_interrupt:
            raise KeyboardInterrupt
        return self.left <= 0


class _Answers(Server):
    """Answers a list of counts one after another; an error is raised."""

    def __init__(self, *counts: Any) -> None:
        super().__init__("http://127.0.0.1:1")
        self._counts = list(counts)

    def get(self, *path: str, **query: str | None) -> Any:
        match path:
            case ("stats",):
                found = self._counts.pop(0)
                if isinstance(found, Exception):
                    raise found
                return found
            case ("queues",):
                return {"items": [LANE]}
            case _:
                return {"items": [PROVIDER]}


def watched(*counts: Any, is_interrupt: bool = False) -> str:
    """The last frame after these looks."""
    there, clock = _Answers(*counts), _Clock()
    console = Console(file=io.StringIO(), width=200, highlight=False)
    keys = _Keys(len(counts), is_interrupt=is_interrupt)

    watch(there, look(there, clock), clock, keys, console)

    assert keys.left == 0
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_interrupt", [False, True])
def test_a_frame_shows_the_rates_since_the_one_before(is_interrupt: bool):
    """And q or Ctrl-C ends it, as it should, without a traceback."""
    shown = watched(stats(100), stats(110), stats(130, sent=5), is_interrupt=is_interrupt)

    assert row(shown, "email")[7:10] == ["40.0", "10.0", "0.0"]


def test_a_server_that_goes_away_is_told_and_asked_again():
    """Its last figures stay, without rates; an operator watches restarts above all."""
    gone = ServerUnreachable("http://127.0.0.1:1", "connection refused")
    away = watched(stats(100), stats(110), gone)
    back = watched(stats(100), gone, stats(120))

    assert "connection refused" in away
    assert "110 accepted" in away
    assert row(away, "email")[7:10] == ["-", "-", "-"]
    assert "connection refused" not in back
    assert row(back, "email")[7] == "40.0"


def test_a_server_that_is_starting_is_asked_again():
    """A 503 passes; an operator watches restarts above all. A refused key does not pass."""
    starting = ServerProblem(503, {"detail": "it is starting"})

    assert "it is starting" in watched(stats(100), starting)
    assert "120 accepted" in watched(stats(100), starting, stats(120))
    with pytest.raises(ServerProblem):
        watched(stats(100), ServerProblem(401, {"detail": "another key"}))


async def test_on_a_terminal_q_ends_it_and_leaves_the_terminal_as_it_was(there: Any) -> None:
    """On a real pseudo-terminal: it draws, hears the key without Enter, and ends with 0."""
    script(there)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "clarion", "top"],
        cwd=_ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "CLARION_URL": there.url, "TERM": "xterm", "COLUMNS": "200"},
    )  # fmt: skip
    try:
        shown = await asyncio.wait_for(
            asyncio.to_thread(_read_until, ours, b"sendgrid is open"), 30
        )
        os.write(ours, b"q")
        shown += await asyncio.wait_for(asyncio.to_thread(_read_until, ours, b"\x1b[?1049l"), 30)
        code = await asyncio.wait_for(asyncio.to_thread(process.wait, 30), 30)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)

    assert code == 0
    assert b"email" in shown
    assert b"Traceback" not in shown


def _read_until(fd: int, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        found += os.read(fd, 65536)
    return found
