"""Who leaves a lane first, and what its memory holds of the rows on disk."""

from __future__ import annotations

import pytest

from clarion.domain.notification import Delivery, Priority
from clarion.policies.allotment import probe_rank
from clarion.policies.lane import Lane

NORMAL = Priority.NORMAL
FLOOD = 100_000


def anyone(_job):
    return True


def nobody(_job):
    return False


def take_all(lane, can_use=anyone):
    """Return the ids of all that can be taken, in order."""
    taken = []
    while (job := lane.take(can_use)) is not None:
        taken.append(job.id)
    return taken


class Disk:
    """The ready rows of one priority, and the lane that they belong to."""

    def __init__(self, make_job, max_in_memory=2000):
        self.make_job = make_job
        self.max_in_memory = max_in_memory
        self.lane = Lane(max_in_memory)
        self.rows = []
        self.flows = {}

    def accept(self, id_, flow):
        vt = self.lane.stamp(NORMAL, flow)
        job = self.make_job(id_, flow=flow, vt=vt)
        self.rows.append(job)
        self.flows[NORMAL, flow] = vt
        self.lane.admit(job)

    def restart(self):
        head = self.max_in_memory // 4
        self.rows.sort(key=lambda job: (job.vt, job.id))
        self.lane = Lane(self.max_in_memory)
        self.lane.load(
            {NORMAL: self.rows[:head]}, {NORMAL: len(self.rows) > head}, dict(self.flows)
        )

    def take(self):
        job = self.lane.take(anyone)
        self.rows.remove(job)
        for priority in self.lane.refill_wanted():
            after = self.lane.tail(priority)
            found = [each for each in self.rows if (each.vt, each.id) > after]
            found.sort(key=lambda each: (each.vt, each.id))
            self.lane.refill(priority, found[:250], len(found) > 250)
        return job


def takes_until(disk, id_):
    for n in range(1, FLOOD):
        if disk.take().id == id_:
            return n
    raise AssertionError(f"{id_} never left")


def test_a_single_message_passes_a_flood_at_any_moment_and_after_a_restart(make_job):
    """100,000 of one tenant wait; another tenant's one leaves within three takes."""
    disk = Disk(make_job)
    for number in range(FLOOD):
        disk.accept(f"flood-{number:06}", "flood")

    waits = []
    for round_ in range(4):
        for number in range(600):
            disk.take()
            if number % 199 == 0:
                disk.accept(f"small-{round_}-{number}", "small")
                waits.append(takes_until(disk, f"small-{round_}-{number}"))
        disk.restart()
        disk.accept(f"new-{round_}", f"newcomer-{round_}")
        waits.append(takes_until(disk, f"new-{round_}"))

    assert max(waits) <= 3


def test_flows_that_wait_take_turns(make_job):
    """Two tenants with much to send leave one by one, however much each has."""
    disk = Disk(make_job)
    for number in range(3000):
        disk.accept(f"a{number:04}", "a")
    for number in range(100):
        disk.accept(f"b{number:04}", "b")

    left = [disk.take().flow for _ in range(200)]

    assert left.count("b") == 100


def test_memory_is_bounded_whatever_waits(make_job):
    """A quarter of `max_in_memory` for the fresh jobs of a priority, whatever comes in."""
    disk = Disk(make_job, max_in_memory=40)

    for number in range(1000):
        disk.accept(f"{number:04}", f"flow-{number % 7}")

    assert len(disk.lane) == 10
    assert [disk.take() for _ in range(1000)][-1] is not None


def test_memory_is_bounded_while_all_wait_for_the_second_provider(make_job):
    """A first provider that fails again and again does not fill the memory with walks."""
    lane = Lane(40)

    for number in range(1000):
        lane.push(make_job(f"{number:04}", vt=float(number), tried=("a",)))

    assert len(lane) == 10
    assert lane.refill_wanted() == []
    taken = [lane.take(anyone).id for _ in range(5)]
    assert taken == ["0000", "0001", "0002", "0003", "0004"]
    assert lane.refill_wanted() == [NORMAL]
    assert lane.tail(NORMAL) == (9.0, "0009")


def test_a_pile_of_walks_costs_no_take_its_length(make_job):
    """Jobs that wait for the same full provider are asked about once, not one by one."""
    lane = Lane(4000)
    for number in range(900):
        lane.push(make_job(f"w{number:04}", vt=float(number), tried=("a",)))
    for number in range(100):
        lane.push(make_job(f"f{number:04}", vt=1000.0 + number))
    asked = []

    for _ in range(100):
        assert lane.take(lambda job: asked.append(job) or False).id.startswith("f")

    assert len(asked) == 100


def test_a_critical_walk_without_a_place_stops_nobody(make_job):
    """What waits for one full provider lets the others go on."""
    lane = Lane(100)
    lane.push(make_job("stuck", priority=Priority.CRITICAL, tried=("a",)))
    lane.push(make_job("fresh", priority=Priority.LOW))

    job = lane.take(nobody)

    assert job.id == "fresh"
    assert lane.take(nobody) is None
    assert lane.take(anyone).id == "stuck"


def test_a_walk_to_one_provider_does_not_wait_behind_a_walk_to_another(make_job):
    """Jobs that tried different providers stand in rows of their own."""
    lane = Lane(100)
    lane.push(make_job("to-b", vt=1.0, tried=("a",)))
    lane.push(make_job("to-a", vt=2.0, tried=("b",)))

    job = lane.take(lambda job: "a" not in job.tried)

    assert job.id == "to-a"


def test_a_walk_and_a_fresh_job_go_by_their_stamps(make_job):
    """A walk keeps the stamp that it had, and so mostly goes first."""
    lane = Lane(100)
    lane.push(make_job("fresh", vt=2.0))
    lane.push(make_job("walk", vt=1.0, tried=("a",)))

    assert lane.head().id == "walk"
    assert take_all(lane) == ["walk", "fresh"]


def test_fresh_jobs_stay_when_only_walks_are_wanted(make_job):
    """Places for fallback only are not for jobs that have tried nothing."""
    lane = Lane(100)
    lane.push(make_job("fresh"))

    assert lane.take(anyone, is_fresh_wanted=False) is None
    assert "fresh" in lane


@pytest.mark.parametrize(
    ("reluctant", "other"),
    [
        ({"priority": Priority.CRITICAL}, {"priority": Priority.LOW}),
        ({"delivery": Delivery.AT_MOST_ONCE}, {"vt": 9.0}),
        ({"probes": 1}, {"vt": 9.0}),
        ({"tried": ("a",), "delivery": Delivery.AT_MOST_ONCE}, {"vt": 9.0}),
        ({"tried": ("a",), "probes": 2}, {"tried": ("a",), "probes": 1, "vt": 9.0}),
    ],
)
def test_a_probe_is_someone_else_while_there_is_a_choice(make_job, reluctant, other):
    """Neither critical, nor at most once, nor the one that was the probe before."""
    lane = Lane(400)
    lane.push(make_job("reluctant", **reluctant))
    lane.push(make_job("other", **other))

    assert lane.take(anyone, rank=probe_rank).id == "other"
    assert lane.take(anyone, rank=probe_rank).id == "reluctant"


def test_a_row_that_was_left_to_the_disk_twice_is_still_found(make_job):
    """What a page shows of a row that is not up to it is remembered to be there."""
    lane = Lane(8)
    fresh = [make_job(f"f{n}", vt=float(n)) for n in (1, 2, 4)]
    walks = [make_job(f"w{n}", vt=n, tried=("a",)) for n in (1.1, 1.2, 1.3, 3.0)]
    lane.load({NORMAL: fresh[:2]}, {NORMAL: True}, {})
    lane.take(anyone)
    lane.take(anyone)
    lane.tail(NORMAL)
    for walk in walks[:3]:
        lane.push(walk)
    lane.refill(NORMAL, [walks[3], fresh[2]], False)

    taken = [lane.take(anyone).id, lane.take(anyone).id]
    lane.refill_wanted()
    assert lane.tail(NORMAL) == (1.2, "w1.2")
    lane.refill(NORMAL, walks[2:3], True)
    taken.append(lane.take(anyone).id)
    assert lane.refill_wanted() == [NORMAL]
    assert lane.tail(NORMAL) == (1.3, "w1.3")
    lane.refill(NORMAL, [walks[3], fresh[2]], False)
    taken += take_all(lane)

    assert taken == ["w1.1", "w1.2", "w1.3", "w3.0", "f4"]


def test_a_row_that_ended_after_the_disk_was_read_does_not_come_back(make_job):
    """A page may show a job that has left the lane for good since."""
    lane = Lane(8)
    gone = make_job("gone", vt=5.0)
    walks = [make_job(f"w{n}", vt=float(n), tried=("a",)) for n in (1, 2, 3)]
    lane.push(gone)
    for walk in walks:
        lane.push(walk)
    lane.take(anyone)
    lane.take(anyone)
    assert lane.tail(NORMAL) == (2.0, "w2")
    assert lane.take(nobody) is gone

    lane.refill(NORMAL, [walks[2], gone], False)

    assert take_all(lane) == ["w3"]


def test_a_job_that_ended_while_it_waited_is_dropped(make_job):
    """Ids that the lane does not know are rows, or gone already."""
    lane = Lane(100)
    lane.push(make_job("one", tried=("a",)))

    lane.discard("one")
    lane.discard("one")
    lane.discard("nobody")

    assert len(lane) == 0
    assert lane.head() is None


def test_a_job_that_is_cut_off_while_the_disk_is_asked_is_found_later(make_job):
    """What the disk saw may lack it: the answer does not stand for the row that it left."""
    lane = Lane(16)  # Four in memory for each row.
    fresh = [make_job(f"fresh-{n}", vt=float(n)) for n in range(1, 6)]
    walks = [make_job(f"walk-{n}", vt=float(n), tried=("a",)) for n in range(11, 15)]
    lane.load({NORMAL: [*fresh[:1], *walks]}, {NORMAL: True}, {})
    for job in fresh[1:]:
        lane.push(job)  # The fifth has no room: from here on the disk has more of this row.
    assert [lane.take(anyone).id for _ in range(2)] == ["fresh-1", "fresh-2"]
    lane.take(anyone)
    assert lane.refill_wanted() == [NORMAL]
    assert lane.tail(NORMAL) == (4.0, "fresh-4")

    lane.push(
        make_job("walk-10", vt=10.0, tried=("a",))
    )  # Cuts off walk-14, whose row says `sending`.
    lane.refill(NORMAL, [fresh[4]], False)
    taken = take_all(lane)

    assert taken == ["fresh-4", "fresh-5", "walk-10", "walk-11", "walk-12", "walk-13"]
    assert lane.refill_wanted() == [NORMAL]
    assert lane.tail(NORMAL) < (14.0, "walk-14")
    lane.refill(NORMAL, [walks[3]], False)
    assert take_all(lane) == ["walk-14"]
