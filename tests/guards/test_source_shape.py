"""The source keeps its shape: small files, small functions, imports that run one way."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LONG_FILES = {
    "clarion/actors/address.py": 410,  # what an address owes while its instance is gone
    "clarion/telemetry/metrics.py": 425,  # every metric in one file, for those who look for one
}
"""Files that may be longer, each with its own bound and the reason why it is one file."""


def sources() -> list[Path]:
    """Return every file of the package."""
    return sorted((ROOT / "clarion").rglob("*.py"))


def test_no_file_is_longer_than_it_may_be():
    """A file that grows beyond its bound holds two things."""
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in sources()
    }

    too_long = {name: n for name, n in lengths.items() if n > LONG_FILES.get(name, MAX_FILE_LINES)}
    assert not too_long
    no_longer_long = [name for name in LONG_FILES if lengths.get(name, 0) <= MAX_FILE_LINES]
    assert not no_longer_long, "take these out of LONG_FILES"


def test_no_function_is_longer_than_sixty_lines():
    """A long run becomes a pipeline of named steps."""
    too_long = {}
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n = (node.end_lineno or node.lineno) - node.lineno + 1
                if n > MAX_FUNCTION_LINES:
                    too_long[f"{file.relative_to(ROOT)}:{node.name}"] = n

    assert not too_long


def test_nothing_below_tests_is_a_package():
    """An `__init__.py` would make tests/http shadow the standard library's http."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_test_files_have_names_of_their_own():
    """Without packages the base name is all that tells two modules apart."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]

    assert sorted(names) == sorted(set(names))


@pytest.mark.skipif(
    importlib.util.find_spec("importlinter") is None,
    reason="import-linter is not installed; `make check` installs and runs it",
)
def test_imports_run_one_way():
    """The contracts of pyproject.toml, exhaustive over the package."""
    linter = Path(sys.executable).with_name("lint-imports")

    found = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip

    assert found.returncode == 0, found.stdout
