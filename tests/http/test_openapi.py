"""The reference says what is there: all of it, and rightly."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest
from openapi_spec_validator import validate

from clarion.domain.submission import FIELDS
from clarion.http.app import make_app
from clarion.http.auth import OWN_CREDENTIALS
from clarion.http.endpoint import ENDPOINTS
from clarion.http.problem import KINDS

PAGES = {"/", "/notifications/{id}", "/static/{name}"}
"""The dashboard's, which are for people and no part of the API."""


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
        if route.method != "HEAD" and route.resource.canonical not in PAGES
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
