"""`clarion send --from FILE` through kill -9 of the server: each line is delivered exactly once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

LINES = 4000
ROWS = [f"user{n}@example.com,Message {n}\n".encode() for n in range(LINES)]
BEGINNING = b"to,text\n" + b"".join(ROWS[:-1])
REST = ROWS[-1]


async def start_sending(clarion, *options, source="-"):
    """Start the command against the server."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "send", "--from", source, "--channel", "email",
        "--subject", "Hello", "--json", *options,
        cwd=clarion.directory, env={**clarion.environment, "CLARION_URL": clarion.url},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def begin(house, clarion, *options):
    """Start the command and return when the first batch is through.

    The last line is kept back, so that it is in the middle of the file however quick it is.
    """
    command = await start_sending(clarion, *options)
    command.stdin.write(BEGINNING)
    await house.until(lambda: accepted_some(clarion))
    return command


async def end_of(command, text=REST):
    """Give it the rest and wait for its end; exit code, the document that it printed, errors."""
    out, err = await asyncio.wait_for(command.communicate(text), 90)
    return command.returncode, json.loads(out), err.decode()


def delivered(directory):
    """Count the files of the outbox by their recipient."""
    return Counter(
        line.removeprefix(b"To: ").strip().decode()
        for file in (directory / "outbox").rglob("*.eml")
        for line in file.read_bytes().splitlines()
        if line.startswith(b"To: ")
    )


async def accepted(clarion):
    """Return how many were accepted so far."""
    return (await clarion.client.stats())["accepted"]


async def prepare(house):
    """Start a server whose lane is paused, so that no call is in flight at any death."""
    house.configure({"outbox": {"kind": "outbox"}}, {"email": ["outbox"]})
    clarion = await house.start()
    await clarion.client.request("POST", "/v1/queues/email/pause")
    return clarion


async def require_each_once(house, clarion):
    """Send what waits, and compare what arrived with the file."""
    await clarion.client.request("POST", "/v1/queues/email/resume")
    stats = await clarion.client.wait_drained()
    assert house.ended(stats) == {"sent": LINES}
    arrived = delivered(house.directory)
    assert arrived == Counter(f"user{n}@example.com" for n in range(LINES))


async def test_a_server_killed_in_the_middle_costs_nothing_and_doubles_nothing(house):
    """The command ends with 3; run again on the new server, it completes what was begun."""
    clarion = await prepare(house)
    command = await begin(house, clarion, "--patience", "0")
    await clarion.kill()
    code, _first, err = await end_of(command)
    assert code == 3, err
    assert "run the same command again" in err

    await clarion.start()
    before = await accepted(clarion)
    code, second, err = await end_of(await start_sending(clarion), BEGINNING + REST)

    assert code == 0, err
    assert 0 < before < LINES
    assert second["already_accepted"] == before
    assert second["accepted"] == LINES - before
    await require_each_once(house, clarion)


async def test_a_command_killed_in_the_middle_is_run_again(house):
    """kill -9 of the sender: it has no notes of its own, and needs none.

    Where the lines come from, a pipe or a file of any name, makes no difference either.
    """
    clarion = await prepare(house)
    command = await begin(house, clarion)
    command.kill()
    await command.communicate()
    (house.directory / "people.csv").write_bytes(BEGINNING + REST)

    code, second, err = await end_of(await start_sending(clarion, source="people.csv"))

    assert code == 0, err
    assert second["already_accepted"] >= 500
    assert second["accepted"] + second["already_accepted"] == LINES
    await require_each_once(house, clarion)


async def test_a_server_that_comes_back_is_waited_for(house):
    """With patience the one command rides out the restart by itself."""
    clarion = await prepare(house)
    command = await begin(house, clarion, "--patience", "60")
    await clarion.kill()
    await clarion.start()

    code, only, err = await end_of(command)

    assert code == 0, err
    assert only["accepted"] + only["already_accepted"] == LINES
    await require_each_once(house, clarion)


async def accepted_some(clarion):
    """Tell whether the first batch is through."""
    return await accepted(clarion) >= 500
