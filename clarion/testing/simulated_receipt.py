"""What simulated accounts tell later of what they took: late, twice, out of order, or at once.

A receipt is repeated until it is answered for, as providers do; the process that hears it may be
another one than the one that made the call, and may not have heard the call's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from clarion.domain.notification import Status
from clarion.domain.receipt import Receipt
from clarion.errors import ClarionError

if TYPE_CHECKING:
    from clarion.testing.simulation import Simulation

GOOD = frozenset({Status.SENT, Status.DELIVERED})
_DELAYS_S = ((0.0, 0.1), (0.1, 3.0), (3.0, 60.0))
_ENDS = (Status.DELIVERED, Status.DELIVERED, Status.DELIVERED, Status.UNDELIVERED)
_REPEATED_EVERY_S = 5.0
_REPEATED_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class ReceiptHabit:
    """How much an account tells; shares between 0 and 1."""

    share: float = 0.0
    """Of the messages that it took, those that it tells of at all."""
    twice: float = 0.3
    """Of the receipts, those that come again though they were answered for."""

    def draw(self, receipt: Receipt, rng: Random) -> Iterator[tuple[float, Receipt]]:
        """Yield what is told of a message, with the seconds after which it is."""
        if rng.random() >= self.share:
            return
        statuses: list[Status | None] = [rng.choice(_ENDS)]
        if rng.random() < 0.5:
            statuses.append(Status.SENT)
        if rng.random() < 0.2:
            statuses.append(None)
        for status in statuses:
            event = "opened" if status is None else status.value
            told = _replace(receipt, event, status, rng)
            for _ in range(2 if rng.random() < self.twice else 1):
                yield rng.uniform(*rng.choice(_DELAYS_S)), told


def _replace(receipt: Receipt, event: str, status: Status | None, rng: Random) -> Receipt:
    """Return the receipt of an event; providers repeat our number, or their id, or neither."""
    named = rng.choice(("call", "message id", "neither"))
    return Receipt(
        receipt.notification_id,
        receipt.provider,
        event,
        key=f"{receipt.call} {event}",
        at=receipt.at,
        status=status,
        call=receipt.call if named == "call" else None,
        provider_message_id=receipt.provider_message_id if named == "message id" else None,
    )


def plan_receipt(world: Simulation, at: float, receipt: Receipt) -> None:
    """Let a receipt come at an instant, again and again until somebody answers for it."""
    name = f"receipt {receipt.event} of {receipt.notification_id}"
    world.plan(at, name, partial(_tell, receipt=receipt), is_stubborn=True)


async def _tell(world: Simulation, *, receipt: Receipt) -> None:
    for _ in range(_REPEATED_AT_MOST):
        if await _is_answered_for(world, receipt):
            return
        await asyncio.sleep(_REPEATED_EVERY_S)
    world.accuse(f"a receipt of {receipt.notification_id} was refused for too long")


async def _is_answered_for(world: Simulation, receipt: Receipt) -> bool:
    if world.engine is None:
        return False
    try:
        verdicts = await world.engine.service.receive([receipt])
    except ClarionError as error:
        world.note(f"receipt not kept: {type(error).__name__}")
        return False
    (verdict,) = verdicts
    world.note(f"receipt {receipt.event} of {receipt.notification_id} {verdict}")
    world.told(receipt, verdict)
    return True
