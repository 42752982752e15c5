"""How each fault looks on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import TypeVar, assert_never

from aiohttp import web

from clarion.testing.fault import Fault, FaultKind
from clarion.testing.reply import Reply

R = TypeVar("R", bound=web.Response)

_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr></body></html>"
_HALF_DOCUMENT = b'{"sid": "SM0123456789abcdef", "status": "que'
_CHUNK_BYTES = 64 * 1024


class _Gone(web.Response):
    """Stands for an answer that never went out: the connection is already closed."""


class _ThenClose(web.Response):
    """Closes the connection when the answer is out, without having announced it."""

    transport: asyncio.Transport | None = None

    async def write_eof(self, data: bytes = b"") -> None:
        """Finish the answer, then close."""
        await super().write_eof(data)
        if self.transport is not None:
            self.transport.close()


def respond(reply: Reply) -> web.Response:
    """Answer as the contract says."""
    return _response(reply, web.Response)


def status_of(response: web.StreamResponse) -> int | None:
    """Return the status that went out; None when none did."""
    return None if isinstance(response, _Gone) else response.status


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Close at once with a TCP reset, dropping what is unsent."""
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            # Lingering for zero seconds is what turns the close into an RST.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.Transport):
        transport.abort()


async def perform(  # noqa: C901 - one case for each fault
    fault: Fault,
    request: web.BaseRequest,
    reply: Reply,
    own_error: Callable[[Fault], Reply],
) -> web.StreamResponse:
    """Do what `fault` says; `reply` is the answer that a healthy provider would give."""
    match fault.kind:
        case FaultKind.ERROR:
            return _error(fault, own_error)
        case FaultKind.HTML:
            title = f"{fault.status} Bad Gateway" if fault.status == 502 else str(fault.status)
            page = _PAGE.format(title)
            return web.Response(status=fault.status, text=page, content_type="text/html")
        case FaultKind.HANG:
            return await _hang()
        case FaultKind.RESET:
            reset(request.transport)
            return _Gone()
        case FaultKind.TRUNCATED:
            return web.Response(
                status=reply.status, body=_HALF_DOCUMENT, content_type="application/json",
                headers=reply.headers,
            )  # fmt: skip
        case FaultKind.CUT_OFF:
            return _cut_off(request, reply)
        case FaultKind.NO_CONTENT:
            return web.Response(status=204)
        case FaultKind.REDIRECT:
            return web.Response(status=fault.status, headers={"Location": fault.location})
        case FaultKind.DRIP:
            return await _drip(request, reply, fault.interval_s)
        case FaultKind.HUGE:
            return await _huge(request, fault)
        case FaultKind.KEEPALIVE_CLOSE:
            response = _response(reply, _ThenClose)
            response.transport = request.transport
            return response
        case FaultKind.SLOW:
            await asyncio.sleep(fault.interval_s)
            return respond(reply)
    assert_never(fault.kind)


def _response(reply: Reply, make: type[R]) -> R:
    return make(
        status=reply.status, body=reply.body, headers=reply.headers,
        content_type=reply.content_type,
    )  # fmt: skip


def _error(fault: Fault, own_error: Callable[[Fault], Reply]) -> web.Response:
    response = respond(own_error(fault))
    if fault.retry_after is not None:
        response.headers["Retry-After"] = fault.retry_after
    return response


async def _hang() -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a hang ends by cancellation")


def _cut_off(request: web.BaseRequest, reply: Reply) -> web.Response:
    transport = request.transport
    if transport is not None:
        announced = len(reply.body) + 100
        head = f"HTTP/1.1 {reply.status} \r\nContent-Type: application/json\r\n"
        transport.write(f"{head}Content-Length: {announced}\r\n\r\n".encode() + reply.body)
        transport.close()
    return _Gone()


async def _drip(request: web.BaseRequest, reply: Reply, interval_s: float) -> web.StreamResponse:
    # Without a body of its own (SendGrid) the answer is stretched by blanks.
    body = reply.body or b" " * 60
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(body)
    await response.prepare(request)
    for at in range(len(body)):
        await response.write(body[at : at + 1])
        await asyncio.sleep(interval_s)
    return response


async def _huge(request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
    response = web.StreamResponse(status=fault.status)
    response.content_length = fault.size_bytes
    await response.prepare(request)
    # A client that caps its reading hangs up in the middle, as it should.
    with contextlib.suppress(ConnectionError):
        for start in range(0, fault.size_bytes, _CHUNK_BYTES):
            await response.write(b"x" * min(_CHUNK_BYTES, fault.size_bytes - start))
    return response
