"""Payloads as the systems publish them, and the settings that docs/hooks.md shows for each."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "hooks.md"


@pytest.fixture(scope="session")
def sample():
    """Return the payload of a file in payload/."""

    def read(name: str) -> Any:
        return json.loads((HERE / "payload" / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def examples() -> dict[str, str]:
    """The examples of the page by name, as they stand there."""
    found = re.findall(r"(?s)<!-- example: (\w+) -->\n```toml\n(.*?)```", PAGE.read_text())
    return dict(found)


@pytest.fixture(scope="session")
def example(examples):
    """Return the one hook of an example, as a table."""

    def read(name: str) -> Any:
        ((_, table),) = tomllib.loads(examples[name])["hooks"].items()
        return table

    return read
