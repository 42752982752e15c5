"""What the look-alikes that speak HTTP share: the server, and the order of a request.

::

    arrive -> rule? -> (read body) -> answer by contract -> deliver -> misbehave | wait -> respond
                └── faults that take nothing misbehave here, mostly without reading the body

A subclass knows one provider's published contract (`answer`, `own_error`); what goes wrong on the
wire is in `misbehaviour`, when in `steerable`, what was seen in `ledger`, the HTTP controls in
`control`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from aiohttp import web

from clarion.testing import control, misbehaviour
from clarion.testing.fault import Fault, FaultKind
from clarion.testing.ledger import SeenRequest
from clarion.testing.reply import Reply
from clarion.testing.steerable import Steerable

BODY_LIMIT_BYTES = 32 * 1024 * 1024
"""What is read at all; above SendGrid's own limit of 30 MB, so that the limit can be answered."""


class Lookalike(Steerable):
    """A provider over HTTP that answers by contract; its options are those of `Steerable`."""

    def __init__(self, **options: Any) -> None:
        """Take the options of `Steerable`."""
        super().__init__(**options)
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @abstractmethod
    def is_send(self, method: str, path: str) -> bool:
        """Tell whether this request asks for a message to be sent."""

    @abstractmethod
    def answer(self, seen: SeenRequest, body: bytes) -> Reply:
        """Answer by the published contract; put what was read into `seen.payload`."""

    @abstractmethod
    def parse(self, body: bytes) -> Any:
        """Read a send's body; None when it is not what the provider takes."""

    @abstractmethod
    def own_error(self, fault: Fault) -> Reply:
        """Make the error answer that the provider itself would write for `fault.status`."""

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port."""
        if self._listener is not None:
            return
        self.ledger.open()
        # Cancellation ends a hanging request as soon as its client gives up.
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, "127.0.0.1", self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: refuse connections and reset the open ones, whatever they wait for."""
        if self._listener is None or self._web is None:
            return
        self._listener.close()
        for connection in self._web.connections:
            misbehaviour.reset(connection.transport)
        await self._web.shutdown(timeout=1.0)
        await self._listener.wait_closed()
        self._listener = self._web = None
        self.ledger.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(control.PREFIX):
            return await control.handle(self, request)
        seen = SeenRequest(
            self._clock.now(), request.method, request.path, request.headers,
            self.is_send(request.method, request.path),
        )  # fmt: skip
        self.ledger.arrive(seen)
        try:
            return await self._serve(request, seen)
        except asyncio.CancelledError:
            if not seen.is_delivered and seen.outcome == "in_flight":
                seen.outcome = "abandoned"
            raise
        finally:
            self.ledger.leave(seen)

    async def _serve(self, request: web.BaseRequest, seen: SeenRequest) -> web.StreamResponse:
        body = await self._read_for_rules(request, seen)
        fault = self._choose(seen)
        if fault is not None and not fault.accepts:
            return await self._misbehave(fault, request, seen, Reply(200))
        reply = self.answer(seen, await _read(request) if body is None else body)
        self._note(seen, reply)
        if fault is not None and reply.status < 300:
            return await self._misbehave(fault, request, seen, reply)
        if self.latency_s and seen.is_delivered:
            await asyncio.sleep(self.latency_s)
        seen.status = reply.status
        return misbehaviour.respond(reply)

    def _note(self, seen: SeenRequest, reply: Reply) -> None:
        if reply.delivers:
            seen.correlation_id = reply.delivers[0]
            seen.outcome = "accepted"
            self.ledger.deliver(seen, reply.delivers)
        else:
            seen.outcome = "rejected" if reply.status >= 400 else "answered"

    async def _misbehave(
        self, fault: Fault, request: web.BaseRequest, seen: SeenRequest, reply: Reply
    ) -> web.StreamResponse:
        seen.outcome = fault.kind.value
        if not fault.accepts and fault.kind is FaultKind.ERROR:
            await _read(request)
        response = await misbehaviour.perform(fault, request, reply, self.own_error)
        seen.status = misbehaviour.status_of(response)
        return response

    async def _read_for_rules(self, request: web.BaseRequest, seen: SeenRequest) -> bytes | None:
        if not any(rule.match for rule in (*self._counted, *self._standing)):
            return None
        body = await _read(request)
        seen.payload = self.parse(body) if seen.is_send else None
        return body


async def _read(request: web.BaseRequest) -> bytes:
    body = bytearray()
    while len(body) <= BODY_LIMIT_BYTES:
        chunk = await request.content.readany()
        if not chunk:
            break
        body += chunk
    return bytes(body)
