"""What a look-alike saw and what it delivered, so that losses and duplicates can be counted.

A delivery is counted at the moment at which the look-alike takes the message, before it answers:
an answer that never arrives is still a delivery.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True, eq=False)
class SeenRequest:
    """One request, from its arrival on."""

    at: float
    """Arrival, in seconds since the epoch."""
    method: str
    path: str
    headers: Mapping[str, str]
    is_send: bool
    """Whether it asks for a message to be sent (others look at accounts and scopes)."""
    payload: Any = None
    """The parsed body; None while unread or unreadable."""
    correlation_id: str | None = None
    outcome: str = "in_flight"
    """"accepted", "answered" (not a send), "rejected", the fault's kind, or "abandoned"."""
    status: int | None = None
    """The status that was answered; None without an answer."""
    is_delivered: bool = False
    in_flight: int = 0
    """Sends in flight when it came, itself included."""
    delivered_before: int = 0
    """Deliveries counted when it came: with `in_flight`, how a slow start went."""


@dataclass(slots=True)
class Ledger:
    """Counts by our correlation id; optionally appends each delivery to an NDJSON file."""

    provider: str
    path: Path | None = None
    keep: int = 10_000
    """How many of the latest requests stay readable; counts are never dropped."""
    requests: deque[SeenRequest] = field(init=False)
    deliveries: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    _file: int | None = None
    _waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.requests = deque(maxlen=self.keep)

    def open(self) -> None:
        """Open the file for appending; nothing to do without one."""
        if self.path is not None and self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        """Close the file; the counts stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def arrive(self, request: SeenRequest) -> None:
        """Note a request; sends are in flight until `leave`."""
        self.requests.append(request)
        self.seen += 1
        if request.is_send:
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        request.in_flight = self.in_flight
        request.delivered_before = self.deliveries.total()
        self._look_around()

    def leave(self, request: SeenRequest) -> None:
        """Note that a request is over, whether it was answered or not."""
        self.outcomes[request.outcome] += 1
        if request.is_send:
            self.in_flight -= 1
        self._look_around()

    def deliver(self, request: SeenRequest, ids: Sequence[str]) -> None:
        """Count one delivery for each correlation id; they survive a kill -9 of this process."""
        request.is_delivered = True
        self.deliveries.update(ids)
        if self._file is not None:
            lines = (
                json.dumps({"at": request.at, "provider": self.provider, "id": id_}) for id_ in ids
            )
            # One write per request: with O_APPEND lines of several processes never mix.
            os.write(self._file, "".join(line + "\n" for line in lines).encode())
        self._look_around()

    def duplicates(self) -> dict[str, int]:
        """Return the ids that were delivered more than once, with how often."""
        return {id_: n for id_, n in self.deliveries.items() if n > 1}

    def clear(self) -> None:
        """Forget requests and counts; what is in flight stays so. The file is left alone."""
        self.requests.clear()
        self.deliveries.clear()
        self.outcomes.clear()
        self.seen = 0
        self.max_in_flight = self.in_flight

    def summary(self) -> dict[str, Any]:
        """Return the counts as JSON data."""
        return {
            "requests": self.seen,
            "outcomes": dict(self.outcomes),
            "deliveries": self.deliveries.total(),
            "distinct": len(self.deliveries),
            "duplicates": self.duplicates(),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
        }

    async def wait_for(self, condition: int | Callable[[], bool], timeout_s: float) -> None:
        """Wait for that many deliveries, or until the callable is true; else TimeoutError."""
        is_true = condition if callable(condition) else lambda: self._has_delivered(condition)
        if is_true():
            return
        waiter = (is_true, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1]
        except TimeoutError:
            raise TimeoutError(f"not within {timeout_s} s; so far {self.summary()}") from None
        finally:
            self._waiters.remove(waiter)

    def _has_delivered(self, n: int) -> bool:
        return self.deliveries.total() >= n

    def _look_around(self) -> None:
        for is_true, waiter in self._waiters:
            if not waiter.done() and is_true():
                waiter.set_result(None)


def read_ledger(path: Path) -> Counter[str]:
    """Count the deliveries in a ledger file by correlation id; a torn last line is left out."""
    if not path.exists():
        return Counter()
    whole = path.read_text().rpartition("\n")[0]
    return Counter(json.loads(line)["id"] for line in whole.splitlines())
