"""The OpenAPI 3.1 document, and the page that shows it, from the table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from typing import Any

from clarion.http.auth import OWN_CREDENTIALS
from clarion.http.body import LINE_TYPES
from clarion.http.endpoint import Endpoint
from clarion.http.parameter import ALWAYS, HEADERS, OF_STATUS, PARAMETERS
from clarion.http.problem import ALL_KINDS, PROBLEM_TYPE, URN
from clarion.http.schema import EXAMPLES, SCHEMAS

_IN_PATH = re.compile(r"\{(\w+)\}")

ANYWHERE = (400, 405, 417, 500, 503)
"""Statuses of problems that every address may answer: to what is no HTTP, to another method, to an
`Expect` that is not met, after a bug of ours, and with too many connections."""

_SECURITY = {
    "key": {"type": "http", "scheme": "bearer"},
    "hook": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of [hooks.NAME]; where it has a secret, a signature instead.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Twilio-Signature",
        "description": "The provider's own; SendGrid's is X-Twilio-Email-Event-Webhook-Signature.",
    },
}


def document(endpoints: Sequence[Endpoint], version: str, has_key: bool) -> dict[str, Any]:
    """Return the document of these endpoints; `has_key` says whether a bearer key is asked for."""
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, has_key)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Clarion",
            "version": version,
            "description": "A resilient notification service: what it accepts is not lost.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {_name(status): _problem(status) for status in _STATUSES},
            "headers": HEADERS,
            "securitySchemes": _SECURITY,
        },
    }
    return found


def _operation(endpoint: Endpoint, has_key: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [
            *(_in_path(name) for name in _IN_PATH.findall(endpoint.path)),
            *(PARAMETERS[name] for name in endpoint.parameters),
        ],
        "responses": _responses(endpoint, has_key),
    }
    if endpoint.body:
        found["requestBody"] = {"required": True, "content": _body(endpoint.body)}
    found["security"] = _security(endpoint, has_key)
    return found


def _security(endpoint: Endpoint, has_key: bool) -> list[dict[str, list[str]]]:
    if endpoint.has_own_credentials:
        return [{OWN_CREDENTIALS[endpoint.path]: []}]
    return [{"key": []}] if has_key and not endpoint.is_open else []


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _body(schema: str) -> dict[str, Any]:
    content = {"application/json": _of(schema)}
    if schema in EXAMPLES:
        content["application/json"]["example"] = EXAMPLES[schema]
    if schema == "Batch":
        # One notification a line.
        content |= {kind: _of("Text") for kind in sorted(LINE_TYPES)}
    return content


def _of(schema: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{schema}"}}


# --- answers ---------------------------------------------------------------------------------


def _responses(endpoint: Endpoint, has_key: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{_name(status)}"}
        for status in sorted(_problems(endpoint, has_key))
    }
    return found | {str(status): answer for status, answer in _answers(endpoint).items()}


def _problems(endpoint: Endpoint, has_key: bool) -> set[int]:
    found = {*ANYWHERE, *endpoint.problems}
    if "{" in endpoint.path:
        found.add(404)
    if endpoint.is_open:
        return found
    if not has_key:
        return found | {403}
    if not endpoint.has_own_credentials:
        # A browser that adds the key by itself is kept from asking for a foreign page.
        found |= {401} if endpoint.method == "GET" else {401, 403}
    return found


def _answers(endpoint: Endpoint) -> dict[int, dict[str, Any]]:
    found = {endpoint.status: _answer(endpoint)}
    if endpoint.status_when_down:
        down = _answer(endpoint)
        down["content"] |= {PROBLEM_TYPE: _problem_schema(endpoint.status_when_down)}
        found[endpoint.status_when_down] = down
    if endpoint.status_when_dry:
        matched = {"application/json": _of("Matched")}
        found[endpoint.status_when_dry] = {
            "description": "A dry run", "headers": _headers(ALWAYS), "content": matched,
        }  # fmt: skip
    if endpoint.status_when_nothing:
        found[endpoint.status_when_nothing] = {
            "description": "There was nothing to do", "headers": _headers(ALWAYS),
        }  # fmt: skip
    return found


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": endpoint.summary,
        "headers": _headers((*ALWAYS, *endpoint.headers)),
    }
    if endpoint.answer:
        answer["content"] = {kind: _of(endpoint.answer) for kind in endpoint.content_types}
    if endpoint.links:
        answer["links"] = {name: _link(name) for name in endpoint.links}
    return answer


def _link(operation: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}}


def _headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


# --- problems --------------------------------------------------------------------------------

_STATUSES = sorted({kind.status for kind in ALL_KINDS})


def _name(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.split())


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers((*ALWAYS, *OF_STATUS.get(status, ()))),
        "content": {PROBLEM_TYPE: _problem_schema(status)},
    }


def _problem_schema(status: int) -> dict[str, Any]:
    kinds = sorted({URN + kind.name for kind in ALL_KINDS if kind.status == status})
    of_status = {"properties": {"status": {"const": status}, "type": {"enum": kinds}}}
    return {"schema": {"allOf": [_of("Problem")["schema"], of_status]}}


# --- for people ------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 56rem; padding: 1rem; }
article { border-top: 1px solid var(--line); padding: .5rem 0; }
h2 { font-size: 1.05rem; overflow-wrap: anywhere; }
code { font-family: ui-monospace, monospace; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0; text-align: left;
  vertical-align: top; }
"""


def page(found: dict[str, Any]) -> str:
    """Return the document as one HTML page that loads nothing."""
    operations = "".join(
        _article(path, method, operation)
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(
        _schema(name, schema) for name, schema in found["components"]["schemas"].items()
    )
    info = found["info"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Clarion: the API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><header><h1>Clarion {escape(info["version"])}: the API</h1><p>{escape(info["description"])}
Errors are <code>application/problem+json</code> (RFC 9457). For programs:
<a href="/openapi.json">openapi.json</a>.</p></header>
<main><h2>Addresses</h2>{operations}<h2>Shapes</h2>{schemas}</main></body></html>
"""


def _article(path: str, method: str, operation: dict[str, Any]) -> str:
    title = f"<code>{method.upper()} {escape(path)}</code>"
    rows = [
        (each["name"], f"in the {each['in']}", each.get("description", ""))
        for each in operation["parameters"]
    ]
    if "requestBody" in operation:
        rows.append(("body", ", ".join(operation["requestBody"]["content"]), _named(operation)))
    answers = ", ".join(sorted(operation["responses"]))
    return (
        f'<article id="{escape(operation["operationId"])}"><h2>{title}</h2>'
        f"<p>{escape(operation['summary'])}. Answers: {answers}.</p>{_table(rows)}</article>"
    )


def _named(operation: dict[str, Any]) -> str:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return f"the shape {schema['$ref'].rpartition('/')[2]}"


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (field, _type(of), of.get("description", ""))
        for field, of in schema.get("properties", {}).items()
    ]
    return f"<article><h3><code>{escape(name)}</code></h3>{_table(rows)}</article>" if rows else ""


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join("null" if each is None else str(each) for each in schema["enum"])
    kind = schema.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f"<tr><th><code>{escape(name)}</code></th><td>{escape(kind)}</td><td>{escape(told)}</td></tr>"
        for name, kind, told in rows
    )
    return f"<table>{cells}</table>"
