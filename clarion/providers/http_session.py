"""One provider's HTTP connections: bounded, kept alive for a while, sharing nothing between calls.

No time limit of its own, no retry, no redirect, no cookie, no proxy from the environment, and a
cap on what is read of an answer. `request` knows exactly when a request may have left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import Payload

from clarion.domain.value import value_class
from clarion.providers.base import Wire

ANSWER_LIMIT_BYTES = 64 * 1024
"""More than any answer of these providers holds; what a broken proxy adds is not read."""

KEEPALIVE_S = 15.0
"""Below the idle limits of the providers' load balancers (60 s), so that we close first: a request
written to a connection that the other side is closing would be UNKNOWN for nothing."""

BROKEN = (aiohttp.ClientError, OSError)
"""What `HttpSession.request` raises when there was no complete answer."""


@value_class
class HttpReply:
    """A complete answer; one over the limit has `is_whole` False and the body's first part."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool = True

    @property
    def text(self) -> str:
        """The body as text, whatever bytes are in it."""
        return self.body.decode("utf-8", "replace")


class HttpSession:
    """At most `max_concurrent` connections to one provider; open it on the loop."""

    def __init__(
        self,
        max_concurrent: int,
        headers: Mapping[str, str] | None = None,
        *,
        make_connector: Callable[[], aiohttp.TCPConnector] | None = None,
        answer_limit_bytes: int = ANSWER_LIMIT_BYTES,
    ) -> None:
        """Send `headers` with each request; a limit of 0 bytes does not wait for a body at all."""
        self._make_connector = make_connector or _connector_maker(max_concurrent)
        self._answer_limit_bytes = answer_limit_bytes
        # A compressed answer could grow behind the cap on what is read.
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; connections are made when they are needed."""
        self._session = aiohttp.ClientSession(
            connector=self._make_connector(),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self, method: str, url: str, wire: Wire, *,
        headers: Mapping[str, str] | None = None, body: bytes | None = None,
    ) -> HttpReply:  # fmt: skip
        """Make one request; sets `wire.is_written` right before the first byte of a body leaves.

        Raises one of `BROKEN` when no complete answer came. `headers` name the type of `body`.
        """
        if self._session is None:
            raise RuntimeError("the session is not open")
        data = None if body is None else _Body(body, wire)
        async with self._session.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as response:
            answer, is_whole = await _read(response, self._answer_limit_bytes)
            return HttpReply(response.status, response.headers, answer, is_whole)


def _connector_maker(max_concurrent: int) -> Callable[[], aiohttp.TCPConnector]:
    return lambda: aiohttp.TCPConnector(limit=max_concurrent, keepalive_timeout=KEEPALIVE_S)


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> tuple[bytes, bool]:
    if not limit_bytes:
        return b"", False
    answer = bytearray()
    while chunk := await response.content.readany():
        answer += chunk
        if len(answer) > limit_bytes:
            response.close()
            return bytes(answer[:limit_bytes]), False
    return bytes(answer), True


class _Body(Payload):
    """A body that notes when it goes out.

    aiohttp buffers the head and writes it together with the first piece of the body, so this is
    where the first byte leaves. Its trace hooks cannot tell: `on_request_headers_sent` fires while
    the head is still buffered, and `on_request_chunk_sent` fires before a write that fails on a
    connection already closed.
    """

    _autoclose = True

    def __init__(self, body: bytes, wire: Wire) -> None:
        super().__init__(body)
        self._size = len(body)
        self._wire = wire

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body, and with it the buffered head."""
        if not _is_closed(writer):
            self._wire.is_written = True
        await writer.write(self._value)


def _is_closed(writer: AbstractStreamWriter) -> bool:
    # An unknown kind of writer counts as open: UNKNOWN for nothing is the smaller evil.
    if not isinstance(writer, StreamWriter):
        return False
    return writer.transport is None or writer.transport.is_closing()
