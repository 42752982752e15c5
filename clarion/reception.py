"""Where receipts come in: each one's lane is found, and its verdict waited for.

A receipt names a notification and not its channel, so the store is asked first. What is not there
is not ours: another system may send through the same account.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence

from clarion.domain.receipt import Receipt
from clarion.storage.command import Received
from clarion.storage.reader import Reader

RECEIVED_AT_ONCE = 200
"""Receipts of one commit: a large batch of events lets other work in between."""

AskLane = Callable[[str, Sequence[Receipt]], Awaitable[Sequence[Received]]]


class Reception:
    """Takes receipts in; `ask_lane` hands those of a channel on, and returns once they are kept."""

    def __init__(self, reader: Reader, ask_lane: AskLane) -> None:
        self._reader = reader
        self._ask_lane = ask_lane

    async def receive(self, receipts: Sequence[Receipt]) -> Counter[str]:
        """Keep receipts, and return how many met which verdict (see `Received`).

        Raises what `ask_lane` and the reader do; a receipt that is kept already is only counted
        when all of them come again.
        """
        verdicts: Counter[str] = Counter()
        for start in range(0, len(receipts), RECEIVED_AT_ONCE):
            verdicts += await self._receive(receipts[start : start + RECEIVED_AT_ONCE])
        return verdicts

    async def _receive(self, receipts: Sequence[Receipt]) -> Counter[str]:
        verdicts: Counter[str] = Counter()
        ids = dict.fromkeys(receipt.notification_id for receipt in receipts)
        channels = await self._reader.channels(list(ids))
        lanes: defaultdict[str, list[Receipt]] = defaultdict(list)
        for receipt in receipts:
            channel = channels.get(receipt.notification_id)
            if channel is None:
                verdicts["unknown"] += 1
            else:
                lanes[channel].append(receipt)
        for channel, mine in lanes.items():
            verdicts.update(each.verdict for each in await self._ask_lane(channel, mine))
        return verdicts
