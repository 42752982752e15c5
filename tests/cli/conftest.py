"""A server that answers by the contract, and a way to run `clarion` against it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from clarion.cli.command import app

ID = "01JC0000000000000000000001"


def notification(**fields: Any) -> dict[str, Any]:
    """A notification as the API shows it."""
    return {
        "id": ID, "channel": "email", "to": "ada@example.com", "status": "queued",
        "held": False, "held_reason": None, "waiting": None, "next_attempt_at": None,
        "attempts": 0, "provider": None, "possibly_duplicated": False,
        "cancel_requested": False, "reason": None,
        "explanation": "It was accepted and waits in the queue for its turn.",
        "priority": "normal", "tenant": None, "reference": None, "metadata": {},
        "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
        **fields,
    }  # fmt: skip


@dataclass
class Seen:
    """A request that reached the server."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeServer:
    """Answers from a script: the last answer of a route is repeated."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    _answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)

    def answer(self, route: str, *answers: Any, status: int = 200) -> None:
        """Script a route ("GET /v1/stats").

        An answer is JSON, text, an exception to break, or a function of what was seen.
        """
        method, path = route.split(" ")
        self._answers[method, path] = [(status, each) for each in answers]

    @staticmethod
    def _parse(request: web.Request, text: str) -> Any:
        if request.content_type == "application/x-ndjson":
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text) if text else None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note the request and answer it."""
        text = await request.text()
        self.seen.append(
            Seen(
                request.method, request.path, dict(request.query), dict(request.headers),
                self._parse(request, text),
            )
        )  # fmt: skip
        answers = self._answers.get((request.method, request.path))
        if not answers:
            problem = {"title": "Not found", "detail": f"there is no {request.path}", "status": 404}
            return web.json_response(problem, status=404, content_type="application/problem+json")
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(body):
            body = body(self.seen[-1])
        if isinstance(body, web.StreamResponse):
            return body
        if isinstance(body, ConnectionError):
            assert request.transport is not None
            request.transport.close()
        if isinstance(body, str):
            return web.Response(status=status, text=body)
        if body is None:
            return web.Response(status=status)
        return web.json_response(
            {} if isinstance(body, ConnectionError) else body,
            status=status,
            content_type="application/json" if status < 400 else "application/problem+json",
        )


@pytest.fixture
async def there() -> AsyncIterator[FakeServer]:
    """Listen on a free port of loopback."""
    fake = FakeServer()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", fake.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    await runner.cleanup()


@dataclass
class Ran:
    """How a run of `clarion` ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
def run(there: FakeServer) -> Run:
    """Run `clarion` with arguments, CLARION_URL naming the server of this test."""

    async def run_(*arguments: str, input: str = "", **environment: str) -> Ran:
        variables: dict[str, str | None] = {
            "CLARION_URL": there.url, "CLARION_API_KEY": None, "COLUMNS": "200", **environment,
        }  # fmt: skip
        result = await asyncio.to_thread(
            CliRunner().invoke, app, list(arguments), input=input, env=variables
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run_
