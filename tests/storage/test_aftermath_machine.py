"""What comes after the end, in any order, against a small model.

Receipts, redrives, discards, resolves and retention, with deaths of the process and a wall clock
that is set forward and back in between. The lane has a machine of its own: `test_store_machine`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clarion.domain.notification import MOVES, Delivery, Priority, Status
from clarion.domain.receipt import Receipt
from clarion.domain.redrive import DeadFilter, RedrivePart, RedriveState
from clarion.policies.identifier import floor_id
from clarion.storage import dead_letter
from clarion.storage.command import Cancel, Discard, Purge, Receive, Sweep
from clarion.storage.recount import recount
from clarion.storage.redrive_command import (
    BeginRedrive,
    CancelRedrive,
    DiscardDead,
    LoadRedrives,
    RedriveSome,
    ResolveAsRetry,
    ResolveAsSent,
    Revival,
)

SCANNED_AT_ONCE = 3
QUEUED, SENDING, SENT, FAILED, UNKNOWN = (
    Status.QUEUED, Status.SENDING, Status.SENT, Status.FAILED, Status.UNKNOWN
)  # fmt: skip
DELIVERED, UNDELIVERED = Status.DELIVERED, Status.UNDELIVERED
LIFE_S = 500.0
"""Of what comes back."""


@dataclass
class Story:
    """What the store has to remember of one notification."""

    job: object
    status: Status = QUEUED
    call: int = 0
    calls: dict[int, str] = field(default_factory=dict)
    """Number -> provider, of those that ended."""
    out: str | None = None
    """The provider of the one that is out."""
    provider: str | None = None
    reason: str | None = None
    ended_at: float | None = None
    is_doubtful: bool = False
    is_doubled: bool = False
    is_cancel_requested: bool = False
    is_discarded: bool = False
    is_moved_by_receipt: bool = False
    receipts: set[tuple[str, str]] = field(default_factory=set)
    interventions: list[str] = field(default_factory=list)
    redriven_by: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def is_live(self) -> bool:
        return self.status in (QUEUED, SENDING)

    @property
    def last_provider(self) -> str | None:
        return self.calls[max(self.calls)] if self.calls else None

    @property
    def known_calls(self) -> dict[int, str]:
        """Those that some provider may have."""
        return self.calls | ({} if self.out is None else {self.call: self.out})

    def end(self, status, reason, provider, now):
        self.status, self.reason, self.provider, self.ended_at = status, reason, provider, now
        self.out, self.is_doubtful = None, False

    def revive(self, job, *, is_doubtful):
        self.job, self.status, self.provider, self.reason = job, QUEUED, None, None
        self.is_doubtful = is_doubtful
        self.is_doubled = self.is_doubled or is_doubtful
        self.is_cancel_requested = False


@dataclass
class Part:
    """What the store has to remember of a redrive of one lane."""

    id: str
    channel: str
    wanted: DeadFilter
    began_at: float
    place: tuple[float, str]
    state: RedriveState = RedriveState.RUNNING
    moved: int = 0
    last_vt: float = 0.0
    ended_at: float | None = None


def is_meant(story, wanted, channel=None):
    """Whether a dead letter has what the filter asks for, its time apart."""
    traits = [
        (wanted.reason, story.reason),
        (wanted.provider, story.provider),
        (wanted.channel, story.job.channel),
        (channel, story.job.channel),
    ]
    return not story.is_discarded and all(
        asked is None or asked == found for asked, found in traits
    )


LOST = st.sampled_from([False] * 7 + [True])
PICK = st.integers(0, 63)
PROVIDER = st.sampled_from(["alpha", "beta"])
CHANNEL = st.sampled_from(["email", "email", "sms"])
END = st.sampled_from(
    [None, None, (QUEUED, "receipt"), (SENT, None), (UNKNOWN, "unknown_outcome"),
     (FAILED, "recipient"), (FAILED, "exhausted"), (FAILED, "exhausted")]
)  # fmt: skip
"""Of a call; None while it is out."""
AGO_S = st.sampled_from([None, None, 5.0, 70.0])
FILTER = st.fixed_dictionaries(
    {
        "reason": st.sampled_from([None, None, "exhausted", "recipient", "poison"]),
        "provider": st.sampled_from([None, None, "alpha", "beta"]),
        "channel": st.sampled_from([None, None, "email"]),
        "since": AGO_S,
        "until": AGO_S,
        "ids": st.none() | st.lists(PICK, min_size=1, max_size=4),
    }
)


NEW = st.tuples(CHANNEL, st.sampled_from(Delivery), PROVIDER, END)


def is_small(machine):
    return len(machine.model) < 10


def has(*statuses):
    """Whether there is one that the rule is about: without it, few steps would do anything."""
    return precondition(lambda machine: any(s.status in statuses for s in machine.model.values()))


class AftermathMachine(RuleBasedStateMachine):
    """Each rule runs one command; one in a few dies with its process before the commit."""

    def __init__(self, open_desk_at, empty_url):
        super().__init__()
        self._open = open_desk_at
        self._url = empty_url()
        self.model: dict[str, Story] = {}
        self.gone: list[Story] = []
        self.parts: dict[tuple[str, str], Part] = {}
        self.seen: dict[str, Status] = {}
        self.redrives_begun = 0

    @initialize(drawn=st.lists(NEW, min_size=4, max_size=6))
    def open(self, drawn):
        self.desk = self._opened()
        self._accept(drawn)

    def _opened(self):
        desk = self._open(self._url)
        # Here the process dies, not the machine: nothing has to reach the disk.
        relaxed = "PRAGMA synchronous = OFF" if desk.is_sqlite else "SET synchronous_commit = off"
        desk.connection.execute(relaxed)
        return desk

    def teardown(self):
        self.desk.store.close()

    def run(self, command, is_lost=False):
        """Carry it out, a moment later than the one before; a lost one leaves no trace."""
        if not is_lost:
            return True, self.desk.run(command)
        self.desk.store.begin()
        self.desk.store.apply(command)
        self.desk.store._transaction.flush()
        self.reopen()
        return False, None

    def reopen(self):
        """Let the process die: its connection ends without a commit."""
        desk = self.desk
        desk.store.close()
        self.desk = self._opened()
        self.desk._ids, self.desk.now = desk._ids, desk.now

    def tick(self):
        """Let a moment pass, and return the instant."""
        self.desk.now += 0.125
        return self.desk.now

    def choose(self, pick, *statuses):
        """Choose one by number, three times in four of the statuses that matter."""
        fitting = [story for story in self.model.values() if story.status in statuses]
        stories = fitting if fitting and pick % 4 < 3 else list(self.model.values())
        return stories[pick % len(stories)]

    # --- up to the end ---------------------------------------------------------------------

    @precondition(is_small)
    @rule(drawn=st.lists(NEW, min_size=1, max_size=4))
    def accept(self, drawn):
        self._accept(drawn)

    def _accept(self, drawn):
        """Take some new ones, most of which are sent at once, to whatever end."""
        for channel, delivery, provider, end in drawn:
            self.tick()
            job = self.desk.job(channel=channel, delivery=delivery)
            self.desk.accept(job)
            story = self.model[job.id] = Story(job)
            if end is not None:
                self._intend(story, provider)
                self._end(story, 0, end)

    @has(QUEUED, SENDING)
    @rule(pick=PICK, provider=PROVIDER, age=st.sampled_from([0, 0, 0, 1]), end=END, is_lost=LOST)
    def call(self, pick, provider, age, end, is_lost):
        """An answer of an earlier life, or of one that a receipt has ended, moves nothing."""
        story = self.choose(pick, QUEUED, SENDING)
        if story.status is QUEUED:
            self._intend(story, provider)
        if end is not None and story.call > age:
            self._end(story, age, end, is_lost)

    def _intend(self, story, provider):
        self.tick()
        assert self.desk.intend(story.job, story.call + 1, provider)
        story.status, story.call, story.out = SENDING, story.call + 1, provider
        story.is_doubled = story.is_doubled or story.is_doubtful

    def _end(self, story, age, end, is_lost=False):
        now = self.tick()
        number, (status, reason) = story.call - age, end
        provider = story.known_calls.get(number, "alpha")
        record = self.desk.record(story.job, number, provider=provider)
        if status is QUEUED:
            command = self.desk.deferral(
                story.job, number, now + 30.0, waiting=reason, is_doubtful=True, record=record
            )
        else:
            command = self.desk.settlement(story.job, number, status, reason, record=record)
        is_run, has_matched = self.run(command, is_lost)
        if not is_run:
            return
        is_waited_for = story.status is SENDING or (story.is_live and status is not QUEUED)
        assert bool(has_matched) is (is_waited_for and age == 0)
        if has_matched or story.is_moved_by_receipt:
            story.calls.setdefault(number, provider)
        if has_matched and status is QUEUED:
            story.status, story.out, story.is_doubtful = QUEUED, None, True
        elif has_matched:
            story.end(status, reason, provider, now)

    @has(QUEUED, SENDING)
    @rule(pick=PICK, is_poison=st.booleans())
    def cut_short(self, pick, is_poison):
        """A person cancels it, or it keeps killing its actor."""
        now = self.tick()
        story = self.choose(pick, SENDING) if is_poison else self.choose(pick, QUEUED, SENDING)
        was_live, is_out = story.is_live, story.status is SENDING
        if not is_poison:
            result = self.desk.run(Cancel(story.job.channel, story.id, now))
            assert result.verdict == (
                "requested" if is_out else "cancelled" if was_live else "final"
            )
            story.is_cancel_requested = story.is_cancel_requested or is_out
            if was_live and not is_out:
                status = UNKNOWN if story.is_doubtful else Status.CANCELLED
                story.end(status, "cancelled", story.last_provider, now)
            return
        assert self.desk.run(Discard(story.job.channel, story.id, now)) is was_live
        if was_live:
            story.calls |= story.known_calls
            status = UNKNOWN if is_out or story.is_doubtful else FAILED
            story.end(status, "poison", story.last_provider, now)

    @rule(by_s=st.sampled_from([None, -90.0, -10.0, 10.0, 90.0]))
    def interrupt(self, by_s):
        """The process dies, or the wall clock is set forward or back."""
        if by_s is None:
            self._die_and_sweep()
        else:
            self.desk.now += by_s

    def _die_and_sweep(self):
        self.reopen()
        now = self.tick()
        out = [story for story in self.model.values() if story.status is SENDING]
        assert self.desk.run(Sweep("", now)) == len(out)
        for story in out:
            story.calls |= story.known_calls
            if story.job.delivery is Delivery.AT_MOST_ONCE:
                story.end(UNKNOWN, "unknown_outcome", story.last_provider, now)
            else:
                story.status, story.out, story.is_doubtful = QUEUED, None, True
        running = {(part.id, part.channel): part.moved for part in self._running()}
        found = self.desk.run(LoadRedrives(""))
        assert {(part.id, part.channel): part.moved for part in found} == running

    # --- dead letters ----------------------------------------------------------------------

    def _filter(self, fields, now):
        ids = fields["ids"]
        if ids is not None and self.model:
            named = {self.choose(pick, FAILED).id for pick in ids}
            return DeadFilter(ids=(*sorted(named), "nobody"))
        ago_s = {name: fields[name] for name in ("since", "until")}
        instants = {name: None if ago is None else now - ago for name, ago in ago_s.items()}
        return DeadFilter(fields["reason"], fields["provider"], fields["channel"], **instants)

    def _dead(self, wanted, place, before):
        """Those that are looked at behind a place, the oldest death first, or as they are named."""
        dead = [(s.ended_at, s.id, s) for s in self.model.values() if s.status is FAILED]
        if wanted.ids is not None:
            named = [each for each in dead if each[1] in wanted.ids and each[1] > place[1]]
            return sorted(named, key=lambda each: each[1])
        until = before if wanted.until is None else min(wanted.until, before)
        return sorted(each for each in dead if each[:2] > place and each[0] < until)

    def _running(self):
        return [part for part in self.parts.values() if part.state is RedriveState.RUNNING]

    @has(FAILED)
    @precondition(lambda self: len(self._running()) < 4)
    @rule(fields=FILTER, is_lost=LOST)
    def begin_redrive(self, fields, is_lost):
        now = self.tick()
        self.redrives_begun += 1
        id, wanted = f"redrive-{self.redrives_begun}", self._filter(fields, now)
        place = (-1.0 if wanted.since is None else wanted.since, "")
        channels = ["email", "sms"] if wanted.channel is None else [wanted.channel]
        parts = [
            RedrivePart(
                id, channel, wanted, 10.0, RedriveState.RUNNING,
                sum(is_meant(s, wanted, channel) for *_, s in self._dead(wanted, place, now)),
                0, 0, "ada", now, now,
            )
            for channel in channels
        ]  # fmt: skip
        is_run, _ = self.run(BeginRedrive("", parts), is_lost)
        if is_run:
            self.desk.run(BeginRedrive("", parts))
            self.parts |= {
                (id, channel): Part(id, channel, wanted, now, place) for channel in channels
            }

    @precondition(lambda self: self.parts)
    @rule(
        pick=PICK,
        steps=st.integers(1, 3),
        limit=st.integers(1, 3),
        vt=st.sampled_from([1.0, 40.0]),
        is_lost=LOST,
    )
    def redrive_some(self, pick, steps, limit, vt, is_lost):
        parts = self._running() if pick % 4 and self._running() else list(self.parts.values())
        part = parts[pick % len(parts)]
        for _ in range(steps):
            self._redrive_some(part, limit, vt, is_lost)

    def _redrive_some(self, part, limit, vt, is_lost):
        now = self.tick()
        revival = Revival(f"redrive:{part.id}", vt, now + LIFE_S, now)
        command = RedriveSome(part.channel, part.id, limit, revival)
        is_run, found = self.run(command, is_lost)
        if not is_run:
            return
        moved = self._move(part, limit, now)
        assert found.state is part.state
        assert [job.id for job in found.jobs] == [story.id for story in moved]
        for story, job in zip(moved, found.jobs, strict=True):
            assert part.id not in story.redriven_by, "moved twice by one redrive"
            assert job.vt >= max(vt, part.last_vt + 1.0)
            assert (job.flow, job.priority) == (f"redrive:{part.id}", Priority.LOW)
            part.last_vt = job.vt
            story.revive(job, is_doubtful=bool(story.receipts))
            story.redriven_by.append(part.id)
            story.interventions.append("redriven")

    def _move(self, part, limit, now):
        moved: list[Story] = []
        if part.state is not RedriveState.RUNNING:
            return moved
        found = self._dead(part.wanted, part.place, part.began_at)
        at_once = len(found) if part.wanted.ids is not None else SCANNED_AT_ONCE
        for ended_at, id, story in found[:at_once]:
            part.place = (ended_at, id)
            if is_meant(story, part.wanted, part.channel):
                moved.append(story)
            if len(moved) == limit:
                break
        else:
            if part.wanted.ids is not None or len(found) < at_once:
                part.state, part.ended_at = RedriveState.DONE, now
        part.moved += len(moved)
        return moved

    def _cancel_redrive(self, pick):
        now = self.tick()
        id = list(self.parts.values())[pick % len(self.parts)].id
        running = [part for part in self._running() if part.id == id]
        assert self.desk.run(CancelRedrive("", id, now)) == len(running)
        for part in running:
            part.state, part.ended_at = RedriveState.CANCELLED, now
        for part in running:
            self._redrive_some(part, 3, 1.0, is_lost=False)

    @has(FAILED)
    @rule(fields=FILTER, pick=PICK)
    def put_aside(self, fields, pick):
        """Some dead letters, or a whole redrive."""
        if self.parts and pick % 2:
            self._cancel_redrive(pick)
        else:
            self._discard_dead(fields)

    def _discard_dead(self, fields):
        now = self.tick()
        wanted, after, n = self._filter(fields, now), (-1.0, ""), 0
        first = (-1.0 if wanted.since is None else wanted.since, "")
        meant = [s for *_, s in self._dead(wanted, first, now) if is_meant(s, wanted)]
        while after is not None:
            step = self.desk.run(DiscardDead("", wanted, after, "ada", now))
            n, after = n + step.n, step.after
        assert n == len(meant)
        for story in meant:
            story.is_discarded = True
            story.interventions.append("discarded")

    # --- unknown ones, receipts, retention -------------------------------------------------

    @has(UNKNOWN)
    @rule(pick=PICK, is_retry=st.booleans(), is_lost=LOST)
    def resolve(self, pick, is_retry, is_lost):
        now = self.tick()
        story = self.choose(pick, UNKNOWN)
        revival = Revival("ada", 7.0, now + LIFE_S, now)
        sent = ResolveAsSent(story.job.channel, story.id, "ada", now)
        retry = ResolveAsRetry(story.job.channel, story.id, "ada", revival)
        is_run, result = self.run(retry if is_retry else sent, is_lost)
        if not is_run:
            return
        assert result.is_resolved is (story.status is UNKNOWN)
        if not result.is_resolved:
            # Of a live one the record only says that it is no dead letter.
            assert result.status is (QUEUED if story.is_live else story.status)
            return
        story.interventions.append("resolved")
        if is_retry:
            assert result.job.priority is Priority.NORMAL
            story.revive(result.job, is_doubtful=True)
        else:
            story.end(SENT, None, story.provider, now)

    @has(QUEUED, SENDING, SENT, UNKNOWN)
    @rule(
        pick=PICK,
        call=PICK,
        news=st.sampled_from([SENT, DELIVERED, UNDELIVERED, None]),
        key=st.sampled_from(["one", "two"]),
        is_strange=st.sampled_from([False, False, False, True]),
        times=st.sampled_from([1, 2]),
        is_lost=LOST,
    )
    def receive(self, pick, call, news, key, is_strange, times, is_lost):
        """From the provider of any call that was made, or from one that had none of them."""
        now = self.tick()
        story = self.choose(pick, QUEUED, SENDING, SENT, UNKNOWN)
        numbers = sorted(story.known_calls)
        number = numbers[call % len(numbers)] if numbers else 1
        provider = "gamma" if is_strange else story.known_calls.get(number, "alpha")
        key = f"{key} {news or 'opened'}"
        receipt = Receipt(story.id, provider, news or "opened", key, now, news, number)
        is_run, results = self.run(Receive(story.job.channel, [receipt] * times, now), is_lost)
        if not is_run:
            return
        expected = [self._receive(story, receipt, now) for _ in range(times)]
        assert [(result.verdict, result.new) for result in results] == expected

    def _receive(self, story, receipt, now):
        if receipt.provider not in (story.provider, *story.known_calls.values()):
            return "unknown", None
        if (receipt.provider, receipt.key) in story.receipts:
            return "repeated", None
        story.receipts.add((receipt.provider, receipt.key))
        new = receipt.status
        if new not in MOVES[story.status] or (new is UNDELIVERED and not is_last(story, receipt)):
            return "kept", None
        story.end(new, None, receipt.provider, now)
        story.is_moved_by_receipt = True
        return "moved", new

    @precondition(lambda self: not is_small(self) or self.parts)
    @rule(ago_s=st.sampled_from([0.0, 5.0, 70.0, 70.0]), limit=st.integers(1, 4))
    def purge(self, ago_s, limit):
        """A whole pass; what it removed is told once, and who speaks of it comes too late."""
        now, after, told = self.tick(), "", Counter()
        before = now - ago_s
        redriven = {part.channel for part in self._running()}
        old = [
            story
            for story in self.model.values()
            if not story.is_live
            and story.id < floor_id(before)
            and story.ended_at < before
            and not (story.status is FAILED and story.job.channel in redriven)
        ]
        while after is not None:
            step = self.desk.run(Purge("", after, before, limit, now))
            told.update(step.gone)
            after = step.after
        assert told == Counter((story.job.channel, story.status) for story in old)
        for story in old:
            self.gone.append(self.model.pop(story.id))
            self._hear_of_one_that_is_gone(story)
        for key, part in list(self.parts.items()):
            if part.ended_at is not None and part.ended_at < before:
                del self.parts[key]

    def _hear_of_one_that_is_gone(self, story):
        now = self.tick()
        receipt = Receipt(story.id, "alpha", "delivered", "late", now, DELIVERED)
        [received] = self.desk.run(Receive(story.job.channel, [receipt], now))
        resolved = self.desk.run(ResolveAsSent(story.job.channel, story.id, "ada", now))
        cancelled = self.desk.run(Cancel(story.job.channel, story.id, now))
        assert (received.verdict, resolved.status, cancelled.verdict) == (
            "unknown",
            None,
            "missing",
        )

    # --- at every step ---------------------------------------------------------------------

    @invariant()
    def the_counts_are_all_that_ever_were(self):
        assert recount(self.desk.connection) == []
        for channel in ("email", "sms"):
            stories = [*self.model.values(), *self.gone]
            expected = Counter(s.status.value for s in stories if s.job.channel == channel)
            accepted = Counter(accepted=expected.total())
            assert self.desk.counts(channel) == +(expected + accepted)

    @invariant()
    def final_stays_final(self):
        """Whatever the model says of it: no move but those of the contract."""
        for id, story in self.model.items():
            old = self.seen.get(id, story.status)
            assert story.status is old or story.status in MOVES[old]
            self.seen[id] = story.status

    @invariant()
    def the_jobs_are_the_model(self):
        found = {row["id"]: row for row in self.desk.rows("SELECT * FROM jobs")}
        live = {id: story for id, story in self.model.items() if story.is_live}
        assert found.keys() == live.keys()
        for id, story in live.items():
            row, job = found[id], story.job
            assert (row["call"], row["sending"]) == (story.call, story.out)
            assert (row["is_doubtful"], row["possibly_duplicated"]) == (
                story.is_doubtful,
                story.is_doubled,
            )
            assert row["cancel_requested"] == story.is_cancel_requested
            assert [row[name] for name in ("flow", "vt", "priority", "expires_at")] == [
                job.flow, job.vt, job.priority, job.expires_at
            ]  # fmt: skip

    @invariant()
    def the_records_are_the_model(self):
        found = {row["id"]: row for row in self.desk.rows("SELECT * FROM notifications")}
        assert found.keys() == self.model.keys()
        for id, story in self.model.items():
            row = found[id]
            assert (row["discarded_at"] is not None) == story.is_discarded
            if story.is_live:
                continue
            assert (row["status"], row["reason"], row["provider"], row["updated_at"]) == (
                story.status, story.reason, story.provider, story.ended_at
            )  # fmt: skip
            assert row["possibly_duplicated"] == story.is_doubled

    @invariant()
    def the_stories_are_the_model(self):
        stories = self.model.values()
        assert self._all("provider_calls", "number", "provider") == Counter(
            (s.id, *call) for s in stories for call in s.calls.items()
        )
        assert self._all("receipts", "provider", "key") == Counter(
            (s.id, *kept) for s in stories for kept in s.receipts
        )
        assert self._all("interventions", "event") == Counter(
            (s.id, event) for s in stories for event in s.interventions
        )

    def _all(self, table, *columns):
        rows = self.desk.rows(f"SELECT * FROM {table}")
        return Counter((row["notification_id"], *(row[name] for name in columns)) for row in rows)

    @invariant()
    def the_redrives_are_the_model(self):
        found = {
            (row["id"], row["channel"]): row for row in self.desk.rows("SELECT * FROM redrives")
        }
        assert found.keys() == self.parts.keys()
        for key, part in self.parts.items():
            row = found[key]
            assert (row["state"], row["moved"]) == (part.state, part.moved)
            if part.state is RedriveState.DONE:
                assert row["matched"] == row["moved"] + row["skipped"]


def is_last(story, receipt):
    """Whether the status comes from the call that a receipt tells of."""
    if story.is_live:
        return receipt.call == max(story.known_calls)
    own = [number for number, name in story.calls.items() if name == story.provider]
    return receipt.provider == story.provider and receipt.call >= max(own, default=0)


@pytest.mark.timeout(300)
def test_the_aftermath_is_its_model_whatever_happens(open_desk_at, empty_url, backend, monkeypatch):
    """Nothing is moved twice, forgotten or uncounted, whoever speaks after the end, and when."""
    monkeypatch.setattr(dead_letter, "SCANNED_AT_ONCE", SCANNED_AT_ONCE)
    run_state_machine_as_test(
        lambda: AftermathMachine(open_desk_at, empty_url),
        settings=settings(
            max_examples=40 if backend == "sqlite" else 10,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
