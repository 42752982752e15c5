"""Two nodes on one server: what each may take, what it must leave, and who is fenced."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from clarion.domain.notification import JobState, Priority, Status
from clarion.domain.receipt import Receipt
from clarion.errors import StoreLocked, StoreTaken
from clarion.policies.identifier import IdSource
from clarion.storage.backend import open_store
from clarion.storage.command import (
    Accept,
    Cancel,
    ConflictRow,
    Expire,
    LoadTimers,
    Promote,
    Purge,
    Receive,
    Refill,
    ReplayedRow,
    Sweep,
)
from clarion.storage.membership import Beat, Leave
from clarion.storage.reader import Reader
from clarion.storage.recount import recount
from clarion.storage.redrive_command import LoadRedrives, ResolveAsRetry, Revival
from clarion.storage.writer import Writer
from tests.storage.conftest import NOW, Desk

NORMAL = int(Priority.NORMAL)


@pytest.fixture
def backend():
    """A file has one node."""
    return "postgresql"


@pytest.fixture
def open_node(url):
    """Open the store as a node of that name."""
    stores = []

    def make(name):
        store = open_store(url, node=name, now=lambda: NOW)
        store.open()
        stores.append(store)
        desk = Desk(store)
        desk._ids = IdSource(lambda: desk.now, random.Random(name).getrandbits)
        return desk

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def one(open_node):
    return open_node("one")


@pytest.fixture
def two(open_node):
    return open_node("two")


@pytest.fixture
def admin(url):
    """A session of somebody who may do anything."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def beat(desk, *, buries_after_s=None):
    return desk.run(Beat("", 30.0, buries_after_s, ("email",), desk.now + 30.0, desk.now))


def left(desk, **fields):
    """Accept a job that this node has no room for."""
    return desk.accepted(is_ours=False, **fields)


def refill(desk, limit=100):
    return desk.run(Refill("email", NORMAL, (float("inf"), ""), limit))


def owner(admin, job):
    row = admin.execute("SELECT node FROM jobs WHERE id = %s", (job.id,)).fetchone()
    return None if row is None else row[0]


# --- whose a job is --------------------------------------------------------------------------


def test_a_job_is_the_nodes_that_kept_it(one, two, admin):
    """Nobody else loads it, refills with it, or lets it expire."""
    job = one.accepted(is_expiry_explicit=True, expires_at=NOW - 1.0)

    assert owner(admin, job) == "one"
    assert not any(two.load().ready.values())
    assert refill(two).claimed == []
    assert two.run(Expire("email", NOW, 1000.0)) == []
    assert [job.id for job in one.load().ready[NORMAL]] == [job.id]


def test_what_nobody_has_is_taken_once_and_in_order(one, two, admin):
    """By whoever asks first, however many ask."""
    jobs = [left(one, vt=float(10 - n)) for n in range(10)]

    mine, theirs = refill(one, limit=4), refill(two, limit=100)

    in_order = [job.id for job in reversed(jobs)]
    assert [job.id for job in mine.claimed] == in_order[:4]
    assert [job.id for job in theirs.claimed] == in_order[4:]
    assert (mine.is_more_unclaimed, theirs.is_more_unclaimed) == (True, False)
    assert {owner(admin, job) for job in jobs} == {"one", "two"}


def test_what_another_node_is_taking_is_passed_by(one, two):
    """Nobody waits for it."""
    for _ in range(6):
        left(one)
    one.store.begin()
    [mine] = one.store.apply_all([Refill("email", NORMAL, None, 3)])

    theirs = refill(two)
    one.store.commit()

    ids = {job.id for job in mine.claimed} | {job.id for job in theirs.claimed}
    assert (len(mine.claimed), len(theirs.claimed), len(ids)) == (3, 3, 6)


def test_many_who_take_at_once_take_each_job_once(one, two):
    """Under real concurrency."""
    ids = {left(one, vt=float(n)).id for n in range(300)}
    barrier = threading.Barrier(2)

    def take(desk):
        barrier.wait()
        taken = []
        while found := refill(desk, limit=7).claimed:
            taken += [job.id for job in found]
        return taken

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(take, (one, two))

    assert sorted(first + second) == sorted(ids)
    assert first and second


def test_timers_of_nobody_are_taken_when_they_come_near(one, two, admin):
    """By the node that asks; those that are far off stay nobody's."""
    near, far = (one.scheduled(NOW + delay_s, is_ours=False) for delay_s in (5.0, 500.0))
    one.accept(near, far)

    jobs, next_at, _ = two.run(LoadTimers("email", NOW + 60.0, 10))

    assert [job.id for job in jobs] == [near.id]
    assert next_at == far.due_at
    assert (owner(admin, near), owner(admin, far)) == ("two", "")


def test_a_retry_that_is_far_off_is_nobodys(one, two, admin):
    """Its node may be long gone then."""
    job = one.sending()
    one.run(one.deferral(job, due_at=NOW + 3600.0, waiting="retry", is_ours=False))

    assert owner(admin, job) == ""


# --- decisions at another node ---------------------------------------------------------------


def test_a_cancel_of_a_call_that_is_out_elsewhere_is_told_at_its_end(one, two):
    """So that its node does not send it again."""
    job = one.sending()
    assert two.run(Cancel("email", job.id, NOW)).verdict == "requested"

    assert one.run(one.deferral(job)).is_cancel_requested
    assert two.run(Cancel("email", job.id, NOW)).verdict == "cancelled"
    assert one.intend(job, 2) == []
    assert recount(one.connection) == []


def test_a_cancel_waits_for_a_settlement_that_is_being_written(one, two):
    """And finds what came of it."""
    job = one.sending()
    one.store.begin()
    one.store.apply_all([one.settlement(job), one.settlement(one.job(), 1)])
    with ThreadPoolExecutor(1) as thread:
        cancelled = thread.submit(two.run, Cancel("email", job.id, NOW))
        one.store.commit()

        found = cancelled.result(20)

    assert (found.verdict, found.status) == ("final", Status.SENT)
    assert recount(one.connection) == []


def test_a_receipt_waits_for_a_settlement_that_is_being_written(one, two):
    """`sent` first, then `delivered`: the counts move by one each."""
    job = one.sending()
    receipt = Receipt(job.id, "alpha", "delivered", "key", NOW, Status.DELIVERED)
    one.store.begin()
    one.store.apply_all([one.settlement(job)])
    with ThreadPoolExecutor(1) as thread:
        received = thread.submit(two.run, Receive("email", [receipt], NOW))
        one.store.commit()

        [found] = received.result(20)

    assert (found.old, found.new) == (Status.SENT, Status.DELIVERED)
    assert one.record_row(job)["status"] == "delivered"
    assert recount(one.connection) == []


@pytest.mark.parametrize(("body", "kind"), [("x", ReplayedRow), ("y", ConflictRow)])
def test_the_same_key_at_two_nodes_at_once_is_accepted_once(one, two, body, kind):
    """The second waits for the first, and gets its answer."""
    first, second = one.job(), two.job()
    drafts = [
        desk.draft(job, idempotency_key="k", fingerprint=given)
        for desk, job, given in ((one, first, "x"), (two, second, body))
    ]
    one.store.begin()
    one.store.apply_all([Accept("email", [drafts[0]], [first])])
    with ThreadPoolExecutor(1) as thread:
        accepted = thread.submit(two.run, Accept("email", [drafts[1]], [second]))
        one.store.commit()

        [found] = accepted.result(20)

    assert isinstance(found, kind)
    assert one.counts() == {"accepted": 1, "queued": 1}


def test_a_transaction_that_is_undone_for_a_collision_is_made_again(one, two):
    """Two that wait for each other: the server undoes one, and its writer begins anew."""
    a, b = one.accepted(), one.accepted()
    done, states = [], []
    writer = Writer(
        two.store,
        on_done=done.extend,
        post=lambda call: call(),
        on_state=lambda *state: states.append(state),
    )
    two.connection.execute("SET deadlock_timeout = '10ms'")
    one.connection.execute("SET deadlock_timeout = '10s'")
    one.store.begin()
    one.store.apply_all([Cancel("email", a.id, NOW)])
    for job in (b, a):
        writer.submit(Cancel("email", job.id, NOW))
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(writer.run_once)
        wait_for_lock(one)
        one.store.apply_all([Cancel("email", b.id, NOW)])
        one.store.commit()
        written.result(20)

    assert [each.result.verdict for each in done] == ["final", "final"]
    assert states == []


def wait_for_lock(desk):
    """Return when some session waits for a lock."""
    while not desk.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
        pass


# --- nodes that come and go ------------------------------------------------------------------


def test_two_nodes_of_one_name_do_not_work_at_once(one, open_node):
    """The second stands by, and hears which name it is."""
    with pytest.raises(StoreLocked, match="as the node 'one', too"):
        open_node("one")


def test_a_beat_shows_the_nodes_and_what_nobody_has(one, two):
    """With the depth of each lane over all of them."""
    left(one)
    two.accepted()
    two.accept(two.scheduled(NOW + 5.0, is_ours=False))

    found = beat(one)

    assert [node.id for node in found.nodes] == ["one", "two"]
    assert found.depth == {"email": {"queued": 2, "scheduled": 1}}
    assert found.unclaimed == {"email": {NORMAL}}
    assert found.unclaimed_timers == {"email"}


def lapse(admin, node):
    """Let the lease of a node be over."""
    admin.execute("UPDATE nodes SET lease_until = 0 WHERE node = %s", (node,))


def test_a_node_whose_lease_is_over_is_given_up(one, two, admin):
    """What it had is nobody's, what was out is marked, and the counts stay."""
    waiting, out = one.accepted(), one.sending()
    timed = one.sending()
    one.run(one.deferral(timed, due_at=NOW + 5.0, waiting="retry"))
    lapse(admin, "one")

    assert beat(two, buries_after_s=5.0).buried == ["one"]

    assert {owner(admin, job) for job in (waiting, out, timed)} == {""}
    assert {job.id for job in refill(two).claimed} == {waiting.id, out.id}
    [called] = two.intend(out, 2)
    assert two.job_row(called.job)["possibly_duplicated"] == 1
    assert two.job_row(out)["restarts"] == 1
    assert recount(two.connection) == []
    names = admin.execute("SELECT DISTINCT node FROM counts ORDER BY node").fetchall()
    assert names == [("",), ("two",)]


def test_who_was_given_up_writes_nothing_any_more(one, two, admin):
    """Not even what it had begun before it stood still."""
    job = one.accepted()
    one.store.begin()
    one.store.apply_all([one.intent(job)])
    lapse(admin, "one")
    beat(two, buries_after_s=5.0)

    with pytest.raises(psycopg.Error):
        one.store.commit()
    one.store.rollback()
    with pytest.raises(StoreTaken, match="has taken over"):
        one.intend(job)

    assert two.job_row(job)["state"] == JobState.READY
    assert recount(two.connection) == []


def test_who_was_given_up_between_two_transactions_is_fenced_at_its_commit(one, two, admin):
    """Its session may have lived on: the mark is what counts."""
    job = one.accepted()
    admin.execute("DELETE FROM nodes WHERE node = 'one'")

    with pytest.raises(StoreTaken):
        one.intend(job)

    assert two.job_row(job)["state"] == JobState.READY
    with pytest.raises(StoreTaken, match="given up 'one'"):
        beat(one)


def test_a_node_without_a_session_is_given_up_before_its_lease_is_over(one, two, admin):
    """A process that was killed: its lock is free, and it has not been seen for a while."""
    one.accepted()
    one.store.close()
    assert beat(two, buries_after_s=5.0).buried == []

    admin.execute("UPDATE nodes SET seen_at = seen_at - 6 WHERE node = 'one'")

    assert beat(two, buries_after_s=5.0).buried == ["one"]


def test_a_node_with_a_session_is_waited_for_its_whole_lease(one, two, admin):
    """It may be busy with a long transaction."""
    admin.execute("UPDATE nodes SET seen_at = seen_at - 20 WHERE node = 'one'")

    assert beat(two, buries_after_s=5.0).buried == []


def test_nobody_is_given_up_by_who_is_not_sure(one, two, admin):
    """After an outage no lease is renewed, and all are as alive as before."""
    lapse(admin, "one")

    assert beat(two, buries_after_s=None).buried == []
    assert beat(one).buried == []


def test_a_node_that_leaves_gives_away_all_that_it_has(one, two, admin):
    """In its last transaction; nobody has to miss it."""
    waiting, out = one.accepted(), one.sending()

    one.run(Leave("", NOW))

    assert {owner(admin, job) for job in (waiting, out)} == {""}
    assert [node.id for node in beat(two).nodes] == ["two"]
    assert recount(two.connection) == []
    with pytest.raises(StoreTaken):
        one.accepted()


def test_a_process_that_starts_again_goes_on_with_its_own(one, open_node, admin):
    """It need not wait for anybody to give it up."""
    job = one.accepted()
    one.store.close()

    again = open_node("one")

    assert [each.id for each in again.load().ready[NORMAL]] == [job.id]


def test_redrives_of_a_node_that_is_gone_are_taken_over(one, two, admin):
    """One node drives each."""
    admin.execute(
        "INSERT INTO redrives (id, channel, rate, state, matched, moved, skipped, cursor_at,"
        " cursor_id, last_vt, who, created_at, updated_at, node)"
        " VALUES ('r', 'email', 1, 'running', 0, 0, 0, 0, '', 0, '', 0, 0, 'one')"
    )
    assert [part.id for part in one.run(LoadRedrives(""))] == ["r"]
    assert two.run(LoadRedrives("")) == []

    lapse(admin, "one")
    beat(two, buries_after_s=5.0)

    assert [part.id for part in two.run(LoadRedrives(""))] == ["r"]


def test_one_node_at_a_time_removes_what_is_old(one, two):
    """Retention of the other rests meanwhile."""
    one.run(one.settlement(one.sending()))
    purge = Purge("", "", NOW + 1e6, 100, NOW + 2e6)
    one.store.begin()
    [mine] = one.store.apply_all([purge])
    theirs = two.run(Purge("", "", NOW + 1e6, 100, NOW + 2e6))
    one.store.commit()

    assert (sum(mine.gone.values()), theirs.gone) == (1, {})


# --- all at once -----------------------------------------------------------------------------


class Worker:
    """Does what a node does, in random order, with jobs that are its own and others'."""

    def __init__(self, desk, seed, shared):
        self.desk = desk
        self.rng = random.Random(seed)
        self.shared = shared
        self.have = {}
        self.errors = []
        self.writer = Writer(
            desk.store,
            on_done=self.hear,
            post=lambda call: call(),
            on_state=lambda *state: self.errors.append(state),
        )

    def hear(self, done):
        self.errors += [each.error for each in done if each.error is not None]
        for each in done:
            if isinstance(each.command, Refill) and each.error is None:
                self.have |= {job.id: job for job in each.result.claimed}

    def work(self):
        for _ in range(120):
            for _ in range(self.rng.randint(1, 4)):
                self.writer.submit(self.command())
            self.writer.run_once()

    def command(self):
        rng, desk = self.rng, self.desk
        what = rng.choice(
            ["accept", "accept", "take", "intend", "settle", "defer", "cancel", "tell"]
        )
        job = rng.choice(list(self.have.values())) if self.have else None
        if what == "accept" or job is None:
            new = desk.job(is_ours=rng.random() < 0.5)
            self.shared.append(new)
            if new.is_ours:
                self.have[new.id] = new
            return desk.acceptance(new)
        other = rng.choice(self.shared)
        match what:
            case "take":
                return Refill("email", NORMAL, None, rng.randint(1, 5))
            case "intend":
                return desk.intent(job, rng.randint(1, 2))
            case "settle":
                return desk.settlement(job, 1)
            case "defer":
                return desk.deferral(job, 1, is_ours=rng.random() < 0.5)
            case "cancel":
                return Cancel("email", other.id, NOW)
            case _:
                status = rng.choice([Status.DELIVERED, Status.UNDELIVERED])
                key = str(rng.random())
                return Receive(
                    "email",
                    [Receipt(other.id, "alpha", status.value, key, NOW, status)],
                    NOW,
                )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_two_nodes_do_at_once_the_books_balance(open_node, seed):
    """Cancels, receipts and settlements of the same jobs; no command fails, no count drifts."""
    shared = []
    workers = [Worker(open_node(name), f"{seed} {name}", shared) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Worker.work, workers))

    assert [worker.errors for worker in workers] == [[], []]
    connection = workers[0].desk.connection
    assert recount(connection) == []
    without = connection.execute(
        "SELECT count(*) FROM notifications n WHERE status = 'queued'"
        " AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = n.id)"
    ).fetchone()
    assert without == (0,)


def test_a_promotion_of_what_is_gone_promotes_nothing(one, two):
    """It was cancelled at another node while it waited."""
    job = one.scheduled(NOW + 1.0)
    one.accept(job)
    two.run(Cancel("email", job.id, NOW))

    assert one.run(Promote("email", [job], NOW + 2.0)) == []


# --- what two nodes do at the same moment ----------------------------------------------------


def test_two_nodes_that_start_at_once_recover_a_call_once(one, two, admin):
    """What was out when the columns came has no node: both look for it."""
    job = one.sending()
    admin.execute("UPDATE jobs SET node = '' WHERE id = %s", (job.id,))
    one.store.begin()
    one.store.apply_all([Sweep("", NOW)])
    with ThreadPoolExecutor(1) as thread:
        swept = thread.submit(two.run, Sweep("", NOW))
        one.store.commit()
        assert swept.result(20) == 0

    assert two.job_row(job)["restarts"] == 1
    assert recount(one.connection) == []


def test_a_node_leaves_though_a_receipt_is_just_ending_what_it_had_out(one, two):
    """It waits, and finds nothing to give away."""
    job = one.sending()
    two.store.begin()
    told = Receipt(job.id, "alpha", "delivered", "key", NOW, Status.DELIVERED)
    two.store.apply_all([Receive("email", [told], NOW)])
    with ThreadPoolExecutor(1) as thread:
        left = thread.submit(one.run, Leave("", NOW))
        two.store.commit()
        left.result(20)

    assert two.record_row(job)["status"] == "delivered"
    assert recount(two.connection) == []


def test_what_comes_back_to_life_is_not_removed_as_old(one, two):
    """Retention looked at it just before."""
    job = one.sending()
    one.run(one.settlement(job, status=Status.UNKNOWN))
    revival = Revival("", 1.0, NOW + 1000.0, NOW + 1.0)
    one.store.begin()
    one.store.apply_all([ResolveAsRetry("email", job.id, "ada", revival)])
    with ThreadPoolExecutor(1) as thread:
        purged = thread.submit(two.run, Purge("", "", NOW + 1e6, 100, NOW + 2e6))
        one.store.commit()
        assert purged.result(20).gone == {}

    assert one.job_row(job) is not None
    assert recount(one.connection) == []


def test_who_was_away_himself_gives_nobody_up(one, two, admin):
    """A server that was frozen longer than a lease: the first to be heard knows no more."""
    admin.execute("UPDATE nodes SET seen_at = seen_at - 40, lease_until = lease_until - 40")

    found = beat(one, buries_after_s=5.0)

    assert found.buried == []
    assert found.gap_s > 30.0


def test_a_node_of_another_version_is_listed_all_the_same(one, two, admin):
    """It may tell more of itself, or less."""
    admin.execute("""UPDATE nodes SET about = '{"id": "two", "new": 1}' WHERE node = 'two'""")

    assert [node.id for node in beat(one).nodes] == ["one", "two"]


# --- upkeep ----------------------------------------------------------------------------------


async def test_what_is_to_be_cleaned_up_and_what_keeps_it_is_told(one, admin, snapshots):
    """A transaction that somebody leaves open keeps the dead rows of a queue alive."""
    reader = Reader(snapshots)
    with psycopg.connect(one.store._url) as forgotten:
        forgotten.execute("SELECT 1")
        found = await reader.upkeep()
    reader.close()

    assert found.oldest_transaction_s > 0.0
    assert set(found.dead_rows) >= {"jobs", "notifications", "counts", "flows", "idempotency"}
