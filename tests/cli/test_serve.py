"""`clarion serve`: what is wrong is said before anything is started, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clarion.telemetry import log


@pytest.fixture(autouse=True)
def _keep_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure no logging: the tests of this process share it."""

    def configure(level: str, json: bool | None, *, in_background: bool) -> None:
        if level not in log.LEVELS:
            raise ValueError(f"{level!r} is no log level")

    monkeypatch.setattr(log, "configure", configure)


async def test_settings_that_are_not_there_are_exit_code_2(run: Any, tmp_path: Path) -> None:
    """A typo in --settings must not start a server with defaults."""
    ran = await run("serve", "--settings", str(tmp_path / "typo.toml"))

    assert ran.code == 2
    assert "typo.toml" in ran.err


async def test_a_host_of_the_command_line_is_checked_like_one_of_the_file(
    run: Any, tmp_path: Path
) -> None:
    """--host 0.0.0.0 without a key would open the service to everybody."""
    (tmp_path / "settings.toml").write_text("[server]\nport = 0\n")

    ran = await run("serve", "--settings", str(tmp_path / "settings.toml"), "--host", "0.0.0.0")

    assert ran.code == 2
    assert "server.host" in ran.err
    assert "server.api_key" in ran.err


@pytest.mark.parametrize(
    ("option", "value"), [("--log-level", "LOUD"), ("--port", "99999"), ("--port", "x")]
)
async def test_an_option_that_cannot_be_is_bad_usage(run: Any, option: str, value: str) -> None:
    """And the message names the option."""
    ran = await run("serve", option, value)

    assert ran.code == 2
    assert option in ran.err
