"""Any sequence of commands, crashes included, against a model of a few lines.

What comes after the end of a notification has a machine of its own: `test_aftermath_machine`.
"""

from __future__ import annotations

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

from clarion.domain.notification import Call, Delivery, Priority, Status
from clarion.policies.identifier import floor_id, made_at
from clarion.policies.wall_clock import STEP_S
from clarion.storage.command import (
    Accept,
    BringForward,
    Cancel,
    Discard,
    Expire,
    Intend,
    Load,
    Promote,
    Refill,
    SetControl,
    Sweep,
)
from clarion.storage.recount import recount

DEFAULT_LIFE_S = 1000.0
LIVE = {"scheduled", "ready", "timed", "sending"}


@dataclass
class Row:
    """What the store has to remember of one notification."""

    job: object
    stage: str
    due_at: float | None = None
    call: int = 0
    is_doubtful: bool = False
    is_cancel_requested: bool = False
    is_doubled: bool = False
    calls: set[int] = field(default_factory=set)

    @property
    def status(self) -> str:
        return "queued" if self.stage in ("ready", "timed") else self.stage

    @property
    def is_timed(self) -> bool:
        return self.stage in ("timed", "scheduled")

    @property
    def ended_unsent(self) -> str:
        """How it ends without an answer."""
        return "unknown" if self.is_doubtful else ""


LOST = st.sampled_from([False] * 7 + [True])
PICK = st.integers(0, 63)


def has_rows(machine):
    return bool(machine.model)


class StoreMachine(RuleBasedStateMachine):
    """Each rule runs one command; one in a few dies with its process before the commit."""

    def __init__(self, open_desk_at, empty_url):
        super().__init__()
        self._open = open_desk_at
        self._url = empty_url()
        self.model: dict[str, Row] = {}
        self.answers: dict[str, tuple[str, str]] = {}
        self.controls: dict[tuple[str, str], tuple[str, str, float]] = {}

    @initialize()
    def open(self):
        self.desk = self._opened()

    def _opened(self):
        desk = self._open(self._url)
        # Here the process dies, not the machine: nothing has to reach the disk.
        relaxed = "PRAGMA synchronous = OFF" if desk.is_sqlite else "SET synchronous_commit = off"
        desk.connection.execute(relaxed)
        return desk

    def teardown(self):
        self.desk.store.close()

    def run(self, command, is_lost=False):
        """Carry it out; a lost one leaves no trace, whatever it had done by then."""
        if not is_lost:
            return True, self.desk.run(command)
        self.desk.store.begin()
        self.desk.store.apply(command)
        self.desk.store._transaction.flush()
        self.reopen()
        return False, None

    def reopen(self):
        """Let the process die: its connection ends without a commit."""
        # The identifiers go on where they were.
        desk = self.desk
        desk.store.close()
        self.desk = self._opened()
        self.desk._ids = desk._ids
        self.desk.now = desk.now

    def choose(self, pick, *stages):
        """Choose a row by number, three times in four one of the stages that matter."""
        fitting = [id for id, row in self.model.items() if row.stage in stages]
        ids = fitting if fitting and pick % 4 < 3 else list(self.model)
        return ids[pick % len(ids)]

    # --- accepting -------------------------------------------------------------------------

    @rule(
        n=st.integers(1, 3),
        is_scheduled=st.booleans(),
        delivery=st.sampled_from(Delivery),
        priority=st.sampled_from(Priority),
        flow=st.sampled_from(["", "acme"]),
        is_explicit=st.booleans(),
        is_lost=LOST,
    )
    def accept(self, n, is_scheduled, delivery, priority, flow, is_explicit, is_lost):
        fields = {
            "delivery": delivery,
            "priority": priority,
            "flow": flow,
            "is_expiry_explicit": is_explicit,
            "expires_at": self.desk.now + (50.0 if is_explicit else DEFAULT_LIFE_S),
        }
        make = self.desk.job
        if is_scheduled:
            fields["due_at"] = self.desk.now + 5.0
            make = self.desk.scheduled
        jobs = [make(**fields) for _ in range(n)]
        is_run, _ = self.run(self.desk.acceptance(*jobs), is_lost)
        if not is_run:
            return
        for job in jobs:
            self.model[job.id] = Row(job, "scheduled" if is_scheduled else "ready", job.due_at)

    @rule(key=st.sampled_from("ab"), body=st.sampled_from("xy"))
    def accept_with_a_key(self, key, body):
        job = self.desk.job()
        draft = self.desk.draft(job, idempotency_key=key, fingerprint=body)
        [result] = self.desk.run(Accept("email", [draft], [job]))
        kind = type(result).__name__
        if key not in self.answers:
            assert kind == "AcceptedRow"
            self.answers[key] = (body, job.id)
            self.model[job.id] = Row(job, "ready")
            return
        first_body, first_id = self.answers[key]
        assert kind == ("ReplayedRow" if body == first_body else "ConflictRow")
        if kind == "ReplayedRow":
            assert result.answer["id"] == first_id

    @precondition(has_rows)
    @rule(pick=PICK)
    def accept_again(self, pick):
        """A command that is redelivered, even to a store that has ended its job."""
        self.desk.accept(self.model[self.choose(pick)].job)

    # --- delivering ------------------------------------------------------------------------

    @precondition(has_rows)
    @rule(pick=PICK, offset=st.sampled_from([1, 1, 1, 0, 2]), is_lost=LOST)
    def intend(self, pick, offset, is_lost):
        id = self.choose(pick, "ready", "timed", "scheduled")
        row = self.model[id]
        number = row.call + offset
        command = Intend("email", [Call(row.job, number, "alpha")], self.desk.now)
        is_run, matched = self.run(command, is_lost)
        if not is_run:
            return
        is_expected = offset == 1 and row.stage in LIVE - {"sending"}
        assert bool(matched) is is_expected
        if is_expected:
            row.stage, row.call, row.due_at = "sending", number, None
            row.is_doubled = row.is_doubled or row.is_doubtful

    @precondition(has_rows)
    @rule(
        pick=PICK,
        age=st.sampled_from([0, 0, 0, 1]),
        status=st.sampled_from([Status.SENT, Status.FAILED, Status.UNKNOWN]),
        is_lost=LOST,
    )
    def settle(self, pick, age, status, is_lost):
        id = self.choose(pick, "sending")
        row = self.model[id]
        number = row.call - age
        if number < 1:
            return
        is_run, has_matched = self.run(self.desk.settlement(row.job, number, status), is_lost)
        if not is_run:
            return
        assert has_matched is (row.stage in LIVE and age == 0)
        if has_matched:
            row.stage = status.value
            row.calls.add(number)

    def _end_without_a_call(self, pick):
        id = self.choose(pick, "ready", "timed", "scheduled")
        row = self.model[id]
        status = Status.EXPIRED if pick % 2 else Status.CANCELLED
        has_matched = self.desk.run(self.desk.settlement(row.job, None, status))
        assert has_matched is (row.stage in LIVE - {"sending"})
        if has_matched:
            row.stage = status.value

    @precondition(has_rows)
    @rule(
        pick=PICK,
        age=st.sampled_from([0, 0, 0, 1]),
        delay_s=st.sampled_from([None, 0.0, 7.0, 500.0]),
        is_doubtful=st.booleans(),
        has_record=st.booleans(),
        is_lost=LOST,
    )
    def defer(self, pick, age, delay_s, is_doubtful, has_record, is_lost):
        id = self.choose(pick, "sending")
        row = self.model[id]
        number = row.call - age
        due_at = None if delay_s is None else self.desk.now + delay_s
        record = self.desk.record(row.job, number) if has_record else None
        command = self.desk.deferral(
            row.job, number, due_at, is_doubtful=is_doubtful, record=record
        )
        is_run, has_matched = self.run(command, is_lost)
        if not is_run:
            return
        assert bool(has_matched) is (row.stage == "sending" and age == 0)
        if has_matched:
            row.stage, row.due_at = "ready" if due_at is None else "timed", due_at
            row.is_doubtful = is_doubtful
            if has_record:
                row.calls.add(number)

    @precondition(has_rows)
    @rule(pick=PICK)
    def promote(self, pick):
        id = self.choose(pick, "timed", "scheduled")
        row = self.model[id]
        promoted = self.desk.run(Promote("email", [row.job], self.desk.now))
        is_expected = row.stage in ("timed", "scheduled")
        assert bool(promoted) is is_expected
        if is_expected:
            row.stage, row.due_at = "ready", None

    @rule(by_s=st.sampled_from([1.0, 60.0]), is_lost=LOST)
    def bring_forward(self, by_s, is_lost):
        now = self.desk.now
        early = [row for row in self.model.values() if row.stage == "timed" and row.due_at > now]
        is_run, n = self.run(BringForward("email", by_s, now), is_lost)
        if is_run:
            assert n == len(early)
            self._bring_forward(by_s)

    def _bring_forward(self, by_s):
        now = self.desk.now
        for row in self.model.values():
            if row.stage == "timed" and row.due_at > now:
                row.due_at = max(row.due_at - by_s, now)

    @precondition(has_rows)
    @rule(pick=PICK, way=st.sampled_from(["call", "cancel", "poison", "time"]))
    def end(self, pick, way):
        ways = {
            "call": self._end_without_a_call,
            "cancel": self._cancel,
            "poison": self._discard,
            "time": self._expire,
        }
        ways[way](pick)

    # --- ending ----------------------------------------------------------------------------

    def _cancel(self, pick):
        id = self.choose(pick, *LIVE)
        row = self.model[id]
        result = self.desk.run(Cancel("email", id, self.desk.now))
        if row.stage == "sending":
            assert result.verdict == "requested"
            row.is_cancel_requested = True
        elif row.stage in LIVE:
            assert result.verdict == "cancelled"
            row.stage = row.ended_unsent or "cancelled"
        else:
            assert (result.verdict, result.status) == ("final", row.stage)

    def _discard(self, pick):
        id = self.choose(pick, *LIVE)
        row = self.model[id]
        is_live, is_out = row.stage in LIVE, row.stage == "sending"
        assert self.desk.run(Discard("email", id, self.desk.now)) is is_live
        if is_out:
            row.calls.add(row.call)
        if is_live:
            row.stage = "unknown" if is_out else row.ended_unsent or "failed"

    def _expire(self, pick):
        passed_s = [1.0, 1.0, 60.0, 1001.0][pick % 4]
        self.desk.now += passed_s
        rows = self.desk.run(Expire("email", self.desk.now, DEFAULT_LIFE_S))
        ended = {row.id: row.status for row in rows}
        expected = {
            id: row.ended_unsent or "expired"
            for id, row in self.model.items()
            if row.stage in LIVE - {"sending"} and self._is_expired(row.job)
        }
        assert ended == expected
        for id, status in ended.items():
            self.model[id].stage = status

    def _is_expired(self, job):
        # Made after the clock was set back, a default expiry is found as late as its id says.
        is_found = job.is_expiry_explicit or job.id < floor_id(self.desk.now - DEFAULT_LIFE_S)
        return job.expires_at <= self.desk.now and is_found

    # --- what comes from outside -----------------------------------------------------------

    @rule(by_s=st.sampled_from([-600.0, -60.0, -1.0, 1.0, 60.0]))
    def set_the_clock(self, by_s):
        """The wall clock is nobody's to rely on: it is set forward, and back."""
        self.desk.now += by_s

    @rule(
        control=st.sampled_from(
            [("lane", "email", "paused"), ("lane", "email", "running"), ("lane", "sms", "paused"),
             ("provider", "email", "disabled"), ("breaker", "alpha", "open")]
        ),
        who=st.sampled_from(["ada", "bob"]),
        is_lost=LOST,
    )  # fmt: skip
    def decide(self, control, who, is_lost):
        """An operator's word stands until the next one, over any death."""
        kind, name, value = control
        is_run, _ = self.run(SetControl("", kind, name, value, who, self.desk.now), is_lost)
        if is_run:
            self.controls[kind, name] = (value, who, self.desk.now)

    @rule()
    def die_and_sweep(self):
        """A new process takes up what the old one had out."""
        self.reopen()
        out = [row for row in self.model.values() if row.stage == "sending"]
        assert self.desk.run(Sweep("", self.desk.now)) == len(out)
        # A clock that was set back while nobody ran is noticed by the last id.
        back_s = made_at(max(self.model)) - self.desk.now if self.model else 0.0
        if back_s >= STEP_S:
            self._bring_forward(back_s)
        for row in out:
            is_once = row.job.delivery is Delivery.AT_MOST_ONCE
            row.stage = "unknown" if is_once else "ready"
            row.is_doubtful = True
            row.calls.add(row.call)

    # --- at every step ---------------------------------------------------------------------

    @invariant()
    def the_counts_are_the_sum_of_the_rows(self):
        assert recount(self.desk.connection) == []
        expected: dict[str, int] = {"accepted": len(self.model)} if self.model else {}
        for row in self.model.values():
            expected[row.status] = expected.get(row.status, 0) + 1
        assert self.desk.counts() == expected

    @invariant()
    def the_rows_are_the_model(self):
        stored = {row["id"]: row for row in self.desk.rows("SELECT * FROM jobs")}
        live = {id: row for id, row in self.model.items() if row.stage in LIVE}
        assert stored.keys() == live.keys()
        for id, row in live.items():
            found = stored[id]
            assert (found["call"], found["is_doubtful"]) == (row.call, row.is_doubtful)
            assert found["possibly_duplicated"] == row.is_doubled
            assert found["cancel_requested"] == row.is_cancel_requested
            assert (found["sending"] is not None) == (row.stage == "sending")
            assert found["due_at"] == row.due_at
        records = {row["id"]: row for row in self.desk.rows("SELECT id, status FROM notifications")}
        assert records.keys() == self.model.keys()
        for id in self.model.keys() - live.keys():
            assert records[id]["status"] == self.model[id].stage
        calls = self.desk.rows("SELECT notification_id AS id, number FROM provider_calls")
        written = {(call["id"], call["number"]) for call in calls}
        assert written == {(id, n) for id, row in self.model.items() for n in row.calls}

    @invariant()
    def the_controls_are_the_last_words(self):
        rows = self.desk.rows("SELECT * FROM controls")
        found = {(row["kind"], row["name"]): (row["value"], row["who"], row["at"]) for row in rows}
        assert found == self.controls

    @invariant()
    def a_load_shows_the_lane(self):
        until = self.desk.now + 10.0
        lane = self.desk.run(Load("email", 4, until, 4))
        assert lane.undecodable == []
        for priority, jobs in lane.ready.items():
            found = [job.id for job in jobs]
            after = (jobs[-1].vt, jobs[-1].id) if jobs else None
            if lane.is_spilled[priority]:
                rest = self.desk.run(Refill("email", priority, after, 1000))
                found += [job.id for job in rest.jobs]
                assert rest.jobs and not rest.is_spilled
            assert found == self._ready(priority)
        assert {job.id for job in lane.sending} == self._staged("sending")
        assert [job.id for job in lane.timed] == self._timed(until)[:4]
        assert lane.is_paused is (self.controls.get(("lane", "email"), [""])[0] == "paused")
        depth = {status: n for status, n in self.desk.counts().items() if status in lane.depth}
        assert {status: n for status, n in lane.depth.items() if n} == depth

    def _staged(self, *stages):
        return {id for id, row in self.model.items() if row.stage in stages}

    def _timed(self, until):
        rows = [(row.due_at, id) for id, row in self.model.items() if row.is_timed]
        return [id for due_at, id in sorted(rows) if due_at <= until]

    def _ready(self, priority):
        rows = [
            (row.job.vt, id)
            for id, row in self.model.items()
            if row.stage == "ready" and row.job.priority is priority
        ]
        return [id for _, id in sorted(rows)]


@pytest.mark.timeout(300)
def test_the_store_is_its_model_whatever_happens(open_desk_at, empty_url, backend):
    """Rows, counts and loads agree with the model at every step; a lost commit left nothing."""
    run_state_machine_as_test(
        lambda: StoreMachine(open_desk_at, empty_url),
        settings=settings(
            max_examples=25 if backend == "sqlite" else 10,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
