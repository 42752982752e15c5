"""`make demo` plays to its end, and counts what it says."""

from __future__ import annotations

import asyncio
import sys


async def test_the_demonstration_keeps_every_promise(tmp_path):
    """An outage of a provider, of both, and a kill -9: nothing lost, nothing twice unmarked."""
    play = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion.testing.demonstration",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    out, err = await asyncio.wait_for(play.communicate(), 100)

    assert play.returncode == 0, (out + err).decode()
    said = out.decode()
    assert "120 accepted, 0 lost" in said
    assert "the lane is held: no provider of email can take it now (main: circuit open" in said
