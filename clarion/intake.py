"""From requests to durable notifications: one, or many at once.

A batch is validated in turns, split by channel, and each channel's part is one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

from clarion.domain.notification import Draft, Job
from clarion.domain.representation import represent_accepted
from clarion.domain.submission import Rules, draft_from
from clarion.errors import ClarionError, Fault, IdempotencyConflict, InvalidNotification
from clarion.policies.clock import Clock
from clarion.storage.command import AcceptedRow, ConflictRow, ReplayedRow
from clarion.turnstile import Turnstile

Row: TypeAlias = AcceptedRow | ReplayedRow | ConflictRow

VALIDATED_AT_ONCE = 200
"""Items of a batch validated before other tasks get a turn: some 3 ms."""
BATCHES_AT_ONCE = 2
"""Of those that are larger: one is validated while the other becomes durable."""
PATIENCE_S = 20.0
"""What such a batch waits for its turn; most clients give up after 30 s."""
ITEM_S = 1 / 10_000
"""What an item takes, cautiously, until this machine has shown it."""


@dataclass(slots=True)
class Submission:
    """A notification that is durable."""

    id: str
    is_replay: bool
    """Whether the idempotency key was known: nothing new was accepted."""
    _job: Job | None = field(default=None, repr=False)
    _answer: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON object to answer with; of a replay, the one that was answered first."""
        if self._answer is None:
            assert self._job is not None
            self._answer = represent_accepted(self._job)
        return self._answer

    @property
    def status(self) -> str:
        """The status that it was accepted with."""
        return str(self.answer["status"])


class Intake:
    """Validates requests and has them accepted.

    `enqueue` takes a channel and drafts for it, and returns a row for each once they are durable;
    it raises a ClarionError when it accepted none of them (or, `Unanswered`, cannot tell).
    """

    def __init__(
        self,
        rules: Rules,
        clock: Clock,
        enqueue: Callable[[str, Sequence[Draft]], Awaitable[list[Row]]],
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._enqueue = enqueue
        self._turnstile = Turnstile(
            BATCHES_AT_ONCE, patience_s=PATIENCE_S, item_s=ITEM_S, monotonic=clock.monotonic
        )

    async def submit(
        self, fields: Mapping[str, Any], idempotency_key: str | None, correlation_id: str
    ) -> Submission:
        """Make one durable, or raise why not."""
        draft = self._draft(fields, idempotency_key, correlation_id)
        (row,) = await self._enqueue(draft.channel, [draft])
        found = submission_of(row)
        if isinstance(found, ClarionError):
            raise found
        return found

    async def submit_many(
        self, items: Sequence[Mapping[str, Any] | ClarionError], correlation_id: str
    ) -> list[Submission | ClarionError]:
        """Make many durable; returns what became of each, in order.

        Raises Refused where too many of others wait already: nothing was accepted.
        """
        if len(items) <= VALIDATED_AT_ONCE:
            return await self._submit_all(items, correlation_id)
        async with self._turnstile.turn(len(items)):
            return await self._submit_all(items, correlation_id)

    async def _submit_all(
        self, items: Sequence[Mapping[str, Any] | ClarionError], correlation_id: str
    ) -> list[Submission | ClarionError]:
        drafts = await self._drafts(items, correlation_id)
        for index, conflict in list(conflicting_keys(drafts)):
            drafts[index] = conflict
        found = await self._submit_drafts(
            {index: each for index, each in enumerate(drafts) if isinstance(each, Draft)}
        )
        return [
            found[index] if isinstance(each, Draft) else each for index, each in enumerate(drafts)
        ]

    def _draft(self, fields: Mapping[str, Any], key: Any, correlation_id: str) -> Draft:
        return draft_from(
            fields,
            self._rules,
            now=self._clock.now(),
            idempotency_key=key,
            correlation_id=correlation_id,
        )

    async def _drafts(
        self, items: Sequence[Mapping[str, Any] | ClarionError], correlation_id: str
    ) -> list[Draft | ClarionError]:
        drafts: list[Draft | ClarionError] = []
        for number, item in enumerate(items, start=1):
            drafts.append(self._draft_or_error(item, correlation_id))
            if number % VALIDATED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return drafts

    def _draft_or_error(
        self, item: Mapping[str, Any] | ClarionError, correlation_id: str
    ) -> Draft | ClarionError:
        if isinstance(item, ClarionError):
            return item
        if not isinstance(item, Mapping):
            return InvalidNotification([Fault("a notification is a JSON object", "")])
        fields = dict(item)
        key = fields.pop("idempotency_key", None)
        try:
            return self._draft(fields, key, correlation_id)
        except InvalidNotification as error:
            return error

    async def _submit_drafts(
        self, drafts: Mapping[int, Draft]
    ) -> dict[int, Submission | ClarionError]:
        by_channel: dict[str, dict[int, Draft]] = {}
        for index, draft in drafts.items():
            by_channel.setdefault(draft.channel, {})[index] = draft
        parts = await asyncio.gather(
            *(self._submit_part(channel, part) for channel, part in by_channel.items())
        )
        return {index: found for part in parts for index, found in part.items()}

    async def _submit_part(
        self, channel: str, drafts: Mapping[int, Draft]
    ) -> dict[int, Submission | ClarionError]:
        try:
            rows = await self._enqueue(channel, list(drafts.values()))
        except ClarionError as error:
            return dict.fromkeys(drafts, error)
        return {index: submission_of(row) for index, row in zip(drafts, rows, strict=True)}


def submission_of(row: Row) -> Submission | ClarionError:
    """Return what a row of the reply to `Enqueue` means for its sender."""
    match row:
        case AcceptedRow():
            return Submission(row.job.id, is_replay=False, _job=row.job)
        case ReplayedRow():
            return Submission(str(row.answer["id"]), is_replay=True, _answer=row.answer)
        case ConflictRow():
            return IdempotencyConflict(row.key)
        case _:
            assert_never(row)


def conflicting_keys(
    drafts: Sequence[Draft | ClarionError],
) -> Iterator[tuple[int, IdempotencyConflict]]:
    """Yield the places of drafts whose key an earlier one of the batch has with another body.

    The store would see it too, but lanes commit in any order: here the first one always wins.
    """
    seen: dict[tuple[str, str], str] = {}
    for index, draft in enumerate(drafts):
        if not isinstance(draft, Draft) or draft.idempotency_key is None:
            continue
        scope = (draft.tenant or "", draft.idempotency_key)
        if seen.setdefault(scope, draft.fingerprint) != draft.fingerprint:
            yield index, IdempotencyConflict(draft.idempotency_key)
