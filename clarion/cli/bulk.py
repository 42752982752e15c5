"""Many notifications to a server, batch by batch, so that doing it again sends nothing twice.

Each line has an idempotency key made of its own content and its number. Whatever ends a run (a
kill, a lost connection, a restart of the server), the same file sent again gets the first answers
for what was accepted, as long as the server remembers keys: 24 hours. Not the whole file is
hashed: mending one rejected line must not send all the others a second time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from clarion.cli.client import BUSY, Server, ServerProblem, ServerUnreachable
from clarion.cli.notification_file import BadLine, Found, Line, UnreadableFile
from clarion.errors import ClarionError
from clarion.policies.clock import Clock

BATCH_LINES: Final = 500
BATCH_BYTES: Final = 16 * 1024 * 1024
"""Half of what the server takes."""
WAIT_S: Final = 1.0
WAIT_MAX_S: Final = 10.0

_KEY_CHARS: Final = 48


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that was not accepted, why, and what it held as far as it could be read."""

    number: int
    why: str
    fields: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Report:
    """What became of the lines so far; `stopped_at` is the first line that nothing became of."""

    accepted: int = 0
    replayed: int = 0
    rejected: int = 0
    stopped_at: int | None = None
    error: ClarionError | None = None

    @property
    def settled(self) -> int:
        """Lines that are through."""
        return self.accepted + self.replayed + self.rejected


@dataclass(frozen=True, slots=True)
class _Item:
    number: int
    fields: Mapping[str, Any]
    body: bytes


@dataclass(slots=True)
class Bulk:
    """Sends lines to a server.

    `run_name` makes the same lines new ones under another name. `patience_s` bounds each stretch
    in which nothing is accepted because the server is busy, or gone after it had answered.
    `on_rejected` hears of each rejected line, `on_progress` of each step.
    """

    server: Server
    patience_s: float
    clock: Clock
    run_name: str = ""
    on_rejected: Callable[[Rejected], None] = lambda _: None
    on_progress: Callable[[Report], None] = lambda _: None
    pause: Event = field(default_factory=Event)
    report: Report = field(default_factory=Report)

    def send(self, lines: Iterable[Found]) -> Report:
        """Send them all and return the report, which also says what stopped it.

        Raises what stopped it (UnreadableFile, ServerProblem, ServerUnreachable) where that was
        before anything became of any line, or can have.
        """
        number = 1
        try:
            for batch in self._batches(lines):
                number = batch[0].number
                self._send_batch(batch)
        except UnreadableFile as error:
            self._stop(error, error.line)
        except (ServerProblem, ServerUnreachable) as error:
            self._stop(error, number)
        return self.report

    def _stop(self, error: ClarionError, number: int) -> None:
        may_have_begun = isinstance(error, ServerUnreachable) and error.is_doubtful
        if not self.report.settled and not may_have_begun:
            raise error
        self.report.error, self.report.stopped_at = error, number

    # --- batches -----------------------------------------------------------------------------

    def _batches(self, lines: Iterable[Found]) -> Iterator[list[_Item]]:
        batch: list[_Item] = []
        size_bytes = 0
        try:
            for line in lines:
                if isinstance(line, BadLine):
                    self._reject(Rejected(line.number, line.why))
                    continue
                item = self._item(line)
                if batch and size_bytes + len(item.body) > BATCH_BYTES:
                    yield batch
                    batch, size_bytes = [], 0
                batch.append(item)
                size_bytes += len(item.body) + 1
                if len(batch) == BATCH_LINES:
                    yield batch
                    batch, size_bytes = [], 0
        except UnreadableFile:
            # What stands before the bad place is as good as it was.
            if batch:
                yield batch
            raise
        if batch:
            yield batch

    def _item(self, line: Line) -> _Item:
        key = line.fields.get("idempotency_key") or self._key(line)
        body = json.dumps({**line.fields, "idempotency_key": key})
        return _Item(line.number, line.fields, body.encode())

    def _key(self, line: Line) -> str:
        content = json.dumps([self.run_name, line.number, line.fields], sort_keys=True)
        return "file-" + hashlib.sha256(content.encode()).hexdigest()[:_KEY_CHARS]

    # --- one batch ---------------------------------------------------------------------------

    def _send_batch(self, batch: list[_Item]) -> None:
        waiting: Sequence[_Item] = batch
        wait_s, stalled_at = WAIT_S, self.clock.monotonic()
        while True:
            left, error = self._try(waiting)
            if error is None:
                return
            if len(left) < len(waiting):
                wait_s, stalled_at = WAIT_S, self.clock.monotonic()
            waiting = left
            self._wait(error, wait_s, stalled_at)
            wait_s = min(2 * wait_s, WAIT_MAX_S)

    def _try(self, items: Sequence[_Item]) -> tuple[Sequence[_Item], ClarionError | None]:
        """Return what is to be sent again, and why; raises what waiting does not help against."""
        try:
            answer = self.server.post_lines(
                "notifications", "batch", lines=[item.body for item in items]
            )
        except ServerProblem as error:
            if error.status not in BUSY:
                raise
            return items, error
        except ServerUnreachable as error:
            # A server that never answered is a wrong address sooner than a restart.
            if not self.report.accepted + self.report.replayed:
                raise
            return items, error
        left, busy = self._judge(items, self._results(answer, len(items)))
        self.on_progress(self.report)
        return left, busy

    def _results(self, answer: Any, wanted: int) -> list[Mapping[str, Any]]:
        results = answer.get("results") if isinstance(answer, Mapping) else None
        if not isinstance(results, list) or len(results) != wanted:
            raise ServerUnreachable(self.server.url, "what answers there is no Clarion")
        return results

    def _judge(
        self, items: Sequence[_Item], results: Sequence[Mapping[str, Any]]
    ) -> tuple[list[_Item], ClarionError | None]:
        left: list[_Item] = []
        busy: ServerProblem | None = None
        for item, result in zip(items, results, strict=True):
            problem = result.get("problem")
            if problem is None:
                self._accept(is_replay=bool(result.get("replayed")))
                continue
            refusal = ServerProblem(int(problem.get("status") or 0), problem)
            if refusal.status in BUSY:
                left.append(item)
                busy = refusal
            else:
                self._reject(Rejected(item.number, _why(refusal), item.fields))
        return left, busy

    def _accept(self, *, is_replay: bool) -> None:
        if is_replay:
            self.report.replayed += 1
        else:
            self.report.accepted += 1

    def _reject(self, rejected: Rejected) -> None:
        self.report.rejected += 1
        self.on_rejected(rejected)

    def _wait(self, error: ClarionError, wait_s: float, stalled_at: float) -> None:
        """Wait as long as the server asked for; raises the error when patience does not last."""
        asked_s = error.retry_after_s if isinstance(error, ServerProblem) else None
        wait_s = wait_s if asked_s is None else asked_s
        if self.clock.monotonic() + wait_s > stalled_at + self.patience_s:
            raise error
        self.pause.wait(wait_s)


def _why(refusal: ServerProblem) -> str:
    faults = [f"{pointer.lstrip('/') or 'it'}: {detail}" for pointer, detail in refusal.faults]
    return "; ".join(faults) or str(refusal)
