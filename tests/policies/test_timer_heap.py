"""Timers in memory and on disk: each falls due once, in time, and the disk is not asked in vain."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.domain.notification import JobState
from clarion.policies.timer_heap import TimerHeap

AHEAD_S = 30.0
HORIZON_S = 60.0


class Disk:
    """The rows, the heap, and the alarm clock around it; what is asked is answered later."""

    def __init__(self, make_job, limit):
        self.make_job = make_job
        self.limit = limit
        self.heap = TimerHeap(limit)
        self.heap.load([], None, HORIZON_S)
        self.now = 0.0
        self.rows = {}
        self.seen = None
        self.fired = {}
        self.loads = 0
        self.numbers = iter(range(10**6))

    def add(self, in_s):
        job = self.make_job(
            f"{next(self.numbers):06}", state=JobState.TIMED, due_at=self.now + in_s
        )
        self.heap.add(job)
        self.rows[job.id] = job

    def wake(self):
        for job in self.heap.due(self.now):
            assert job.id not in self.fired, "it fell due twice"
            self.fired[job.id] = self.now
            del self.rows[job.id]
        if self.seen is None and self.heap.must_load(self.now, AHEAD_S):
            self.heap.next_unknown_at = None
            self.loads += 1
            self.seen = sorted(self.rows.values(), key=lambda job: (job.due_at, job.id))
            self.until = self.now + HORIZON_S

    def hear(self):
        """The answer of the disk arrives: what it saw when it was asked."""
        if self.seen is None:
            return
        rows, self.seen = self.seen, None
        found = [job for job in rows if job.due_at <= self.until][: self.limit]
        next_at = rows[len(found)].due_at if len(rows) > len(found) else None
        unknown = [job for job in found if job.id not in self.fired]
        self.heap.load(unknown, next_at, self.now + AHEAD_S)

    def advance(self, until):
        """Live until then: wake up whenever the heap wants it, and no more often."""
        for _ in range(10_000):
            at = self.heap.wakes_at(AHEAD_S)
            if self.seen is not None:
                self.hear()
            elif at is not None and at <= until:
                self.now = max(self.now, at)
                self.wake()
            else:
                self.now = until
                return
        raise AssertionError("it wakes for ever")


IN_S = st.sampled_from([0.0, 0.5, 5.0, 5.0, 29.0, 31.0, 59.0, 61.0, 200.0])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), IN_S),
        st.tuples(st.just("advance"), st.floats(0.0, 50.0)),
        st.tuples(st.just("wake"), st.none()),
        st.tuples(st.just("hear"), st.none()),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(steps=STEPS, limit=st.integers(1, 5))
def test_every_timer_falls_due_once_and_in_time(make_job, steps, limit):
    """Whatever is added, loaded and left to the disk, in whatever order the answers come."""
    disk = Disk(make_job, limit)
    due = {}

    for step, value in steps:
        match step:
            case "add":
                disk.add(value)
                due = {job.id: job.due_at for job in disk.rows.values()} | due
            case "advance":
                disk.advance(disk.now + value)
            case "wake":
                disk.wake()
            case _:
                disk.hear()
        assert len(disk.heap) <= limit
    disk.hear()
    disk.advance(disk.now + 1000.0)

    assert disk.rows == {}
    assert sorted(disk.fired) == sorted(due)
    assert all(at >= due[each] for each, at in disk.fired.items())


def test_a_timer_that_is_woken_for_in_time_fires_at_its_instant(make_job):
    """Loading ahead means that nobody waits for the disk when the time comes."""
    disk = Disk(make_job, limit=4)
    for in_s in (100.0, 5.0, 200.0, 40.0, 40.0):
        disk.add(in_s)

    disk.advance(300.0)

    assert sorted(disk.fired.values()) == [5.0, 40.0, 40.0, 100.0, 200.0]


def test_thousands_that_are_due_together_are_not_loaded_again_and_again(make_job):
    """Each load is worth its while: the disk is asked for about as many as fall due."""
    disk = Disk(make_job, limit=100)
    for _ in range(1000):
        disk.add(20.0)

    disk.advance(19.0)
    before = disk.loads
    disk.advance(30.0)

    assert before == 0
    assert len(disk.fired) == 1000
    assert disk.loads <= 10


def test_an_early_timer_displaces_the_latest_of_a_full_heap(make_job):
    """A full memory is no reason to miss a retry that is due in a second."""
    heap = TimerHeap(2)
    heap.load([], None, HORIZON_S)
    for job_id, due_at in (("late", 20.0), ("mid", 10.0), ("early", 1.0)):
        heap.add(make_job(job_id, state=JobState.TIMED, due_at=due_at))

    assert [job.id for job in heap.due(10.0)] == ["early", "mid"]
    assert heap.next_unknown_at == 20.0
    assert heap.must_load(10.0, AHEAD_S)


def test_what_is_added_while_the_disk_is_asked_is_not_forgotten(make_job):
    """The answer may be older than a timer that was left to the disk meanwhile."""
    heap = TimerHeap(10)
    heap.load([], None, HORIZON_S)
    heap.add(make_job("far", state=JobState.TIMED, due_at=70.0))

    heap.load([], None, HORIZON_S)

    assert heap.next_unknown_at == 70.0


def test_a_forgotten_timer_does_not_fall_due(make_job):
    """A cancelled one is dropped; one that memory does not have is a row, or gone."""
    heap = TimerHeap(10)
    heap.load([], None, HORIZON_S)
    job = make_job(state=JobState.TIMED, due_at=5.0)
    heap.add(job)

    assert heap.discard(job.id) is job
    assert heap.discard(job.id) is None
    assert heap.due(9.0) == []
    assert heap.wakes_at(AHEAD_S) is None
