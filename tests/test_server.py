"""`clarion serve` as a process: where it listens, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import pytest


async def serve(directory: Path, *options: str) -> Process:
    """Start a server in a directory of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "serve", "--log-json", *options,
        cwd=directory, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def refusal(directory: Path, *options: str) -> tuple[int | None, str]:
    """Return how a server ended that does not start: exit code and what it said."""
    process = await serve(directory, *options)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, (out + err).decode()


async def url_of(process: Process) -> str:
    """Return where a server says that it listens."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        for stream in (process.stderr, process.stdout):
            async for line in stream:
                event = json.loads(line)
                if event["event"] == "serving":
                    return str(event["url"])
    raise AssertionError("it ended without having served")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_it_says_where_it_listens(tmp_path, host):
    """Port 0 takes a free one, and whoever reads the log can click on it."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    process = await serve(tmp_path, "--host", host, "--port", "0")
    try:
        url = await url_of(process)
        answer = await asyncio.to_thread(urllib.request.urlopen, f"{url}livez", timeout=10)
        with answer:
            assert answer.status == 200
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0


async def test_a_port_that_is_taken_is_a_fault_of_the_settings(tmp_path):
    """Exit code 2, and one sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]

        code, said = await refusal(tmp_path, "--port", str(port))

    assert code == 2
    assert f"server.port: cannot listen on 127.0.0.1:{port}: address already in use" in said
    assert "Traceback" not in said


async def test_a_second_server_on_one_database_is_turned_away(tmp_path):
    """Exit code 1, and who has it."""
    first = await serve(tmp_path, "--port", "0")
    try:
        await url_of(first)

        code, said = await refusal(tmp_path, "--port", "0")
    finally:
        first.terminate()
        await asyncio.wait_for(first.communicate(), 30)

    assert code == 1
    assert str(first.pid) in said
    assert "Traceback" not in said


async def test_whoever_asks_to_stop_again_and_again_gets_a_clean_exit(tmp_path):
    """Ctrl-C reaches a process group twice, and an impatient init asks until it is heard."""
    process = await serve(tmp_path, "--port", "0")
    await url_of(process)
    try:
        async with asyncio.timeout(30):
            while process.returncode is None:
                with suppress(ProcessLookupError):
                    # Not `terminate`: that looks for the end itself, and asyncio misses it then.
                    os.kill(process.pid, signal.SIGTERM)
                await asyncio.sleep(0.001)
    finally:
        await process.communicate()

    assert process.returncode == 0
