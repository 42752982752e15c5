"""What a newcomer does first: serve with nothing configured, send, look."""

from __future__ import annotations

import asyncio
import email
import json
import sys
from email import policy


async def clarion_command(process, *arguments):
    """Run a `clarion` command against the server; return exit code and standard output."""
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", *arguments,
        cwd=process.directory,
        env={**process.environment, "CLARION_URL": process.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(command.communicate(), 30)
    return command.returncode, out.decode(), err.decode()


async def test_the_first_e_mail_lands_in_the_outbox_and_on_the_page(house):
    """`clarion send`, the .eml file, the timeline on the page: nothing had to be configured."""
    (house.directory / "settings.toml").write_text("")
    clarion = await house.start()
    code, out, err = await clarion_command(
        clarion, "send", "--channel", "email", "--to", "ada@example.com",
        "--subject", "Hello", "--text", "It works.", "--wait", "--json",
    )  # fmt: skip
    assert code == 0, err
    sent = json.loads(out)
    assert sent["status"] == "sent"

    (file,) = (house.directory / "outbox").rglob("*.eml")
    message = email.message_from_bytes(file.read_bytes(), policy=policy.default)
    assert message["To"] == "ada@example.com"
    assert message.get_body().get_content().strip() == "It works."

    page = await clarion.client.request("GET", "/")
    assert page.status == 200
    assert sent["id"] in page.body
    story = await clarion.client.request("GET", f"/notifications/{sent['id']}")
    assert story.status == 200
    assert "outbox" in story.body
    assert "ada@example.com" not in page.body
    assert await clarion.terminate() == 0


async def test_the_command_line_says_when_nobody_answers(house):
    """Exit code 3, and what to do, in plain words."""
    (house.directory / "settings.toml").write_text("")
    clarion = await house.start()
    await clarion.kill()
    code, _out, err = await clarion_command(clarion, "status")
    assert code == 3
    assert clarion.url in err
