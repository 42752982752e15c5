"""A real engine behind a real socket, and a client that shows every detail of an answer."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from clarion import app as house
from clarion import server
from clarion.http.app import make_app
from clarion.http.connection import Runner
from clarion.http.front import Front
from clarion.settings import load

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
MAIL = {"channel": "email", "to": "ada@example.com", "subject": "Hi", "text": "Hello"}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.text)

    @property
    def is_problem(self) -> bool:
        """Whether it is a whole problem of RFC 9457 whose status is the answer's."""
        if self.headers["Content-Type"] != "application/problem+json":
            return False
        is_whole = {"type", "title", "status", "detail"} <= self.json.keys()
        return is_whole and self.json["status"] == self.status and bool(self.json["detail"])

    @property
    def pointers(self) -> list[str]:
        """Where the faults lie."""
        return [fault["pointer"] for fault in self.json.get("errors", ())]


@dataclass
class Served:
    """A server and one client of it."""

    url: str
    session: aiohttp.ClientSession
    front: Front
    app: web.Application
    stop: Callable[[], Awaitable[None]]
    """Stop serving, as at the end of a process."""
    engine: house.Engine = field(init=False)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request; `body` goes as JSON, `data` as it is."""
        asking = self.session.request(
            method, self.url + path, json=body, data=data, headers=headers, allow_redirects=False
        )
        async with asking as answer:
            return Answer(answer.status, answer.headers.copy(), await answer.text())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", path, body, headers=given)

    async def send(self, **fields: Any) -> Any:
        """Send a good notification and return it."""
        answer = await self.post("/v1/notifications", {**MAIL, **fields})
        assert answer.status == 202, answer.text
        return answer.json

    async def raw(self, request: bytes) -> bytes:
        """Write bytes to a connection and return all that comes until it is closed."""
        async with self.connect() as (reader, writer), asyncio.timeout(10):
            writer.write(request)
            return await reader.read()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection, to say on it whatever a test wants."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> Any:
        """Poll until it is true."""
        async with asyncio.timeout(10):
            while not (found := await condition()):
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def serving(
    app: web.Application, front: Front, *, port: int = 0, **options: Any
) -> AsyncIterator[Served]:
    """Serve an app on a free port of loopback."""
    runner = Runner(app, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            yield Served(f"http://127.0.0.1:{port}", session, front, app, runner.cleanup)
    finally:
        await runner.cleanup()


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start an engine with settings of the test's choice, and serve it."""
    async with AsyncExitStack() as stack:

        async def start(**overrides: Any) -> Served:
            (tmp_path / "settings.toml").touch()
            settings = load(tmp_path / "settings.toml", env={}, overrides=overrides)
            engine = await stack.enter_async_context(house.running(settings))
            front = server._front(engine)
            served = await stack.enter_async_context(serving(make_app(front), front))
            served.engine = engine
            return served

        yield start


@pytest.fixture
async def serve_front() -> AsyncIterator[Serve]:
    """Serve a front of the test's own making."""
    async with AsyncExitStack() as stack:

        async def start(front: Front, **options: Any) -> Served:
            return await stack.enter_async_context(serving(make_app(front), front, **options))

        yield start


@pytest.fixture
def mail() -> dict[str, Any]:
    """A notification that is right."""
    return dict(MAIL)


@pytest.fixture
async def served(serve: Serve) -> Served:
    """The default settings: e-mail and text messages into an outbox."""
    return await serve()


Browse = Callable[..., AbstractAsyncContextManager[tuple[Any, list[str]]]]


@pytest.fixture
def browse() -> Browse:
    """Open a page in Chromium; what its console complains of is collected."""
    return _browse


@asynccontextmanager
async def _browse(
    scheme: str = "light", width: int = 1280, *, scripts: bool = True
) -> AsyncIterator[tuple[Any, list[str]]]:
    from playwright.async_api import async_playwright

    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: install it, or name one in $CHROMIUM")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync",
                  "--disable-background-networking", "--disable-component-update"],
        )  # fmt: skip
        page = await browser.new_page(
            viewport={"width": width, "height": 844},
            color_scheme=scheme,
            java_script_enabled=scripts,
        )
        page.set_default_timeout(15_000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page, complaints
        await browser.close()
