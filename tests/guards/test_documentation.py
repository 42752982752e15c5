"""What users can name is in the documentation, and the documentation names nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from clarion.cli.command import app
from clarion.http.app import make_app
from clarion.http.front import Front
from clarion.telemetry import metrics
from clarion.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    found = re.search(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page)
    assert found, f"there is no '## {heading}'"
    return found[1]


# --- the command line --------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, by its full name."""
    root = typer.main.get_command(app)
    waiting: list[tuple[str, Any]] = [("clarion", root)]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", {})
        waiting += [(f"{name} {word}", each) for word, each in inner.items()]
        if not inner or command is root:
            yield name, command


@pytest.mark.parametrize(("name", "command"), sorted(commands()), ids=str)
def test_a_command_is_documented_with_all_its_options(name, command):
    """docs/cli.md has a section for it, and a row for each option."""
    told = section((DOCS / "cli.md").read_text(), name)

    options = {
        option
        for parameter in command.params
        if parameter.name != "help"
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }
    rows = "\n".join(line.split(" | ")[0] for line in told.splitlines() if line.startswith("|"))
    documented = set(re.findall(r"(--?[a-z-]+)", rows)) - {"-h", "--help"}
    assert {option for option in documented if not option.startswith("---")} == options


def test_the_documentation_names_no_command_that_there_is_not():
    """A section for every command, and a command for every section."""
    headings = re.findall(r"(?m)^## (clarion.*)$", (DOCS / "cli.md").read_text())

    assert sorted(headings) == sorted(name for name, _ in commands())


# --- metrics -----------------------------------------------------------------------------------


def metric_names() -> set[str]:
    """Return the name of everything in `/metrics`, circuits included."""
    metrics.circuit_state("documentation", 0)
    text = Metrics("0").render()[0].decode()
    names = set(re.findall(r"(?m)^# TYPE (\S+) ", text))
    return {name for name in names if name.startswith(("clarion_", "circuit_breaker_"))}


def test_every_metric_is_documented_and_no_other():
    """docs/operations.md has a row for each."""
    page = (DOCS / "operations.md").read_text()

    rows = set(re.findall(r"(?m)^\| `((?:clarion|circuit_breaker)_\w+)", page))

    assert rows == metric_names()


# --- links -------------------------------------------------------------------------------------


PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    """Relative ones; a link that leads nowhere is worse than none."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index():
    """docs/README.md leads to all of them."""
    index = (DOCS / "README.md").read_text()

    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


# --- HTTP --------------------------------------------------------------------------------------


def routes() -> set[tuple[str, str]]:
    """Return method and path of everything that the server answers."""
    nothing: Any = None  # to build the routes asks nothing of the engine
    router = make_app(Front(nothing, nothing, nothing, nothing)).router
    return {
        (route.method, route.resource.canonical)
        for route in router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


def test_every_route_is_documented_and_no_other():
    """docs/api.md names each as `METHOD /path`."""
    page = (DOCS / "api.md").read_text()

    documented = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`\s?]*)", page))

    assert documented == routes()
