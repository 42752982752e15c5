"""What users can name is in the documentation, and the documentation names nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from clarion.cli.reference import MARK, commands, with_reference
from clarion.http.app import make_app
from clarion.http.endpoint import ENDPOINTS
from clarion.http.front import Front
from clarion.telemetry import metrics
from clarion.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


# --- the command line --------------------------------------------------------------------------


def test_the_reference_of_the_command_line_is_what_the_commands_say():
    """docs/cli.md is written by `make reference`: run it where this fails."""
    page = (DOCS / "cli.md").read_text(encoding="utf-8")

    assert MARK in page
    assert with_reference(page) == page


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=str)
def test_a_command_says_what_it_and_its_options_are_for(name, command):
    """A row without words would be no reference."""
    silent = [each.name for each in command.params if not getattr(each, "help", None)]

    assert command.help, name
    assert [each for each in silent if each != "help"] == []


FOR_PROGRAMS = {
    "/hooks/{name}", "/callbacks/{provider}", "/livez", "/readyz", "/metrics", "/openapi.json",
    "/docs",
}  # fmt: skip
"""What other programs and browsers ask for."""

REACHED = {
    "send": "POST /v1/notifications",
    "send --from": "POST /v1/notifications/batch",
    "list": "GET /v1/notifications",
    "status ID": "GET /v1/notifications/{id}",
    "cancel": "POST /v1/notifications/{id}/cancel",
    "resolve": "POST /v1/notifications/{id}/resolve",
    "status": "GET /v1/stats",
    "health": "GET /health",
    "dead-letters list": "GET /v1/dead-letters",
    "dead-letters redrive": "POST /v1/dead-letters/redrive",
    "dead-letters redrives": "GET /v1/dead-letters/redrives",
    "dead-letters redrives ID": "GET /v1/dead-letters/redrives/{id}",
    "dead-letters cancel": "POST /v1/dead-letters/redrives/{id}/cancel",
    "dead-letters discard": "POST /v1/dead-letters/discard",
    "queues list": "GET /v1/queues",
    "queues pause": "POST /v1/queues/{channel}/pause",
    "queues resume": "POST /v1/queues/{channel}/resume",
    "providers list": "GET /v1/providers",
    "providers enable": "POST /v1/providers/{name}/enable",
    "providers disable": "POST /v1/providers/{name}/disable",
    "breakers open": "POST /v1/breakers/{name}/open",
    "breakers close": "POST /v1/breakers/{name}/close",
    "breakers reset": "POST /v1/breakers/{name}/reset",
}


def test_whatever_http_offers_to_a_person_has_a_command():
    """A new address gets a command, or is named above as one that is for programs."""
    for_people = [each for each in ENDPOINTS if each.path not in FOR_PROGRAMS]
    known = {name.removeprefix("clarion ") for name, _ in commands()}

    assert {f"{each.method} {each.path}" for each in for_people} == set(REACHED.values())
    assert {re.sub(r" (--from|ID)$", "", name) for name in REACHED} <= known


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


def test_every_test_that_a_page_names_is_there():
    """A bug that a page says is caught has a test that catches it."""
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in (file.name, *re.findall(r"(?m)^(?:async )?def (test_\w+)", file.read_text()))
    }

    named = {
        name for page in PAGES for name in re.findall(r"`(test_\w+(?:\.py)?)`", page.read_text())
    }

    assert named - defined == set()


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
