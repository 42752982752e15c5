"""What a receipt means for its notification: which call it tells of, and which move it makes.

Good news counts whichever call it tells of: somebody has the message, so no other call has to be
made. Bad news counts for the latest call only, since a later one may have fared better. So the
order in which receipts arrive does not matter, nor how often one does.

::

    queued, sending, unknown ──> sent | delivered | undelivered
    sent                     ──> delivered | undelivered
    everything else          stays as it is
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from clarion.domain.notification import Status
from clarion.domain.receipt import CallPlace, Receipt


def call_of(receipt: Receipt, calls: Sequence[CallPlace]) -> int:
    """Return the number of the call that a receipt tells of; `calls` in the order of numbers.

    By the number that the provider repeated; else by its id of the message; else the provider's
    latest call whose id is not known (an answer that got lost), or its latest; 0 if it had none.
    """
    if receipt.call is not None:
        return receipt.call
    own = [call for call in calls if call.provider == receipt.provider]
    if receipt.provider_message_id is not None:
        for call in own:
            if call.provider_message_id == receipt.provider_message_id:
                return call.number
    nameless = [call for call in own if call.provider_message_id is None]
    return (nameless or own or [CallPlace(0, "")])[-1].number


def is_latest(
    receipt: Receipt, calls: Sequence[CallPlace], *, is_live: bool, provider: str | None
) -> bool:
    """Whether a receipt tells of the call that the notification's status comes from.

    That is the last of all while it is live; once it has ended, the last one to `provider`, which
    the record names.
    """
    if not is_live and receipt.provider != provider:
        return False
    rivals = calls if is_live else [call for call in calls if call.provider == provider]
    return call_of(receipt, calls) >= max((call.number for call in rivals), default=0)


def moved(status: Status, receipt: Receipt, *, is_latest_call: bool) -> Status | None:
    """Return the status that a receipt leads to; None where it changes nothing."""
    news = receipt.status
    if news is None or (news is Status.UNDELIVERED and not is_latest_call):
        return None
    match status:
        case Status.QUEUED | Status.SENDING | Status.UNKNOWN:
            return news
        case Status.SENT:
            return None if news is Status.SENT else news
        case (
            Status.SCHEDULED | Status.DELIVERED | Status.UNDELIVERED | Status.FAILED
            | Status.EXPIRED | Status.CANCELLED | Status.SUPPRESSED
        ):  # fmt: skip
            return None
        case _:
            assert_never(status)
