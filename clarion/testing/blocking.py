"""An adapter that blocks its thread: for tests of what a library without asyncio does to Clarion.

`hang` makes every send from now on hold its thread, as a library without a time limit does, and
`release` lets them go on. Nothing is sent anywhere.
"""

from __future__ import annotations

import threading
from typing import ClassVar, Literal

from clarion.domain.notification import Channel
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.providers.base import Outgoing, Wire

HOLD_S = 60.0
"""No thread is held for longer: a test that fails must not leave it behind."""


class BlockingProvider:
    """Implements `providers.blocking.BlockingAdapter`; every send is accepted in the end."""

    kind: ClassVar[str] = "blocking"
    channels: ClassVar[frozenset[str]] = frozenset(Channel)
    is_blocking: ClassVar[Literal[True]] = True

    def __init__(self, name: str = "blocking") -> None:
        self.name = name
        self.sent: list[str] = []
        """Ids of the notifications whose sends have returned."""
        self.threads: list[str] = []
        """Names of the threads that sends began in, in order."""
        self.times_closed = 0
        self.error: BaseException | None = None
        """Raised by `send` and `probe` while it is set."""
        self.writes_first = True
        """Whether a send has written its message before it hangs."""
        self._may_go = threading.Event()
        self._may_go.set()
        self._change = threading.Condition()
        self._inside = 0

    @property
    def inside(self) -> int:
        """How many sends and probes hold a thread now."""
        return self._inside

    def hang(self) -> None:
        """Let every send and probe from now on hold its thread until `release`."""
        self._may_go.clear()

    def release(self) -> None:
        """Let all that hang go on, and hang no more."""
        self._may_go.set()

    def open(self) -> None:
        """Nothing is needed."""

    def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Hold the thread while it hangs, then accept."""
        self.threads.append(threading.current_thread().name)
        wire.is_written = self.writes_first
        self._pass()
        wire.is_written = True
        self.sent.append(outgoing.notification_id)
        return Answer(Outcome.ACCEPTED, "accepted", provider_message_id=f"b-{len(self.sent)}")

    def probe(self) -> Health:
        """Hold the thread while it hangs, then be well."""
        self._pass()
        return Health(is_healthy=True, detail="the blocking provider is well")

    def close(self) -> None:
        """Count the closing."""
        with self._change:
            self.times_closed += 1
            self._change.notify_all()

    def wait_until_closed(self, timeout_s: float = 5.0) -> bool:
        """Wait in this thread for the first closing; False when it does not come."""
        with self._change:
            return self._change.wait_for(lambda: self.times_closed > 0, timeout_s)

    def _pass(self) -> None:
        self._count(1)
        try:
            self._may_go.wait(HOLD_S)
            if self.error is not None:
                raise self.error
        finally:
            self._count(-1)

    def _count(self, step: int) -> None:
        with self._change:
            self._inside += step
