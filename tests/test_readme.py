"""The README does what it says: its commands, programs and settings are run and compared."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from clarion.settings import load
from clarion.testing import ClarionProcess

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DEFAULT_URL = "http://127.0.0.1:8080"
ENVIRONMENT = {
    "SENDGRID_API_KEY": "SG.x", "TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": "x",
}  # fmt: skip
VARYING = (
    (r"[0-9A-HJKMNP-TV-Z]{26}", "ID"),
    (r"\d{4}-\d\d-\d\d(T| at )\d\d:\d\d(:\d\d(\.\d+)?)?( ?Z| UTC|\+00:00)?", "TIME"),
    (r"\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"─+", "─"),
    (r"[ \t]+", " "),
)
"""What is another at each run, and how it is written where outputs are compared."""


def blocks(language: str) -> list[str]:
    """Return the code blocks of one language, in order."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", README)


def commands() -> list[tuple[str, str]]:
    """Return every command of the console blocks with the output that the README shows."""
    return [
        (command, output)
        for block in blocks("console")
        for command, output in re.findall(r"(?ms)^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", block)
    ]


def steady(output: str) -> str:
    """Return an output without what is another at each run."""
    for pattern, word in VARYING:
        output = re.sub(pattern, word, output)
    return "\n".join(line.strip() for line in output.splitlines() if line.strip())


async def run(command: str, directory: Path, url: str, ids: list[str]) -> str:
    """Run a command as a reader would, against the server of this test; return its output.

    An id that the README shows stands for the latest one.
    """
    if ids:
        command = re.sub(VARYING[0][0], ids[-1], command)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_shell(
        command.replace(DEFAULT_URL, url),
        cwd=directory,
        env={**os.environ, "PATH": path, "CLARION_URL": url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await asyncio.wait_for(shell.communicate(), 60))[0].decode()
    assert shell.returncode == 0, f"{command}\n{output}"
    return output.replace(url, DEFAULT_URL)


async def test_every_command_of_the_readme_shows_what_it_says(tmp_path):
    """A newcomer's first minutes, with the settings as shipped."""
    (tmp_path / "settings.toml").write_text((ROOT / "settings.toml").read_text())
    ids: list[str] = []
    async with ClarionProcess(tmp_path) as clarion:
        for command, shown in commands():
            if command.startswith("make "):
                continue  # the process above is what `make run` starts; see the next test
            output = await run(command, tmp_path, clarion.url, ids)
            ids += re.findall(VARYING[0][0], output)[:1]
            assert steady(output) == steady(shown), f"$ {command}\n{output}"
        assert ids
        assert await clarion.terminate() == 0


def test_every_make_target_of_the_documentation_is_there():
    """`make run` serves with the settings as shipped."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))

    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert {"run", "install", "test", "demo", "bench", "soak", "check"} <= targets
    assert set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert "$(BIN)/clarion serve --settings $(SETTINGS)" in makefile
    assert "SETTINGS ?= settings.toml" in makefile


@pytest.mark.parametrize("program", blocks("python"), ids=["in_process", "resilience"])
async def test_every_program_of_the_readme_runs(tmp_path, program):
    """Copied into a file in an empty directory."""
    (tmp_path / "program.py").write_text(program)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "program.py",
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    out, err = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, err.decode()
    assert out.decode().strip() in README


@pytest.mark.parametrize("settings", blocks("toml"))
def test_the_settings_of_the_readme_are_right(tmp_path, settings):
    """They can be copied as they are."""
    (tmp_path / "settings.toml").write_text(settings)

    loaded = load(tmp_path / "settings.toml", env=ENVIRONMENT)

    assert set(tomllib.loads(settings)["providers"]) <= set(loaded.providers)


def test_the_readme_is_short():
    """Under 150 lines: the rest is in docs/."""
    assert len(README.splitlines()) < 150
