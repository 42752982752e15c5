"""The reference says what is there: all of it, and rightly."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from html.parser import HTMLParser

import jsonschema
import pytest
from openapi_spec_validator import validate

import clarion.http
from clarion.domain.submission import FIELDS
from clarion.http.app import make_app
from clarion.http.auth import OWN_CREDENTIALS
from clarion.http.endpoint import ENDPOINTS
from clarion.http.openapi import document as document_of
from clarion.http.problem import ALL_KINDS, KINDS, PROBLEM_TYPE, URN, Kind

MAIL = {"channel": "email", "to": "ada@example.com", "text": "Hello"}

PAGES = ("/notifications/", "/dead-letters", "/redrives/", "/steer/", "/static/")
"""How the dashboard's addresses begin, beside "/" itself: they are no part of the API."""


def is_page(path):
    """Whether an address is for people."""
    return path == "/" or path.startswith(PAGES)


@pytest.fixture
async def document(served):
    """The document as a client gets it."""
    return (await served.get("/openapi.json")).json


def against(document, name):
    """Return a validator for one of the schemas."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


async def test_the_document_is_valid(document):
    """By the published schema of OpenAPI 3.1."""
    validate(document)


async def test_every_route_is_in_the_document_and_nothing_else(served, document):
    """Method by method; HEAD goes without saying."""
    routes = {
        (route.method, route.resource.canonical)
        for route in make_app(served.front).router.routes()
        if route.method != "HEAD" and not is_page(route.resource.canonical)
    }
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }

    assert described == routes
    assert len(ENDPOINTS) == len(routes)


async def test_operations_have_names_of_their_own(document):
    """A generated client has one function for each."""
    names = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]

    assert len(names) == len(set(names))


async def test_a_request_has_the_fields_that_are_read(document):
    """No more and no less than `domain.submission` knows."""
    assert set(document["components"]["schemas"]["Request"]["properties"]) == set(FIELDS)
    item = document["components"]["schemas"]["Item"]["properties"]
    assert set(item) == {*FIELDS, "idempotency_key"}


async def test_answers_are_what_the_document_says(served, document, mail):
    """Each answer against its schema, problems included."""
    sent = await served.send()
    batch = await served.post("/v1/notifications/batch", [mail, {"channel": 7}])
    against(document, "Notification").validate(sent)
    against(document, "BatchAnswer").validate(batch.json)
    for path, name in (
        (f"/v1/notifications/{sent['id']}", "NotificationWithTimeline"),
        ("/v1/notifications", "Page"),
        ("/v1/dead-letters", "Page"),
        ("/v1/stats", "Stats"),
        ("/v1/queues", "Lanes"),
        ("/v1/providers", "Providers"),
        ("/health", "Health"),
        ("/livez", "Health"),
        ("/readyz", "Health"),
        ("/nothing", "Problem"),
    ):
        against(document, name).validate((await served.get(path)).json)
    refused = await served.post("/v1/notifications", {"channel": 7})
    against(document, "Problem").validate(refused.json)


async def test_statuses_of_problems_are_in_the_document(document):
    """What sending can end in is told."""
    answers = document["paths"]["/v1/notifications"]["post"]["responses"]

    assert {str(kind.status) for kind in KINDS.values()} - {"404", "409"} <= set(answers)
    assert {"202", "400", "408", "413", "415"} <= set(answers)


async def test_the_document_asks_for_the_key_where_the_server_does(serve):
    """Security on everything but the probes, and only while there is a key."""
    served = await serve(server={"api_key": "k" * 20})
    answer = await served.get("/openapi.json", Authorization="Bearer " + "k" * 20)
    for path, methods in answer.json["paths"].items():
        for operation in methods.values():
            is_open = path in ("/livez", "/readyz") or path in OWN_CREDENTIALS
            own = [{OWN_CREDENTIALS[path]: []}] if path in OWN_CREDENTIALS else []
            assert operation["security"] == (own if is_open else [{"key": []}])
            assert ("401" in operation["responses"]) is not is_open


OF_THE_TRANSPORT = {"Content-Type", "Content-Length", "Date", "Server", "Connection"}


async def test_every_header_of_an_answer_is_in_the_document(served, document, mail):
    """And those that a document says are there are there."""
    sent = await served.send()
    undescribed = {}
    for method, path, body in (
        ("POST", "/v1/notifications", mail),
        ("POST", "/v1/notifications", {}),
        ("POST", "/v1/notifications/batch", [mail]),
        ("GET", "/v1/notifications/{id}", None),
        ("POST", "/v1/notifications/{id}/cancel", None),
        ("POST", "/v1/dead-letters/redrive", {"rate": 5}),
        ("POST", "/v1/dead-letters/redrive", {"dry_run": True}),
        ("GET", "/metrics", None),
        ("GET", "/docs", None),
    ):
        answer = await served.ask(method, path.replace("{id}", sent["id"]), body)
        described = headers_of(document, method, path, answer.status)
        missing = {name for name, each in described.items() if each["required"]} - {*answer.headers}
        beyond = {*answer.headers} - OF_THE_TRANSPORT - {*described}
        if missing | beyond:
            undescribed[method, path, answer.status] = missing, beyond

    assert undescribed == {}


def headers_of(document, method, path, status):
    """Return the headers of an answer, wherever the document keeps them."""
    answer = document["paths"][path][method.lower()]["responses"][str(status)]
    return {
        name: found(document, each) for name, each in found(document, answer)["headers"].items()
    }


def found(document, part):
    """Follow a reference."""
    for name in part.get("$ref", "#").split("/")[1:]:
        document = document[name]
    return document if "$ref" in part else part


async def test_a_full_lane_tells_when_to_try_again(serve):
    """`Retry-After` belongs to a 429, and to a 503."""
    full = await serve(queue={"max_pending": 1})
    await full.post("/v1/queues/email/pause")
    await full.send()
    document = (await full.get("/openapi.json")).json

    answer = await full.post("/v1/notifications", MAIL)

    assert answer.status == 429
    described = headers_of(document, "POST", "/v1/notifications", 429)
    assert described["Retry-After"]["required"]
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_word_of_ours_is_no_id(served, document):
    """What `Allow` names is what the document names."""
    answer = await served.get("/v1/notifications/batch")

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert set(document["paths"]["/v1/notifications/batch"]) == {"post"}


async def test_the_examples_are_taken_as_they_stand(served, document):
    """Whoever copies one from the reference begins with an answer, not with a refusal."""
    refused = {}
    for path, methods in document["paths"].items():
        body = methods.get("post", {}).get("requestBody", {"content": {}})["content"]
        example = body.get("application/json", {}).get("example")
        if example is not None and "{id}" not in path:
            answer = await served.post(path, example)
            if answer.status >= 300 or answer.json.get("rejected"):
                refused[path] = answer.text

    assert refused == {}


def test_every_kind_of_problem_is_in_the_document():
    """Whichever module defines it."""
    modules = [importlib.import_module(f"clarion.http.{each.name}")
               for each in pkgutil.iter_modules(clarion.http.__path__)]  # fmt: skip
    kinds = {each for module in modules for each in vars(module).values() if isinstance(each, Kind)}

    assert kinds - ALL_KINDS == set()
    named = document_of(ENDPOINTS, "1", has_key=True)["components"]["responses"]
    types = {
        kind
        for answer in named.values()
        for kind in answer["content"][PROBLEM_TYPE]["schema"]["allOf"][1]["properties"]["type"][
            "enum"
        ]
    }
    assert types == {URN + kind.name for kind in ALL_KINDS}


class Links(HTMLParser):
    """What a page would load or lead to, and its text."""

    def __init__(self):
        super().__init__()
        self.links, self.scripts, self.text = [], 0, ""

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


async def test_the_page_names_every_address_and_loads_nothing(served):
    """HTML with a policy of its own; no script, no link to elsewhere."""
    answer = await served.get("/docs")
    page = Links()
    page.feed(answer.text)

    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert page.scripts == 0
    assert all(re.match(r"/[a-z]", link) for link in page.links)
    for endpoint in ENDPOINTS:
        assert f"{endpoint.method} {endpoint.path}" in page.text
    assert json.loads((await served.get("/openapi.json")).text)["openapi"].startswith("3.1")
    told = re.findall(r"Answers: ([\d, ]+)\.", answer.text)
    assert told
    for each in told:
        assert each.split(", ") == sorted(each.split(", ")), (
            "the answer that is hoped for comes first"
        )
