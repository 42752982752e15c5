"""What became of a submission, and keys that a batch uses twice for different bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from clarion.domain.notification import Draft, Job
from clarion.domain.representation import represent_accepted
from clarion.errors import ClarionError, IdempotencyConflict
from clarion.storage.command import AcceptedRow, ConflictRow, ReplayedRow


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


def submission_of(row: AcceptedRow | ReplayedRow | ConflictRow) -> Submission | ClarionError:
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
