"""`make demo` plays to its end, counts what it says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from clarion.testing.demo_balance import Balance

COMMAND = (sys.executable, "-m", "clarion.testing.demonstration")
BOUND_S = 100


def server_pids(directory) -> list[int]:
    """Return the servers that work below a directory; those of other tests do not count."""
    found = []
    for each in Path("/proc").iterdir():
        # Others' processes are not ours to read, and some end meanwhile.
        with suppress(OSError):
            if each.name.isdigit() and directory in (each / "cwd").readlink().parents:
                found.append(int(each.name))
    return found


async def read_until(said: Callable[[], bytes], wanted: bytes) -> None:
    """Wait until something was said."""
    async with asyncio.timeout(BOUND_S):
        while wanted not in said():
            await asyncio.sleep(0.05)


async def start(tmp_path, out) -> asyncio.subprocess.Process:
    """Start it, its temporary files below the test's."""
    return await asyncio.create_subprocess_exec(
        *COMMAND, cwd=tmp_path, stdout=out, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


async def test_in_a_pipe_it_tells_all_and_ends_by_itself(tmp_path):
    """A death, a hanging, a kill -9: each is told, nothing is lost, nothing is twice unmarked."""
    play = await start(tmp_path, asyncio.subprocess.PIPE)

    out, _ = await asyncio.wait_for(play.communicate(), BOUND_S)

    said = out.decode()
    assert play.returncode == 0, said
    for word in ("BREAKER:", "FALLBACK:", "HOLD:", "PROBE:", "INTENT:", "UNKNOWN", "kill -9"):
        assert word in said
    assert "refuses connections; nothing was sent → backup: SendGrid took" in " ".join(said.split())
    assert "It may have arrived twice" in " ".join(said.split())
    assert re.search(r"lost +│ +0 │ ✓", said)
    assert "✗" not in said
    assert "\x1b" not in said, "a pipe gets plain text"
    assert "Every promise was kept" in said
    assert server_pids(tmp_path) == []


async def test_on_a_terminal_the_server_stays_to_be_looked_at(tmp_path):
    """With a live view before, and a good end at Ctrl-C."""
    ours, theirs = pty.openpty()
    said = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: said.extend(os.read(ours, 65536)))
    play = await start(tmp_path, theirs)
    try:
        await read_until(lambda: bytes(said), b"Ctrl-C ends it")
        living = server_pids(tmp_path)
        play.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(play.wait(), BOUND_S)
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)

    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
    assert len(living) == 1
    assert code == 0
    assert "arrived there" in text, "the live view"
    assert "HELD" in text
    assert server_pids(tmp_path) == []


@pytest.mark.parametrize(
    ("moment", "signals"),
    [
        (b"", [signal.SIGTERM]),
        (b"serves", [signal.SIGINT] * 3),
        (b"The backup hangs", [signal.SIGHUP]),
    ],
)
async def test_interrupted_it_leaves_no_process_behind(tmp_path, moment, signals):
    """At its start, again and again, and while calls hang."""
    play = await start(tmp_path, asyncio.subprocess.PIPE)
    said = bytearray()

    async def listen() -> None:
        while chunk := await play.stdout.read(65536):
            said.extend(chunk)

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(BOUND_S):
        while not server_pids(tmp_path):
            await asyncio.sleep(0.02)
    await read_until(lambda: bytes(said), moment)

    for number in signals:
        play.send_signal(number)

    assert await asyncio.wait_for(play.wait(), BOUND_S) == 130
    await listening
    assert b"nothing is left running" in said
    assert b"Traceback" not in said, said.decode()
    assert server_pids(tmp_path) == []
    assert list(tmp_path.iterdir()) == [], "its files are gone as well"


BOOKS = Balance(
    answered=frozenset("ab"), accepted=2, by_status={"sent": 2}, marked=frozenset("b"),
    primary=Counter("ab"), backup=Counter("b"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "is_even"),
    [
        ({}, True),
        ({"accepted": 3}, False),
        ({"by_status": {"sent": 1}}, False),
        ({"primary": Counter("b")}, False),
        ({"backup": Counter("bc")}, False),
        ({"marked": frozenset()}, False),
        ({"marked": frozenset("ab")}, True),
    ],
    ids=["even", "accepted", "statuses", "lost", "never accepted", "unmarked", "marked in doubt"],
)
def test_books_that_do_not_balance_are_told(change, is_even):
    """Every promise can be broken, one at a time."""
    assert replace(BOOKS, **change).is_even == is_even
