"""What the look-alike servers share: the loopback server, its rules, and the order of a request.

::

    arrive -> rule? -> (read body) -> answer by contract -> deliver -> misbehave | wait -> respond
                └── faults that take nothing misbehave here, mostly without reading the body

A subclass knows one provider's published contract (`answer`, `own_error`); what goes wrong on the
wire is in `misbehaviour`, what was seen in `ledger`, the HTTP controls in `control`.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from aiohttp import web

from clarion.policies.clock import Clock, SystemClock
from clarion.testing import control, misbehaviour
from clarion.testing.fault import Fault, FaultKind
from clarion.testing.ledger import Ledger, SeenRequest

BODY_LIMIT_BYTES = 32 * 1024 * 1024
"""What is read at all; above SendGrid's own limit of 30 MB, so that the limit can be answered."""

Match = Callable[[SeenRequest], bool]


@dataclass(slots=True)
class Reply:
    """What the provider's contract says to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delivers: Sequence[str] = ()
    """Correlation ids of the messages that this answer takes; none for everything else."""


@dataclass(slots=True, eq=False)
class _Rule:
    fault: Fault
    times: int | None
    match: Match | None

    def applies_to(self, seen: SeenRequest) -> bool:
        if self.times is not None and not seen.is_send:
            return False
        return self.match is None or self.match(seen)


class Lookalike(ABC):
    """A provider on a loopback port that answers by contract and misbehaves on demand.

    `port` 0 takes a free one and keeps it over `stop` and `start`. `ledger` is an NDJSON file that
    gets a line per delivery. `rng` draws for `fail_ratio`; the default is seeded.
    """

    provider: ClassVar[str]

    def __init__(
        self,
        *,
        port: int = 0,
        ledger: Path | None = None,
        clock: Clock | None = None,
        rng: Callable[[], float] | None = None,
        keep: int = 10_000,
    ) -> None:
        self.port = port
        self.latency_s = 0.0
        """Time between taking a message and answering, in seconds."""
        self.fail_ratio = 0.0
        """Share of sends that get `failure` although no rule says so."""
        self.failure = Fault.error(500)
        self.ledger = Ledger(self.provider, ledger, keep)
        self._clock: Clock = clock or SystemClock()
        self._rng = rng or random.Random(0).random  # noqa: S311 - draws faults, not secrets
        self._counted: list[_Rule] = []
        self._standing: list[_Rule] = []
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._serial = int(self._clock.now() * 1e6) << 32

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

    @abstractmethod
    def settings(self, **extra: Any) -> dict[str, Any]:
        """Return a `[providers.NAME]` table that points Clarion here."""

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def behave(self, fault: Fault, *, times: int | None = None, match: Match | None = None) -> None:
        """Misbehave from now on, or for the next `times` sends.

        Rules with `times` are used up first, in the order they were given; then the latest
        standing rule holds, for health probes as well. With `match`, which is given the request
        with its parsed payload, the body is read before any fault.
        """
        if times is not None:
            self._counted.append(_Rule(fault, times, match))
        else:
            self._standing.insert(0, _Rule(fault, None, match))

    def recover(self) -> None:
        """Drop every rule and the fail ratio; what already hangs goes on hanging."""
        self._counted.clear()
        self._standing.clear()
        self.fail_ratio = 0.0

    async def wait_for(self, condition: int | Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait for that many deliveries in all, or until the callable is true; else TimeoutError.

        The callable is asked again at every arrival, delivery and end of a request.
        """
        await self.ledger.wait_for(condition, timeout_s)

    @property
    def requests(self) -> deque[SeenRequest]:
        """The latest requests, oldest first."""
        return self.ledger.requests

    @property
    def deliveries(self) -> Counter[str]:
        """How often each correlation id was delivered."""
        return self.ledger.deliveries

    def delivered(self, correlation_id: str) -> int:
        """Return how often this message was taken."""
        return self.ledger.deliveries[correlation_id]

    def duplicates(self) -> dict[str, int]:
        """Return the messages that were taken more than once, with how often."""
        return self.ledger.duplicates()

    @property
    def in_flight(self) -> int:
        """How many sends are inside now."""
        return self.ledger.in_flight

    @property
    def max_in_flight(self) -> int:
        """The most sends that were inside at once."""
        return self.ledger.max_in_flight

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

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

    def next_serial(self) -> int:
        """Return a number for the provider's own ids; it differs over restarts of the process."""
        self._serial += 1
        return self._serial

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch."""
        return self._clock.now()

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

    def _choose(self, seen: SeenRequest) -> Fault | None:
        for rule in (*self._counted, *self._standing):
            if rule.applies_to(seen):
                self._use_up(rule)
                return rule.fault
        if seen.is_send and self.fail_ratio and self._rng() < self.fail_ratio:
            return self.failure
        return None

    def _use_up(self, rule: _Rule) -> None:
        if rule.times is None:
            return
        rule.times -= 1
        if rule.times <= 0:
            self._counted.remove(rule)


async def _read(request: web.BaseRequest) -> bytes:
    body = bytearray()
    while len(body) <= BODY_LIMIT_BYTES:
        chunk = await request.content.readany()
        if not chunk:
            break
        body += chunk
    return bytes(body)
