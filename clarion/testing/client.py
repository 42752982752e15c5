"""A client of Clarion's HTTP API for tests: short names, answers as parsed JSON."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Any, Self

import aiohttp

LIVE_STATUSES = frozenset({"scheduled", "queued", "sending"})
POLL_S = 0.02
_STANDING = ("/v1/stats", "/v1/queues", "/v1/providers", "/health")


class UnexpectedAnswer(AssertionError):
    """The server answered another status than the caller counts on; carries the answer."""

    def __init__(self, what: str, answer: ApiAnswer) -> None:
        super().__init__(f"{what}: {answer.status} {answer.body}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """One answer of the API."""

    status: int
    body: Any
    """Parsed JSON, or the text where it is none."""
    headers: Mapping[str, str]


class ClarionClient:
    """Talks to one server; use it as an async context manager."""

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = 10.0) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        # Taken away first: a request that comes meanwhile would find a session that is closed.
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> ApiAnswer:
        """Make one request, whatever its answer; raises aiohttp.ClientError without one."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        # A file, since aiohttp warns of a large body that is sent as bytes.
        body = None if json is None else io.BytesIO(dumps(json).encode())
        all_headers = {"Content-Type": "application/json"} if body else {}
        async with self._session.request(
            method, self.url + path, data=body, headers={**all_headers, **(headers or {})}
        ) as response:
            is_json = "json" in response.content_type
            answer = await (response.json(content_type=None) if is_json else response.text())
            return ApiAnswer(response.status, answer, response.headers.copy())

    async def post(self, idempotency_key: str | None = None, **notification: Any) -> Any:
        """Send one notification and return it; UnexpectedAnswer when it was not accepted."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        answer = await self.request("POST", "/v1/notifications", json=notification, headers=headers)
        return _expect(202, "POST /v1/notifications", answer)

    async def batch(self, notifications: Sequence[Mapping[str, Any]]) -> Any:
        """Send many at once and return `{accepted, rejected, results}`."""
        path = "/v1/notifications/batch"
        return _expect(202, f"POST {path}", await self.request("POST", path, json=notifications))

    async def get(self, id_: str) -> Any:
        """Return one notification with its timeline."""
        return await self._read(f"/v1/notifications/{id_}")

    async def stats(self) -> Any:
        """Return `{accepted, by_status, by_channel}`."""
        return await self._read("/v1/stats")

    async def providers(self) -> Any:
        """Return what GET /v1/providers says."""
        return await self._read("/v1/providers")

    async def queues(self) -> Any:
        """Return what GET /v1/queues says."""
        return await self._read("/v1/queues")

    async def health(self) -> ApiAnswer:
        """Return the answer of GET /health, which may be a 503."""
        return await self.request("GET", "/health")

    async def standing(self) -> str:
        """Return how the server says that it stands, a line each; what is silent says why.

        For the words of a failure: whether a server stands still, or has nothing to do.
        """
        return "\n".join(await asyncio.gather(*map(self._tell, _STANDING)))

    async def _tell(self, path: str) -> str:
        try:
            answer = await self.request("GET", path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{path}: {error!r}"
        return f"{path}: {answer.status} {dumps(answer.body)}"

    async def metrics(self) -> str:
        """Return the text of GET /metrics."""
        return str(await self._read("/metrics"))

    async def wait_final(self, id_: str, timeout_s: float = 10.0) -> Any:
        """Read a notification until its status is final; TimeoutError after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            while (one := await self.get(id_))["status"] in LIVE_STATUSES:
                await asyncio.sleep(POLL_S)
        return one

    async def wait_drained(self, timeout_s: float = 30.0) -> Any:
        """Read the stats until nothing is live any more and return them; else TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                stats = await self.stats()
                if not any(stats["by_status"].get(status) for status in LIVE_STATUSES):
                    return stats
                await asyncio.sleep(POLL_S)

    async def _read(self, path: str) -> Any:
        return _expect(200, f"GET {path}", await self.request("GET", path))


def _expect(status: int, what: str, answer: ApiAnswer) -> Any:
    if answer.status != status:
        raise UnexpectedAnswer(what, answer)
    return answer.body
