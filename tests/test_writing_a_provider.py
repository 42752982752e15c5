"""The guide to writing a provider is complete: its files are installed, and its tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "writing-a-provider.md").read_text()


def files() -> dict[str, str]:
    """Return the files of the guide: each block stands below the sentence that names it."""
    return dict(re.findall(r"(?s)`([\w./]+)`:\n\n```\w+\n(.*?)```", GUIDE))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Write the guide's files, and install them as an installer does: with their entry points."""
    for name, text in files().items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    project = tomllib.loads(files()["pyproject.toml"])["project"]
    info = tmp_path / "clarion_acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["clarion.providers"].items()
    lines = "".join(f"{kind} = {value}\n" for kind, value in points)
    (info / "entry_points.txt").write_text(f"[clarion.providers]\n{lines}")
    return tmp_path


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the package is installed."""
    path = os.pathsep.join([str(package), str(ROOT)])
    # The guide says that no plugin is needed.
    extra = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "ACME_API_KEY": "k"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=package, capture_output=True, text=True, timeout=100,
        check=False, env={**os.environ, **extra},
    )  # fmt: skip


def test_every_block_of_code_is_a_file_with_a_name():
    """None is left out of the test below."""
    assert len(files()) == GUIDE.count("\n```") / 2 == 5


def test_the_adapters_of_the_guide_conform(package):
    """Both of them, the one that blocks as well, and a message through the whole engine."""
    found = run(package, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests")

    assert found.returncode == 0, found.stdout[-5000:] + found.stderr
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed is not None
    assert int(passed[1]) > 25, "two conformance suites and the engine"
    assert "skipped" not in found.stdout


def test_the_settings_of_the_guide_are_sound(package):
    """As `clarion serve` reads them, with the kind that the package brings."""
    program = (
        "from clarion.settings import load\n"
        "print(load('settings.toml').providers['acme'].config.base_url)"
    )

    found = run(package, "-c", program)

    assert found.stdout.strip() == "https://api.acme.example", found.stderr
