"""The use cases, on a real store and with actors that behave as a test wants them to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clarion.actors.journal_messages import Ended, JournalSnapshot
from clarion.actors.messages import (
    CancelNotification,
    Enqueue,
    LaneSnapshot,
    PauseLane,
    ResumeLane,
    Snapshot,
)
from clarion.actors.runtime import NO_REPLY, Actor, Runtime, handles
from clarion.actors.supervisor_messages import SetBreaker, SetProvider, SupervisorSnapshot
from clarion.domain.notification import Call, Delivery, Draft, Job, JobState, ProviderCall, Status
from clarion.domain.representation import represent_accepted
from clarion.domain.submission import Rules
from clarion.errors import (
    ClarionError,
    Conflict,
    IdempotencyConflict,
    InvalidNotification,
    LaneClosed,
    LaneFull,
    NotFound,
    StorageUnavailable,
    Unanswered,
)
from clarion.intake import Submission
from clarion.lane_view import FRESH_S, SilentLane
from clarion.policies.identifier import IdSource
from clarion.service import Service
from clarion.storage import command
from clarion.storage.reader import Reader
from clarion.storage.search import Filter
from clarion.storage.sqlite_snapshots import SqliteSnapshots
from clarion.storage.sqlite_store import SqliteStore
from clarion.testing.clock import ManualClock

MAIL = {"channel": "email", "to": "ada@example.com", "subject": "Hi", "text": "Hello"}
SMS = {"channel": "sms", "to": "+14155550123", "text": "Hello"}


@dataclass
class House:
    """What the service stands on: a store, and what the actors were told and shall answer."""

    store: SqliteStore
    clock: ManualClock
    runtime: Runtime
    told: list[Any] = field(default_factory=list)
    refusal: dict[str, ClarionError | Exception] = field(default_factory=dict)
    """channel -> what its lane answers every request with."""
    silent: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        self.ids = IdSource(self.clock.now, lambda _bits: 0)

    def write(self, each: command.Command) -> Any:
        self.store.begin()
        result = self.store.apply(each)
        self.store.commit()
        return result

    def asked(self, kind: type) -> list[Any]:
        return [message for message in self.told if isinstance(message, kind)]

    def job(self, draft: Draft) -> Job:
        now = self.clock.now()
        is_scheduled = draft.send_at is not None
        return Job(
            id=self.ids.next(), channel=draft.channel, content=draft.content,
            priority=draft.priority, flow="", vt=0.0,
            state=JobState.SCHEDULED if is_scheduled else JobState.READY, created_at=now,
            expires_at=now + 1000, delivery=Delivery.AT_LEAST_ONCE, due_at=draft.send_at,
            waiting="schedule" if is_scheduled else None, tenant=draft.tenant,
            reference=draft.reference, metadata=draft.metadata,
        )  # fmt: skip

    def intend(self, id: str, provider: str = "alpha") -> Call:
        """Note on disk that a call is out."""
        loaded: command.LoadedLane = self.write(command.Load("email", 100, 0.0, 0))
        (job,) = [job for jobs in loaded.ready.values() for job in jobs if job.id == id]
        call = Call(job, 1, provider)
        self.write(command.Intend("email", [call], self.clock.now()))
        return call

    def settle(self, id: str, status: Status = Status.SENT, reason: str | None = None) -> Ended:
        """Let a notification be sent (or whatever), and tell the service as the Journal does."""
        call, now = self.intend(id), self.clock.now()
        record = ProviderCall(id, 1, "alpha", "accepted", "http_202", "taken", now, now)
        self.write(command.Settle("email", call.job, 1, status, reason, now, record, "taken"))
        return Ended(id, status)


class Lane(Actor):
    """Answers as a Queue does, with the store right behind it."""

    def __init__(self, channel: str, house: House) -> None:
        super().__init__()
        self._channel, self._house = channel, house

    def _hear(self, message: Any) -> bool:
        """Note the message; returns whether to answer it."""
        self._house.told.append(message)
        refusal = self._house.refusal.get(self._channel)
        if refusal is not None:
            raise refusal
        return self._channel not in self._house.silent

    @handles(Enqueue)
    def enqueue(self, message: Enqueue) -> object:
        if not self._hear(message):
            return NO_REPLY
        jobs = [self._house.job(draft) for draft in message.drafts]
        answers = [represent_accepted(job) for job in jobs]
        return self._house.write(command.Accept(self._channel, message.drafts, jobs, answers))

    @handles(CancelNotification)
    def cancel(self, message: CancelNotification) -> object:
        if not self._hear(message):
            return NO_REPLY
        return self._house.write(command.Cancel(self._channel, message.id, self._house.clock.now()))

    @handles(PauseLane, ResumeLane)
    def control(self, message: PauseLane | ResumeLane) -> object:
        if not self._hear(message):
            return NO_REPLY
        if isinstance(message, PauseLane):
            self._house.paused.add(self._channel)
        else:
            self._house.paused.discard(self._channel)
        return None

    @handles(Snapshot)
    def snapshot(self, message: Snapshot) -> object:
        if not self._hear(message):
            return NO_REPLY
        reason = self._house.held.get(self._channel)
        return LaneSnapshot(
            channel=self._channel, is_paused=self._channel in self._house.paused,
            is_held=reason is not None, held_reason=reason, ready=1, scheduled=0, waiting=0,
            in_flight=0, oldest_at=None, in_memory=1, is_accepting=True, route=(),
        )  # fmt: skip


class Office(Actor):
    """Answers as the Supervisor and the Journal do."""

    def __init__(self, house: House, answer: Any) -> None:
        super().__init__()
        self._house, self._answer = house, answer

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> Any:
        return self._answer

    @handles(SetProvider, SetBreaker)
    def steer(self, message: Any) -> object:
        self._house.told.append(message)
        return NO_REPLY if "supervisor" in self._house.silent else None


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[House]:
    clock = ManualClock(1_800_000_000.0)
    store = SqliteStore(str(path), now=clock.now)
    store.open()
    runtime = Runtime(clock=clock, rng=lambda: 0.5)
    house = House(store, clock, runtime)
    for channel in ("email", "sms"):
        runtime.spawn(f"queue:{channel}", lambda channel=channel: Lane(channel, house))
    runtime.spawn("supervisor", lambda: Office(house, SupervisorSnapshot((), {}, {})))
    runtime.spawn("journal", lambda: Office(house, JournalSnapshot(True, "", 0)))
    reader = Reader(SqliteSnapshots(path))
    house.service = Service(
        refs=runtime.ref, reader=reader, clock=clock,
        rules=Rules(channels=frozenset({"email", "sms"})),
        is_lane_failed=house.failed.__contains__, channels=("email", "sms"),
        providers=("alpha",), new_id=lambda: "redrive-1", ask_timeout_s=0.2,
    )  # fmt: skip
    try:
        yield house
    finally:
        await runtime.close(5.0)
        reader.close()
        store.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path / "clarion.db") as each:
        yield each


# --- one at a time ---------------------------------------------------------------------------


async def test_a_submission_is_durable_and_answered_with_the_notification(house: House) -> None:
    """The answer is what a read shows at that moment."""
    found = await house.service.submit(MAIL, correlation_id="trace")

    assert not found.is_replay
    assert (found.status, found.answer["status"], found.answer["id"]) == (
        "queued", "queued", found.id,
    )  # fmt: skip
    assert await house.service.represent(await house.service.get(found.id)) == found.answer


async def test_a_scheduled_one_says_so(house: House) -> None:
    """Its status and its time are in the answer."""
    found = await house.service.submit({**MAIL, "send_at": "2027-01-16T08:00:00Z"})

    assert found.status == "scheduled"
    assert found.answer["next_attempt_at"] == "2027-01-16T08:00:00.000Z"


async def test_a_wrong_one_reaches_no_actor(house: House) -> None:
    """All its faults, and nothing stored."""
    with pytest.raises(InvalidNotification) as caught:
        await house.service.submit({**MAIL, "to": "nobody", "surprise": 1})

    assert len(caught.value.faults) == 2
    assert house.told == []


async def test_a_key_is_answered_with_the_first_answer(house: House) -> None:
    """Word by word, even after the notification has gone on."""
    first = await house.service.submit(MAIL, idempotency_key="k")
    house.settle(first.id)
    house.clock.advance(60)

    again = await house.service.submit(dict(reversed(MAIL.items())), idempotency_key="k")

    assert again.is_replay
    assert (again.id, again.answer) == (first.id, first.answer)
    assert (await house.service.stats())["accepted"] == 1


async def test_a_key_with_another_body_is_a_conflict(house: House) -> None:
    """Unless it is another tenant's."""
    await house.service.submit(MAIL, idempotency_key="k")

    with pytest.raises(IdempotencyConflict):
        await house.service.submit({**MAIL, "text": "other"}, idempotency_key="k")
    await house.service.submit({**MAIL, "tenant": "acme"}, idempotency_key="k")


async def test_what_a_lane_refuses_with_is_passed_on(house: House) -> None:
    """With the time after which another try makes sense."""
    house.refusal["email"] = LaneFull("full", retry_after_s=30.0)

    with pytest.raises(LaneFull) as caught:
        await house.service.submit(MAIL)

    assert caught.value.retry_after_s == 30.0


async def test_a_failed_lane_is_refused_at_once(house: House) -> None:
    """Nobody waits for an actor that is known to be down."""
    house.failed.add("email")

    with pytest.raises(LaneClosed, match="keeps failing"):
        await house.service.submit(MAIL)

    assert house.told == []


async def test_no_answer_says_that_the_fate_is_unknown(house: House) -> None:
    """It may have been accepted: the only honest advice is the same key again."""
    house.silent.add("email")

    with pytest.raises(Unanswered, match=r"may or may not .* same Idempotency-Key"):
        await house.service.submit(MAIL)


async def test_a_lane_that_is_gone_is_closed(house: House) -> None:
    """Shutting down is a reason to come back later, not an error of the caller."""
    await house.runtime.stop("queue:email", 5.0)

    with pytest.raises(LaneClosed, match="shutting down"):
        await house.service.submit(MAIL)


# --- batches ---------------------------------------------------------------------------------


def outcomes(results: Sequence[Submission | ClarionError]) -> list[str]:
    return [
        each.answer["to"] if isinstance(each, Submission) else type(each).__name__
        for each in results
    ]


async def test_a_batch_keeps_its_order_and_asks_each_lane_once(house: House) -> None:
    """One bad item spoils nothing, and the good ones of a channel are one transaction."""
    items = [MAIL, {**MAIL, "to": 5}, SMS, LaneFull("was refused before"), MAIL, 7]

    results = await house.service.submit_many(items)  # type: ignore[arg-type]

    assert outcomes(results) == [
        "ada@example.com", "InvalidNotification", "+14155550123", "LaneFull", "ada@example.com",
        "InvalidNotification",
    ]  # fmt: skip
    assert sorted(len(message.drafts) for message in house.asked(Enqueue)) == [1, 2]
    assert (await house.service.stats())["accepted"] == 3


async def test_an_empty_batch_asks_nobody(house: House) -> None:
    """Nothing in, nothing out."""
    assert await house.service.submit_many([]) == []
    assert house.told == []


async def test_a_lane_that_refuses_spoils_its_own_items_only(house: House) -> None:
    """Each of them gets the lane's answer."""
    house.refusal["email"] = StorageUnavailable("no")

    results = await house.service.submit_many([MAIL, SMS, MAIL])

    assert outcomes(results) == ["StorageUnavailable", "+14155550123", "StorageUnavailable"]


async def test_a_lane_with_a_bug_spoils_its_own_items_only(house: House) -> None:
    """A crash of one lane is not the other's business; nobody knows how far it got."""
    house.refusal["email"] = RuntimeError("a bug")

    results = asyncio.ensure_future(house.service.submit_many([MAIL, SMS]))
    await asyncio.wait([results], timeout=0.05)
    house.runtime.restart("queue:email")

    assert outcomes(await results) == ["Unanswered", "+14155550123"]


async def test_items_carry_their_keys(house: House) -> None:
    """A repeated batch is answered with what was accepted the first time."""
    items = [{**MAIL, "idempotency_key": f"k{n}"} for n in range(3)]

    first = await house.service.submit_many(items)
    again = await house.service.submit_many([*items, {**MAIL, "idempotency_key": 5}])

    assert [each.id for each in again[:3]] == [each.id for each in first]  # type: ignore[union-attr]
    assert all(each.is_replay for each in again[:3])  # type: ignore[union-attr]
    assert isinstance(again[3], InvalidNotification)
    assert (await house.service.stats())["accepted"] == 3


async def test_a_key_that_comes_twice_in_a_batch_counts_once(house: House) -> None:
    """The same body again is a replay; another body is a conflict, also over channels."""
    results = await house.service.submit_many(
        [
            {**MAIL, "idempotency_key": "k"},
            {**MAIL, "idempotency_key": "k"},
            {**MAIL, "idempotency_key": "k", "text": "other"},
            {**SMS, "idempotency_key": "k"},
            {**SMS, "idempotency_key": "k", "tenant": "acme"},
        ]
    )

    first, second = results[:2]
    assert isinstance(first, Submission)
    assert isinstance(second, Submission)
    assert (first.id, first.is_replay) == (second.id, False)
    assert second.is_replay
    assert outcomes(results[2:]) == [
        "IdempotencyConflict", "IdempotencyConflict", "+14155550123",
    ]  # fmt: skip


async def test_a_key_known_from_before_is_an_items_conflict(house: House) -> None:
    """The rest of its channel is accepted all the same."""
    await house.service.submit(MAIL, idempotency_key="k")

    results = await house.service.submit_many(
        [{**MAIL, "text": "other", "idempotency_key": "k"}, MAIL]
    )

    assert outcomes(results) == ["IdempotencyConflict", "ada@example.com"]


async def test_a_large_batch_lets_others_have_a_turn(house: House) -> None:
    """Validating thousands of items must not hold up the loop in one go."""
    turns = itertools.count()

    async def other() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await house.service.submit_many([{**MAIL, "to": "nobody"}] * 1000)
    task.cancel()

    assert next(turns) >= 5


# --- waiting for the end ---------------------------------------------------------------------


async def test_a_receipt_waits_for_the_end(house: House) -> None:
    """The Journal's news after the commit is what wakes it."""
    receipt = await house.service.send(**MAIL)
    waiting = asyncio.create_task(receipt.settled(timeout=5))
    await asyncio.sleep(0)

    house.service.notify_ended([house.settle(receipt.id)])

    final = await waiting
    assert (final.status, final.provider) == (Status.SENT, "alpha")
    assert receipt.notification["status"] == "queued"


async def test_an_end_before_the_wait_is_not_missed(house: House) -> None:
    """Nobody tells it twice: the store is read after registering."""
    receipt = await house.service.send(**MAIL)
    house.service.notify_ended([house.settle(receipt.id)])

    assert (await receipt.settled(timeout=1)).status is Status.SENT


async def test_a_wait_that_takes_too_long_leaves_the_notification_alone(house: House) -> None:
    """TimeoutError, and no trace of the waiter."""
    receipt = await house.service.send(**MAIL)

    with pytest.raises(TimeoutError):
        await receipt.settled(timeout=0.01)

    assert (await house.service.get(receipt.id)).status is Status.QUEUED
    house.service.notify_ended([house.settle(receipt.id)])
    assert (await receipt.settled(timeout=1)).status is Status.SENT


async def test_a_replayed_send_waits_for_the_first_one(house: House) -> None:
    """The receipt of a replay belongs to the notification that exists."""
    first = await house.service.send(**MAIL, idempotency_key="k")
    again = await house.service.send(**MAIL, idempotency_key="k")
    house.service.notify_ended([house.settle(first.id)])

    assert again.is_replay
    assert (await again.settled(timeout=1)).id == first.id


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["nope", "", "\ud800", "ü" * 26, "x" * 10_000, "\x00"])
async def test_what_is_no_notification_is_not_found(house: House, id: str) -> None:
    """Whatever stands in a path."""
    with pytest.raises(NotFound):
        await house.service.get(id)
    with pytest.raises(NotFound):
        await house.service.cancel(id)


async def test_a_search_is_by_page(house: House) -> None:
    """Newest first, and the cursor leads on."""
    ids = [(await house.service.submit({**MAIL, "reference": "r"})).id for _ in range(3)]

    page, cursor = await house.service.find(Filter(reference="r"), limit=2)
    rest, end = await house.service.find(Filter(reference="r"), cursor, limit=2)

    assert [each.id for each in [*page, *rest]] == ids[::-1]
    assert end is None


async def test_a_search_finds_an_address_as_it_was_written(house: House) -> None:
    """Stored is the wire form of the domain; asked for is what the sender knows."""
    await house.service.submit({**MAIL, "to": "ada@bücher.example"})

    for to in ("ada@bücher.example", "ada@xn--bcher-kva.example"):
        page, _ = await house.service.find(Filter(to=to))
        assert len(page) == 1


@pytest.mark.parametrize(
    ("filter", "limit"),
    [(Filter(), 0), (Filter(), -1), (Filter(), 501), (Filter(to="\ud800"), 50),
     (Filter(reference="\ud800"), 50), (Filter(channel="\ud800"), 50),
     (Filter(to="a\0"), 50)],
)  # fmt: skip
async def test_a_page_that_cannot_be_is_refused(house: House, filter: Filter, limit: int) -> None:
    """Not an error of the store, and not an endless page."""
    with pytest.raises(InvalidNotification):
        await house.service.find(filter, limit=limit)
    with pytest.raises(InvalidNotification):
        await house.service.dead_letters(filter, limit=limit)


async def test_dead_letters_are_found_by_reason(house: House) -> None:
    """What failed, and only that."""
    dead = await house.service.submit(MAIL)
    await house.service.submit(MAIL)
    house.settle(dead.id, Status.FAILED, "permanent")

    page, _ = await house.service.dead_letters(Filter(reason="permanent"))
    other, _ = await house.service.dead_letters(Filter(reason="recipient"))

    assert ([each.id for each in page], other) == ([dead.id], [])


async def test_a_queued_one_tells_of_its_lane(house: House) -> None:
    """`held`, the reason and the explanation come from the lane."""
    house.held["email"] = "no provider of email can take it now"
    found = await house.service.submit(MAIL)

    shown = await house.service.represent(await house.service.get(found.id))

    assert (shown["held"], shown["held_reason"]) == (True, house.held["email"])
    assert house.held["email"] in shown["explanation"]


async def test_what_has_left_the_lane_is_not_held(house: House) -> None:
    """A sent one does not even ask."""
    house.held["email"] = "no provider"
    found = await house.service.submit(MAIL)
    house.settle(found.id)

    shown = await house.service.represent(await house.service.get(found.id), with_timeline=True)

    assert (shown["status"], shown["held"], shown["held_reason"]) == ("sent", False, None)
    assert [each["event"] for each in shown["timeline"]] == ["accepted", "call", "sent"]
    assert house.asked(Snapshot) == []


async def test_a_page_asks_its_lane_once(house: House) -> None:
    """Two hundred items must not be two hundred questions; a moment later it is asked again."""
    found = await house.service.get((await house.service.submit(MAIL)).id)

    await asyncio.gather(*(house.service.represent(found) for _ in range(50)))
    await house.service.represent(found)
    assert len(house.asked(Snapshot)) == 1

    house.held["email"] = "no provider"
    house.clock.advance(FRESH_S)
    assert (await house.service.represent(found))["held"]


async def test_a_silent_lane_does_not_hold_up_reading(house: House) -> None:
    """It is shown as not held, and its silence is remembered for a moment, too."""
    found = await house.service.get((await house.service.submit(MAIL)).id)
    house.silent.add("email")

    assert not (await house.service.represent(found))["held"]
    await house.service.represent(found)

    assert len(house.asked(Snapshot)) == 1


async def test_whoever_gives_up_first_takes_nothing_from_the_others(house: House) -> None:
    """They share one question to the lane."""
    house.held["email"] = "no provider"
    found = await house.service.get((await house.service.submit(MAIL)).id)
    hasty = asyncio.create_task(house.service.represent(found))
    patient = asyncio.create_task(house.service.represent(found))
    await asyncio.sleep(0)

    hasty.cancel()

    assert (await patient)["held"]


async def test_the_counts_are_those_of_the_store(house: House) -> None:
    """`accepted` is the sum of `by_status`."""
    await house.service.submit_many([MAIL, SMS, MAIL])

    stats = await house.service.stats()

    assert stats["accepted"] == sum(stats["by_status"].values()) == 3
    assert set(stats["by_channel"]) == {"email", "sms"}


# --- cancelling ------------------------------------------------------------------------------


async def test_a_waiting_one_is_cancelled_at_once(house: House) -> None:
    """And shown as it is afterwards."""
    found = await house.service.submit(MAIL)

    assert (await house.service.cancel(found.id)).status is Status.CANCELLED


async def test_one_that_is_out_is_asked_to_be_the_last_try(house: House) -> None:
    """Nobody can take back what may be with a provider."""
    found = await house.service.submit(MAIL)
    house.intend(found.id)

    cancelled = await house.service.cancel(found.id)

    assert (cancelled.status, cancelled.cancel_requested) == (Status.SENDING, True)


async def test_a_final_one_is_a_conflict(house: House) -> None:
    """Final stays final, and no actor is asked."""
    found = await house.service.submit(MAIL)
    house.settle(found.id)

    with pytest.raises(Conflict, match="sent"):
        await house.service.cancel(found.id)
    assert house.asked(CancelNotification) == []


async def test_one_that_ends_meanwhile_is_a_conflict(house: House) -> None:
    """The row decides, in the order of the writes, not what was read before."""
    found = await house.service.submit(MAIL)
    stale = await house.service.get(found.id)
    house.settle(found.id)
    house.service._reader.get = _returning(stale)  # type: ignore[method-assign]

    with pytest.raises(Conflict, match="sent"):
        await house.service.cancel(found.id)


async def test_one_whose_channel_is_gone_from_the_settings_is_a_conflict(house: House) -> None:
    """There is no lane to ask, and waiting does not bring one."""
    found = await house.service.submit(MAIL)
    house.service._channels = ("sms",)

    with pytest.raises(Conflict, match="not configured any more"):
        await house.service.cancel(found.id)


async def test_cancelling_in_a_failed_lane_is_refused_at_once(house: House) -> None:
    """As sending is."""
    found = await house.service.submit(MAIL)
    house.failed.add("email")

    with pytest.raises(LaneClosed):
        await house.service.cancel(found.id)


def _returning(value: Any) -> Any:
    async def read(_id: str) -> Any:
        return value

    return read


# --- steering --------------------------------------------------------------------------------


async def test_lanes_are_paused_and_resumed_at_once(house: House) -> None:
    """What was remembered of the lane before is forgotten."""
    found = await house.service.get((await house.service.submit(MAIL)).id)
    await house.service.queues()

    await house.service.pause("email", "ada")
    assert "paused" in (await house.service.represent(found))["explanation"]
    await house.service.resume("email", "ada")
    assert "paused" not in (await house.service.represent(found))["explanation"]

    assert house.asked(PauseLane) == [PauseLane("ada")]
    assert house.asked(ResumeLane) == [ResumeLane("ada")]


async def test_every_lane_is_shown_also_the_silent_and_the_failed(house: House) -> None:
    """With the numbers of the store, since they cannot tell."""
    await house.service.submit_many([MAIL, MAIL, {**SMS, "send_at": "2027-01-16T08:00:00Z"}])
    house.silent.add("email")
    house.failed.add("sms")

    email, sms = await house.service.queues()

    assert isinstance(email, SilentLane)
    assert isinstance(sms, SilentLane)
    assert (email.channel, email.ready, email.is_failed, email.is_accepting) == (
        "email", 2, False, False,
    )  # fmt: skip
    assert (sms.channel, sms.scheduled, sms.is_failed) == ("sms", 1, True)
    assert "does not answer" in email.problem
    assert "failing" in sms.problem


async def test_a_silent_lane_is_shown_even_when_the_store_is_silent_too(house: House) -> None:
    """Without numbers, but with what is wrong."""
    house.silent.add("email")

    async def fail() -> Any:
        raise StorageUnavailable("no")

    house.service._reader.stats = fail  # type: ignore[method-assign]

    email, sms = await house.service.queues()

    assert isinstance(email, SilentLane)
    assert (email.ready, type(sms)) == (0, LaneSnapshot)


async def test_lanes_that_answer_describe_themselves(house: House) -> None:
    """In the order of the settings."""
    lanes = await house.service.queues()

    assert [lane.channel for lane in lanes] == ["email", "sms"]
    assert all(type(lane) is LaneSnapshot for lane in lanes)


async def test_providers_and_breakers_are_steered_by_name(house: House) -> None:
    """Who did it goes along."""
    await house.service.set_provider("alpha", False, "ada")
    await house.service.set_breaker("alpha", "open", "ada")

    assert house.told == [SetProvider("alpha", False, "ada"), SetBreaker("alpha", "open", "ada")]
    assert await house.service.providers() == SupervisorSnapshot((), {}, {})
    assert await house.service.journal_snapshot() == JournalSnapshot(True, "", 0)


async def test_what_is_not_configured_is_not_found(house: House) -> None:
    """Names come from outside."""
    service = house.service
    for attempt in (
        service.pause("fax"), service.resume("fax"), service.set_provider("nope", True),
        service.set_breaker("nope", "open"), service.set_breaker("alpha", "explode"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await attempt
    with pytest.raises(NotFound):
        service.ref("queue:fax")
    assert house.told == []


async def test_steering_without_an_answer_says_that_it_may_have_worked(house: House) -> None:
    """Repeating it does no harm."""
    house.silent.add("supervisor")

    with pytest.raises(Unanswered, match="may or may not have taken effect"):
        await house.service.set_provider("alpha", False)


async def test_actors_can_be_asked_directly(house: House) -> None:
    """Plain messaging, for those who know what they do."""
    found = await house.service.ref("queue:email").ask(Snapshot(), timeout_s=1.0)

    assert found.channel == "email"
