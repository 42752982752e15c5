"""The use cases: what HTTP, the command line and `clarion.start()` share.

The service validates, asks the actors and reads the store. It owns no notification: what it keeps
are the waiters and, for a moment, how the lanes stand. Every ask has a deadline, and what it can
end in is a `ClarionError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from clarion.actors.commons_messages import CommonsSnapshot
from clarion.actors.journal_messages import Ended, JournalSnapshot
from clarion.actors.membership_messages import MembershipSnapshot
from clarion.actors.messages import (
    CancelNotification,
    Enqueue,
    LaneSnapshot,
    PauseLane,
    ReceiveReceipts,
    ResumeLane,
    Snapshot,
)
from clarion.actors.runtime import Ref
from clarion.actors.supervisor_messages import SetBreaker, SetProvider, SupervisorSnapshot
from clarion.aftermath import Aftermath
from clarion.domain.address import wire_form
from clarion.domain.explanation import explain
from clarion.domain.notification import Draft, Notification, Status
from clarion.domain.receipt import Receipt as ProviderReceipt
from clarion.domain.representation import represent
from clarion.domain.submission import Rules
from clarion.errors import (
    ActorDead,
    AskTimeout,
    ClarionError,
    Conflict,
    Fault,
    InvalidNotification,
    LaneClosed,
    NotFound,
    Unanswered,
)
from clarion.intake import Intake, Submission
from clarion.lane_view import LaneViews, SilentLane
from clarion.policies.clock import Clock
from clarion.receipt import Receipt, Waiters
from clarion.reception import Reception
from clarion.storage.command import CancelResult, Receive, Received
from clarion.storage.reader import Page, Reader
from clarion.storage.search import Filter

log = structlog.get_logger(__name__)

MAX_PAGE = 500
"""Items of a page at most: what a reader can build within its time."""

BREAKER_ACTIONS = frozenset({"open", "close", "reset"})

_DOUBT = "it may or may not have taken effect"


@dataclass(frozen=True, slots=True)
class Control:
    """An operator's decision that outlives restarts: what, who, and when (epoch seconds)."""

    value: str
    who: str
    at: float


class Service:
    """The use cases; one per process, used from its event loop.

    `refs` finds an actor by its name and raises NotFound; `is_lane_failed` says of a channel
    whether its lane is over its restart budget; `ask_timeout_s` bounds every ask, in seconds.
    """

    def __init__(
        self,
        *,
        refs: Callable[[str], Ref],
        reader: Reader,
        clock: Clock,
        rules: Rules,
        is_lane_failed: Callable[[str], bool],
        channels: Sequence[str],
        providers: Sequence[str],
        new_id: Callable[[], str],
        ask_timeout_s: float = 5.0,
    ) -> None:
        self._refs = refs
        self._reader = reader
        self._clock = clock
        self._is_lane_failed = is_lane_failed
        self._channels = tuple(channels)
        self._provider_names = frozenset(providers)
        self._ask_timeout_s = ask_timeout_s
        self._intake = Intake(rules, clock, self._enqueue)
        self._reception = Reception(reader, self._tell_lane_of)
        self._waiters = Waiters()
        self.aftermath = Aftermath(self._ask, self._ask_lane, reader, clock, self._channels, new_id)
        """What people do about notifications that have ended."""
        self._lanes = LaneViews(
            refs, clock.monotonic, is_lane_failed=is_lane_failed, ask_timeout_s=ask_timeout_s
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """The configured channels."""
        return self._channels

    # --- sending ---------------------------------------------------------------------------

    async def submit(
        self,
        fields: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        correlation_id: str = "",
    ) -> Submission:
        """Make one notification durable; `fields` is the JSON object of the request.

        Raises InvalidNotification, IdempotencyConflict, or a Refused. Of these `Unanswered` alone
        leaves it open whether it was accepted.
        """
        return await self._intake.submit(fields, idempotency_key, correlation_id)

    async def submit_many(
        self, items: Sequence[Mapping[str, Any] | ClarionError], *, correlation_id: str = ""
    ) -> list[Submission | ClarionError]:
        """Make many durable; returns what became of each, in order.

        The valid ones of one channel are accepted together or not at all. An item may carry an
        `idempotency_key` among its fields. An item that is an error already stays one. Raises
        Refused, with nothing accepted, where too many large batches come at once.
        """
        return await self._intake.submit_many(items, correlation_id)

    async def _enqueue(self, channel: str, drafts: Sequence[Draft]) -> list[Any]:
        rows: list[Any] = await self._ask_lane(
            channel,
            Enqueue(drafts),
            doubt="the notification may or may not have been accepted;"
            " repeat the request with the same Idempotency-Key",
        )
        return rows

    async def send(
        self, *, idempotency_key: str | None = None, correlation_id: str = "", **fields: Any
    ) -> Receipt:
        """Make one notification durable, and return the receipt to wait with; see `submit`."""
        found = await self.submit(
            fields, idempotency_key=idempotency_key, correlation_id=correlation_id
        )
        return Receipt(found.id, found.answer, found.is_replay, self._waiters, self.get)

    def notify_ended(self, ended: Sequence[Ended]) -> None:
        """Wake those who wait for these; called by the Journal after the commit."""
        self._waiters.wake(ended)

    # --- what providers tell later ---------------------------------------------------------

    async def receive(self, receipts: Sequence[ProviderReceipt]) -> Counter[str]:
        """Make verified receipts durable, and return how many met which verdict.

        Raises a Refused while they cannot be kept: then all of them have to come again, and those
        that were kept before will count as repeated.
        """
        return await self._reception.receive(receipts)

    async def _tell_lane_of(
        self, channel: str, receipts: Sequence[ProviderReceipt]
    ) -> Sequence[Received]:
        doubt = "the receipts may or may not have been kept; send them again"
        found: Sequence[Received]
        if channel in self._channels:
            found = await self._ask_lane(channel, ReceiveReceipts(receipts), doubt)
        else:
            # A channel that has left the settings has its records still, but no lane.
            found = await self._ask("journal", Receive(channel, receipts, self._clock.now()), doubt)
        return found

    # --- reading ---------------------------------------------------------------------------

    async def get(self, id: str) -> Notification:
        """Return a notification with its calls. Raises NotFound, StorageUnavailable."""
        found = await self._reader.get(id) if id.isascii() and id.isprintable() else None
        if found is None:
            raise NotFound("notification", id)
        return found

    async def find(self, filter: Filter, cursor: str | None = None, limit: int = 50) -> Page:
        """Return a page of notifications, newest first, and the cursor of the next one.

        Raises InvalidNotification for a filter, cursor or limit that cannot be.
        """
        _check_page(filter, limit)
        return await self._reader.find(
            status=filter.status,
            channel=filter.channel,
            to=None if filter.to is None else wire_form(filter.to),
            reference=filter.reference,
            cursor=cursor,
            limit=limit,
        )

    async def dead_letters(
        self, filter: Filter, cursor: str | None = None, limit: int = 50
    ) -> Page:
        """Return a page of dead letters, the latest death first; raises as `find` does."""
        _check_page(filter, limit)
        return await self._reader.dead_letters(
            reason=filter.reason,
            provider=filter.provider,
            channel=filter.channel,
            since=filter.since,
            until=filter.until,
            cursor=cursor,
            limit=limit,
        )

    async def represent(
        self, notification: Notification, with_timeline: bool = False
    ) -> dict[str, Any]:
        """Return the JSON object of a notification, with what its lane has to say about it."""
        is_queued = notification.status is Status.QUEUED
        lane = await self._lanes.of(notification.channel) if is_queued else None
        held_reason = None
        if lane is not None and lane.is_held:
            held_reason = lane.held_reason or "no provider can take it now"
        return represent(
            notification,
            is_held=held_reason is not None,
            held_reason=held_reason,
            explanation=explain(
                notification,
                self._clock.now(),
                held_reason=held_reason,
                is_paused=lane is not None and lane.is_paused,
            ),
            with_timeline=with_timeline,
        )

    async def stats(self) -> dict[str, Any]:
        """Return `{accepted, by_status, by_channel}` of one instant."""
        return await self._reader.stats()

    # --- steering --------------------------------------------------------------------------

    async def cancel(self, id: str) -> Notification:
        """Cancel a notification, or ask that the call that is out be its last.

        Raises NotFound; Conflict when its status is final.
        """
        notification = await self.get(id)
        if not notification.status.is_live:
            raise Conflict(_too_late(notification.status))
        if notification.channel not in self._channels:
            raise Conflict(f"the channel {notification.channel!r} is not configured any more")
        result: CancelResult = await self._ask_lane(notification.channel, CancelNotification(id))
        match result.verdict:
            case "final":
                raise Conflict(_too_late(result.status))
            case "missing":
                raise NotFound("notification", id)
        return await self.get(id)

    async def resolve(self, id: str, is_sent: bool, who: str = "api") -> Notification:
        """Decide about an `unknown` one: it was sent, or it is to be sent (again, perhaps).

        Raises NotFound; Conflict when it is not `unknown`.
        """
        found, decide = await self.get(id), self.aftermath
        await (decide.resolve_as_sent if is_sent else decide.resolve_as_retry)(found, who)
        return await self.get(id)

    async def queues(self) -> list[LaneSnapshot]:
        """Return how every lane stands; one that does not answer is a `SilentLane`."""
        return await self._lanes.all(self._channels, self._reader)

    async def pause(self, channel: str, who: str = "api") -> None:
        """Stop taking work from a lane, over restarts; it goes on accepting. Raises NotFound."""
        await self._ask_lane(channel, PauseLane(who))
        self._lanes.forget(channel)

    async def resume(self, channel: str, who: str = "api") -> None:
        """Undo `pause`."""
        await self._ask_lane(channel, ResumeLane(who))
        self._lanes.forget(channel)

    async def providers(self) -> SupervisorSnapshot:
        """Return how every provider and every actor stands."""
        found: SupervisorSnapshot = await self._ask("supervisor", Snapshot())
        return found

    async def set_provider(self, name: str, is_enabled: bool, who: str = "api") -> None:
        """Enable or disable a provider, over restarts. Raises NotFound."""
        self._require_provider("provider", name)
        await self._ask("supervisor", SetProvider(name, is_enabled, who))

    async def set_breaker(self, name: str, action: str, who: str = "api") -> None:
        """Force a breaker "open", "close" or "reset" it, over restarts. Raises NotFound."""
        self._require_provider("breaker", name)
        if action not in BREAKER_ACTIONS:
            raise NotFound("breaker action", action)
        await self._ask("supervisor", SetBreaker(name, action, who))

    def _require_provider(self, kind: str, name: str) -> None:
        if name not in self._provider_names:
            raise NotFound(kind, name)

    async def controls(self) -> Mapping[tuple[str, str], Control]:
        """Return what operators decided last: ("lane" | "provider" | "breaker", name) -> decision.

        Raises StorageUnavailable.
        """
        found = await self._reader.controls()
        return {key: Control(value, who, at) for key, (value, who, at) in found.items()}

    async def journal_snapshot(self) -> JournalSnapshot:
        """Return how the store stands."""
        found: JournalSnapshot = await self._ask("journal", Snapshot())
        return found

    async def commons(self) -> CommonsSnapshot | None:
        """Return how the nodes stand to each other; None where nothing is shared."""
        found: CommonsSnapshot | None = await self._ask_if_there("commons")
        return found

    async def nodes(self) -> MembershipSnapshot | CommonsSnapshot | None:
        """Return which nodes there are, by who knows best; None where this is the only one."""
        found: MembershipSnapshot | None = await self._ask_if_there("membership")
        return found or await self.commons()

    async def _ask_if_there(self, name: str) -> Any:
        try:
            self._refs(name)
        except NotFound:
            return None
        return await self._ask(name, Snapshot())

    def ref(self, name: str) -> Ref:
        """Return the reference to an actor, for plain messaging. Raises NotFound."""
        return self._refs(name)

    # --- asking ----------------------------------------------------------------------------

    async def _ask_lane(self, channel: str, message: Any, doubt: str = _DOUBT) -> Any:
        if channel not in self._channels:
            raise NotFound("channel", channel)
        if self._is_lane_failed(channel):
            raise LaneClosed(
                f"the lane {channel} keeps failing and is tried again slowly", retry_after_s=30.0
            )
        return await self._ask(f"queue:{channel}", message, doubt)

    async def _ask(self, name: str, message: Any, doubt: str = _DOUBT) -> Any:
        try:
            return await self._refs(name).ask(message, timeout_s=self._ask_timeout_s)
        except AskTimeout as error:
            raise Unanswered(
                f"{name} did not answer within {self._ask_timeout_s:g} s: {doubt}"
            ) from error
        except ActorDead as error:
            raise LaneClosed(f"{name} is shutting down", retry_after_s=5.0) from error
        except ClarionError:
            raise
        except Exception as error:
            # The actor boundary: its own bug met the message twice, how far it got is not known.
            log.exception("ask_failed", actor=name, message=type(message).__name__)
            raise Unanswered(f"{name} failed at {type(message).__name__}: {doubt}") from error


def _check_page(filter: Filter, limit: int) -> None:
    faults = filter.faults
    if not 1 <= limit <= MAX_PAGE:
        faults.append(Fault(f"a page holds 1 to {MAX_PAGE} items", "limit"))
    if faults:
        raise InvalidNotification(faults)


def _too_late(status: Status | None) -> str:
    return f"the notification is final: its status is {status or 'unknown'}"


__all__ = ["Filter", "Page", "Receipt", "Service", "SilentLane", "Submission"]
