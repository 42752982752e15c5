"""Connections: what aiohttp leaves open to a client that is slow, broken or many.

- A head that does not arrive, or a connection that idles, ends after `IDLE_S`.
- A body that does not arrive ends by the clock of `body`.
- An answer that is not read ends after `WRITE_S`.
- More than `max_connections` are answered 503 and closed, so that the store keeps its files.
- What is no HTTP is answered as a problem, and logged as the noise that it is.

A client that goes away does not cancel its handler (aiohttp's default, which is pinned here): a
notification on its way to the disk is accepted whether or not somebody still listens.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, cast

import structlog
from aiohttp import web

from clarion.http.problem import BUG, MALFORMED, TOO_MANY_CONNECTIONS, Problem

log = structlog.get_logger(__name__)

IDLE_S = 75.0
"""Longer than the 60 s after which common proxies close what they keep alive."""
WRITE_S = 60.0
STOP_S = 5.0
"""What answers may take once the server stops."""
LINGER_S = 2.0
"""A refused body is read on for so long that its sender sees the refusal, not a reset."""
MAX_CONNECTIONS = 10_000
SPARE_FILES = 128
"""File descriptors kept for the store, the providers and the log."""

_BUSY = Problem(
    TOO_MANY_CONNECTIONS,
    "The server holds as many connections as it may; close some or try again",
)


class Connection(web.RequestHandler):
    """One connection, with a limit to everything it may wait for."""

    __slots__ = ("_is_answering", "_overdue")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_answering = False
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it in, or turn it away where there are too many."""
        server = cast(Server, self._manager)
        if server.has_room():
            super().connection_made(transport)
            return
        log.warning("connection_refused", why="as many are open as may be")
        wire = cast(asyncio.Transport, transport)
        wire.write(_BUSY_ANSWER)
        wire.close()

    def data_received(self, data: bytes) -> None:
        """Read on, unless it was turned away."""
        if self.transport is not None:
            super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the kernel takes no more for now; an answer's time starts then."""
        super().pause_writing()
        self._limit_answer()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer, or drop who does not read it in time."""
        self._is_answering = True
        self._limit_answer()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._is_answering = False
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None

    def _limit_answer(self) -> None:
        # Nearly every answer is taken at once, and costs no timer; streams have their own limits.
        if self._is_answering and self.writing_paused and self._overdue is None:
            self._overdue = asyncio.get_running_loop().call_later(WRITE_S, self._drop)

    def _drop(self) -> None:
        """Cut off who does not read; a mere close would wait for the reader, too."""
        if self.transport is not None:
            self.transport.abort()
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the app: a request that is no HTTP."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: there is no place for an error")
        if 400 <= status < 500:
            log.debug("request_malformed", error=repr(exc))
            first_line = (message or "").strip().partition("\n")[0].strip(" :")
            problem = Problem(MALFORMED, f"This is no valid HTTP request: {first_line[:200]}")
        else:
            log.error("request_failed", error=repr(exc), exc_info=exc)
            problem = Problem(BUG, "This is a fault of the server, not of the request")
        response = problem.response()
        response.force_close()
        return response


class Server(web.Server):
    """Makes connections, up to a bound."""

    def __init__(self, *args: Any, max_connections: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections

    def has_room(self) -> bool:
        """Whether one more connection may be held."""
        return len(self._connections) < self._max_connections

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an app on our connections."""

    __slots__ = ("_max_connections",)

    def __init__(self, app: web.Application, *, max_connections: int | None = None) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=STOP_S,
            # A body that unfolds to a thousand times its size is refused, not unfolded.
            auto_decompress=False,
        )
        self._max_connections = max_connections or _affordable()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=False,
            max_connections=self._max_connections,
            **self._kwargs,
        )


def _affordable() -> int:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else soft - SPARE_FILES
    return max(16, min(MAX_CONNECTIONS, files))


def _raw(problem: Problem) -> bytes:
    response = problem.response()
    body = response.body
    assert isinstance(body, bytes)
    head = (
        f"HTTP/1.1 {problem.kind.status} {problem.kind.title}\r\n"
        f"Content-Type: {response.content_type}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


_BUSY_ANSWER = _raw(_BUSY)
