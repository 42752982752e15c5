"""What PostgreSQL asks of those who use it: one writer, sessions that break, commits in doubt."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import string
import threading
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

from clarion.domain.address import MAX_TOKEN_BYTES, MAX_URL
from clarion.domain.notification import Content
from clarion.domain.submission import MAX_KEY, MAX_NAME
from clarion.errors import ClarionError, StorageUnavailable, StoreLocked, StoreTaken
from clarion.storage import acceptance, bulk, delivery, ending, lane, membership, search, sweep
from clarion.storage.backend import open_store
from clarion.storage.command import Accept, Load
from clarion.storage.failure import storage_failure
from clarion.storage.postgresql import LOCK, session, shown
from clarion.storage.postgresql_snapshots import RECONNECT_S, PostgresqlSnapshots
from clarion.storage.reader import Reader
from clarion.storage.recount import recount
from clarion.storage.url import url_fault
from clarion.storage.writer import Writer


@pytest.fixture
def backend():
    """This is about PostgreSQL alone."""
    return "postgresql"


@pytest.fixture
def admin(postgresql_url):
    """A session of somebody who may do anything."""
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        yield connection


def break_session(admin, desk):
    """End the desk's session as a server does that is shut down."""
    pid = desk.connection.info.backend_pid
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_a_second_process_is_refused_in_plain_words(desk, url):
    """It says where the database is, who has it, and what to do; nothing secret."""
    with pytest.raises(StoreLocked) as refused:
        open_store(url).open()

    told = str(refused.value)
    assert "is in use by another process of this host" in told
    assert "storage.node" in told


def test_a_database_that_was_left_is_free(desk, url, open_desk):
    """The lock goes with the session; what was written stays."""
    job = desk.accepted()
    desk.store.close()

    assert open_desk().job_row(job) is not None


def test_a_broken_session_is_a_state_that_ends(desk, admin):
    """The command fails as on a full disk, and the next one goes over a new session."""
    job = desk.accepted()
    break_session(admin, desk)

    with pytest.raises(psycopg.Error) as broken:
        desk.accepted()
    assert "closed the connection" in storage_failure(broken.value)

    desk.intend(job)
    assert desk.counts() == {"accepted": 1, "sending": 1}
    assert recount(desk.connection) == []


def test_what_another_process_wrote_meanwhile_shuts_out_the_first(desk, admin, url):
    """Its memory is of a time before; going on from it would send again what was sent."""
    desk.accepted()
    break_session(admin, desk)
    with pytest.raises(psycopg.Error):
        desk.accepted()

    other = open_store(url)
    other.open()
    other.close()

    with pytest.raises(StoreTaken, match="restart this one"):
        desk.accepted()


def test_who_finds_another_in_its_place_knows_that_it_is_taken(desk, admin, url):
    """The other still has the lock: to wait for it would be in vain."""
    break_session(admin, desk)
    with pytest.raises(psycopg.Error):
        desk.accepted()
    other = open_store(url)
    other.open()
    try:
        with pytest.raises(StoreTaken):
            desk.store.probe()
    finally:
        other.close()


def test_a_lock_that_the_last_session_left_is_waited_for(desk, admin, url):
    """Nobody has written since, so nobody is asked to stop anything."""
    break_session(admin, desk)
    with pytest.raises(psycopg.Error):
        desk.accepted()
    admin.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", (LOCK,))

    with pytest.raises(StorageUnavailable, match="still keeps the lock"):
        desk.store.probe()

    admin.execute("SELECT pg_advisory_unlock_all()")
    desk.store.probe()
    desk.accepted()


def test_a_session_that_lived_through_a_promotion_is_checked(desk, admin):
    """It was only reading on a standby while another process wrote to the primary."""
    admin.execute("UPDATE nodes SET incarnation = 'another'")

    with pytest.raises(StoreTaken):
        desk.store.probe()


def test_a_trial_shuts_nobody_out(desk, admin, url):
    """`clarion check` in the moment in which a server connects again."""
    break_session(admin, desk)
    with pytest.raises(psycopg.Error):
        desk.accepted()

    open_store(url).try_out()

    desk.accepted()
    assert admin.execute("SELECT count(*) FROM nodes").fetchone() == (1,)


def test_a_probe_needs_no_right_that_the_store_does_not(desk):
    """A server may forbid temporary tables: it would be found well by no probe."""
    desk.store.probe()

    assert desk.execute("SELECT pg_my_temp_schema()::int").fetchone() == (0,)


def test_a_reader_does_not_wait_for_a_server_that_is_away(desk, admin):
    """Each would wait for the connection anew; the probe tries it once for all."""
    desk.accepted()
    break_session(admin, desk)
    with pytest.raises(psycopg.Error):
        desk.accepted()

    with pytest.raises(StorageUnavailable, match="is lost"):
        desk.store.read(Load("email", 10, desk.now, 10))

    desk.store.probe()
    assert desk.store.read(Load("email", 10, desk.now, 10)).depth["queued"] == 1


def test_the_writer_tells_once_that_the_store_is_taken(desk, admin):
    """Whoever runs it has to end: no retry can help."""
    told, now = [], [0.0]
    writer = Writer(
        desk.store,
        on_done=lambda done: None,
        post=lambda call: call(),
        on_state=lambda *_: None,
        on_taken=lambda: told.append("taken"),
        monotonic=lambda: now[0],
    )
    admin.execute("UPDATE nodes SET incarnation = 'another'")
    break_session(admin, desk)
    writer.submit(desk.acceptance(desk.job()))
    for _ in range(3):
        writer.run_once()
        now[0] += 1.0

    assert told == ["taken"]


def test_a_silent_network_is_not_waited_for_as_long_as_the_kernel_likes(desk, url):
    """Where the URL says nothing else."""
    found = desk.connection.info.get_parameters()
    assert (found["keepalives_idle"], found["tcp_user_timeout"]) == ("10", "25000")

    other = session(f"{url}&keepalives_idle=77", "x")
    assert "keepalives_idle" not in other
    assert other["tcp_user_timeout"] == 25_000


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_does_not_hold_every_text_is_refused(postgresql_server, encoding):
    """At the start, not at the first emoji, and with what to do."""
    name = f"clarion_test_{encoding.lower()}"
    with psycopg.connect(postgresql_server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        try:
            store = open_store(in_database(postgresql_server, name))
            with pytest.raises(ClarionError, match=f"is encoded in {encoding}.*; create it anew"):
                store.open()
        finally:
            admin.execute(f"DROP DATABASE {name}")


def in_database(url, name):
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def test_a_schema_that_is_put_before_the_tables_does_not_let_a_second_one_in(desk, admin, url):
    """A schema with the user's name comes first by itself, as soon as somebody makes it."""
    name = f"{admin.execute('SELECT current_schema()').fetchone()[0]}_before"
    admin.execute(f"CREATE SCHEMA {name}")
    try:
        with pytest.raises(StoreLocked, match="is in use by another process"):
            open_store(url.replace("search_path%3D", f"search_path%3D{name},")).open()
    finally:
        admin.execute(f"DROP SCHEMA {name}")


@pytest.mark.parametrize(
    ("user", "database", "told"),
    [
        ("", "nothing", 'refuses the session .*FATAL: +database "nothing"'),
        ("nobody:secret", "", 'refuses the session .*FATAL: .*"nobody"'),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words(postgresql_server, user, database, told):
    """Who reads it knows that the network is well."""
    parts = urlsplit(postgresql_server)
    known_user, _, host = parts.netloc.rpartition("@")
    parts = parts._replace(
        netloc=f"{user or known_user}@{host}", path=f"/{database}" if database else parts.path
    )
    url = urlunsplit(parts)

    with pytest.raises(StorageUnavailable, match=told) as refused:
        open_store(url).open()

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("-c search_path=nowhere", "the schema that search_path names is not there"),
        ("-c default_transaction_read_only=on", "the database server is read-only"),
    ],
)
def test_a_place_in_which_nothing_can_be_made_is_told(postgresql_server, options, told):
    """At the start, and by `clarion check`."""
    url = f"{postgresql_server}{'&' if '?' in postgresql_server else '?'}options={quote(options)}"

    with pytest.raises(StorageUnavailable, match=told):
        open_store(url).open()
    with pytest.raises(StorageUnavailable, match=told):
        open_store(url).try_out()


class CutWire:
    """Loses the answer to a COMMIT: the server gets it, and the session breaks."""

    def __init__(self, connection, admin, *, is_heard):
        self._connection = connection
        self._admin = admin
        self._is_heard = is_heard

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, values=()):
        if sql != "COMMIT":
            return self._connection.execute(sql, values)
        if self._is_heard:
            self._connection.execute("COMMIT")
        pid = self._connection.info.backend_pid
        self._admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        raise psycopg.OperationalError("the answer is lost")


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_commit_whose_answer_is_lost_is_looked_up(desk, admin, is_heard):
    """Whether it was made is known at once when the server is back."""
    job = desk.job()
    desk.store._connection = CutWire(desk.connection, admin, is_heard=is_heard)
    with pytest.raises(psycopg.OperationalError):
        desk.accept(job)
    assert desk.store.is_in_doubt

    desk.store.probe()

    assert not desk.store.is_in_doubt
    assert desk.store.was_made() is is_heard
    assert (desk.job_row(job) is not None) is is_heard


def test_a_commit_that_the_server_forgot_was_not_made(desk, admin):
    """A server that crashed, or a standby, gives its transaction's id to somebody else."""
    job = desk.job()
    desk.store._connection = CutWire(desk.connection, admin, is_heard=False)
    with pytest.raises(psycopg.OperationalError):
        desk.accept(job)
    for _ in range(20):
        admin.execute("SELECT pg_current_xact_id()")

    desk.accept(job)

    assert desk.store.was_made() is False
    assert desk.job_row(job) is not None


def test_a_transaction_that_writes_nothing_leaves_no_mark(desk, admin):
    """To look into the lanes costs no write."""
    desk.accepted()
    marks = "SELECT last_commit FROM nodes WHERE node = 'local'"
    before = admin.execute(marks).fetchone()

    desk.load()

    assert admin.execute(marks).fetchone() == before


class Hearer:
    """A writer on the desk's store, whose clock goes when it is told, and what it tells."""

    def __init__(self, desk):
        self.news = []
        self.now = 0.0
        self.writer = Writer(
            desk.store,
            on_done=self.hear,
            post=lambda call: call(),
            on_state=lambda is_good, _reason: self.news.append(is_good),
            monotonic=lambda: self.now,
        )

    def hear(self, done):
        self.news += [each.result if each.error is None else "refused" for each in done]

    def write(self, *commands):
        for each in commands:
            self.writer.submit(each)
        self.writer.run_once()
        self.now += 1.0


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_commit_in_doubt_is_told_when_it_is_known(desk, admin, is_heard):
    """Neither as failed, which may be wrong, nor twice: an intent would never be a call."""
    job, later = desk.accepted(), desk.job()
    hearer = Hearer(desk)
    desk.store._connection = CutWire(desk.connection, admin, is_heard=is_heard)
    intent = desk.intent(job)

    hearer.write(intent)
    assert (hearer.news, hearer.writer.pending) == ([False], 1)
    hearer.write(desk.acceptance(later))

    intended, accepted = hearer.news[2:]
    assert hearer.news[:2] == [False, True]
    assert intended == intent.calls
    assert [row.job for row in accepted] == [later]
    assert desk.counts() == {"accepted": 2, "queued": 1, "sending": 1}
    assert recount(desk.connection) == []


def test_a_doubt_that_outlives_the_process_is_told_as_no_success(desk, admin):
    """Whoever asked must not wait for an answer that nobody can give."""
    hearer = Hearer(desk)
    desk.store._connection = CutWire(desk.connection, admin, is_heard=True)
    hearer.write(desk.acceptance(desk.job()))
    admin.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", (LOCK,))

    assert not hearer.writer.close(1.0)

    assert hearer.news == [False, "refused"]


def test_a_text_that_the_server_refuses_takes_nobody_with_it(desk):
    """A NUL cannot come in by a door; were one there, its command alone would fail."""
    good, bad = desk.job(), desk.job(flow="\0")
    done = []
    writer = Writer(
        desk.store, on_done=done.extend, post=lambda call: call(), on_state=lambda *_: None
    )
    for job in (good, bad):
        writer.submit(Accept("email", [desk.draft(job)], [job]))
    writer.run_once()

    assert [each.error is None for each in done] == [True, False]
    assert desk.job_row(good) is not None


def test_a_text_too_long_for_an_index_takes_nobody_with_it(desk):
    """It is the fault of one command: the server is well, and says so with an operational error."""
    chars = random.Random(1).choices(string.ascii_letters, k=4000)
    good, bad = desk.job(), desk.job(content=Content(to="".join(chars), text="Hi"))
    done, states = [], []
    writer = Writer(
        desk.store,
        on_done=done.extend,
        post=lambda call: call(),
        on_state=lambda *state: states.append(state),
    )
    for job in (bad, good):
        writer.submit(desk.acceptance(job))
    writer.run_once()

    assert [each.error is None for each in done] == [False, True]
    assert states == []


def test_the_longest_texts_that_come_in_fit_into_their_indices(desk):
    """What a door lets in, no database may refuse."""
    random_text = random.Random(1)

    def text(n, size_bytes):
        first = {1: 0x21, 4: 0x1F300}[size_bytes]
        return "".join(chr(first + random_text.randrange(90)) for _ in range(n))

    name = text(MAX_NAME, 4)
    to = max(text(MAX_TOKEN_BYTES, 1), text(MAX_URL, 1), key=len)
    job = desk.job(content=Content(to=to, text="Hi"), flow=name, tenant=name, reference=name)
    draft = desk.draft(
        job, tenant=name, idempotency_key=text(MAX_KEY, 4), fingerprint="f", reference=name
    )
    desk.run(Accept("email", [draft], [job]))

    assert desk.record_row(job)["to_address"] == to


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("25P03", "stood still"),
        ("42P01", "a table is not there"),
        ("XX001", "the database is damaged"),
        ("57P01", "closed the connection"),
        ("08006", "cannot be reached"),
        ("54000", None),
        ("22021", None),
    ],
)
def test_trouble_of_the_server_is_told_from_the_fault_of_a_command(code, told):
    """The classes of the driver do not say it: a lost session may be an `InternalError`."""
    reason = storage_failure(psycopg.errors.lookup(code)("something"))

    assert reason is None if told is None else told in reason


def test_a_transaction_that_stood_still_is_trouble_of_the_server(desk, admin):
    """A machine that slept: the settle behind it keeps its story, over a new session."""
    job = desk.sending()
    desk.execute("SET idle_in_transaction_session_timeout = 1")  # ms
    desk.store.begin()
    pid = desk.connection.info.backend_pid
    while admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone():
        pass

    with pytest.raises(psycopg.Error) as broken:
        desk.store.apply(desk.settlement(job))
    desk.store.rollback()

    assert storage_failure(broken.value) is not None
    desk.run(desk.settlement(job))
    assert desk.counts()["sent"] == 1


def test_a_newer_schema_is_refused(desk, open_desk):
    """An older Clarion would write what the newer one does not understand."""
    (version,) = desk.execute("SELECT version_num FROM alembic_version").fetchone()
    desk.execute("UPDATE alembic_version SET version_num = '9999'")
    desk.store.close()
    try:
        with pytest.raises(ClarionError, match="newer version"):
            open_desk()
    finally:
        with psycopg.connect(desk.store._url, autocommit=True) as connection:
            connection.execute("UPDATE alembic_version SET version_num = %s", (version,))


def test_a_server_that_is_away_is_named_without_its_password():
    """Who reads the log has to know which server, not how to get in."""
    url = "postgresql://ada:secret@127.0.0.1:1/clarion"

    with pytest.raises(StorageUnavailable) as away:
        open_store(url).open()

    assert "clarion at 127.0.0.1:1" in str(away.value)
    assert "secret" not in str(away.value)
    assert shown(url) == "clarion at 127.0.0.1:1"


def test_a_url_that_is_none_is_a_fault_without_its_password():
    """libpq repeats what it did not understand."""
    fault = url_fault("postgresql://ada:secret@host:port:wrong/x?nonsense=1")

    assert fault is not None
    assert "secret" not in fault


def test_acknowledged_is_written_whatever_the_server_is_set_to(desk, admin, url):
    """A server may answer before it has written; ours is told not to."""
    desk.store.close()
    (user,) = admin.execute("SELECT current_user").fetchone()
    admin.execute(f'ALTER ROLE "{user}" SET synchronous_commit = off')
    try:
        store = open_store(url)
        store.open()
        assert store.connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        store.close()
    finally:
        admin.execute(f'ALTER ROLE "{user}" RESET synchronous_commit')


@pytest.mark.parametrize("url", ["u:pa/ss@h/db", "u:p@ss@h/db", "u:p@/ss@h/db"])
def test_a_password_that_is_not_written_as_urls_want_is_not_told_as_a_name(url):
    """libpq takes the rest of it for a host or a database, and everybody would tell that."""
    assert "%40" in url_fault(f"postgresql://{url}")


# --- the pool --------------------------------------------------------------------------------


@pytest.fixture
def pool(desk, url):
    pool = PostgresqlSnapshots(url, least=1, most=2)
    yield pool
    pool.close()


def test_a_pool_that_is_used_up_says_so(pool):
    """A bounded wait, and an error that says which bound and what to do."""
    with (
        pool.snapshot(5.0),
        pool.snapshot(5.0),
        pytest.raises(StorageUnavailable, match=r"all 2 connections .* raise storage.pool_max"),
        pool.snapshot(0.1),
    ):
        pass

    state = pool.state()
    assert (state.used, state.waiting) == (0, 0)
    assert state.waited_s >= 0.05


async def test_as_many_ask_at_once_as_the_pool_is_large_and_the_next_hears_why_not(desk, url):
    """The bound that the settings name is the one that is met, and the error names it."""
    snapshots = PostgresqlSnapshots(url, least=1, most=4)
    reader = Reader(snapshots, timeout_s=2.0)
    is_asked, is_over = threading.Semaphore(0), threading.Event()

    def hold(_connection):
        is_asked.release()
        is_over.wait(10.0)

    holding = [asyncio.create_task(reader._ask(hold)) for _ in range(4)]
    for _ in holding:
        assert await asyncio.to_thread(is_asked.acquire, timeout=10.0)
    try:
        with pytest.raises(
            StorageUnavailable, match=r"all 4 connections .* raise storage.pool_max"
        ):
            await reader.get("nope")
    finally:
        is_over.set()
        await asyncio.gather(*holding, return_exceptions=True)
        reader.close()


def test_a_pool_whose_server_is_away_does_not_call_itself_too_small():
    """Larger, it would have no more connections."""
    pool = PostgresqlSnapshots("postgresql://ada:secret@127.0.0.1:1/clarion", least=1, most=4)
    with pytest.raises(StorageUnavailable) as away, pool.snapshot(0.4):
        pass
    state = pool.state()
    pool.close()

    assert str(away.value) == "clarion at 127.0.0.1:1 gave no connection within 0.2 s"
    assert state.used == 0


def test_a_pool_goes_on_to_try_within_the_patience_of_who_asks():
    """A try is given up, and the next one begun, before the pauses between them grow long."""
    patience_s = inspect.signature(Reader).parameters["timeout_s"].default

    assert patience_s / 2 > RECONNECT_S


def test_a_pool_that_is_closed_is_a_store_that_cannot_be_read(pool):
    """A question that comes as the process ends."""
    with pool.snapshot(5.0):
        pass
    pool.close()

    with pytest.raises(StorageUnavailable, match="cannot be read"), pool.snapshot(1.0):
        pass


def test_whoever_waits_gets_the_next_connection(pool):
    """Nobody is refused who can be served in time."""
    served = threading.Event()
    with pool.snapshot(5.0), pool.snapshot(5.0):

        def ask():
            with pool.snapshot(10.0):
                served.set()

        waiting = threading.Thread(target=ask)
        waiting.start()
    waiting.join(10.0)

    assert served.is_set()


def test_connections_that_broke_while_they_were_idle_are_noticed_by_nobody(pool, admin):
    """Not even the time that it takes to see it: no pause between one and the next."""
    with pool.snapshot(5.0) as one, pool.snapshot(5.0) as other:
        pids = {one.info.backend_pid, other.info.backend_pid}
    for _ in range(3):
        for pid in pids:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with pool.snapshot(4.0) as one, pool.snapshot(4.0) as other:
            fresh = {one.info.backend_pid, other.info.backend_pid}
        assert not fresh & pids
        pids = fresh


def test_a_snapshot_cannot_write(pool):
    """Everything that writes goes one way."""
    with pytest.raises(StorageUnavailable, match="read-only"), pool.snapshot(5.0) as connection:
        connection.execute("DELETE FROM jobs")


# --- plans -----------------------------------------------------------------------------------

PLANS = [
    (lane.LOAD_READY, "jobs_ready"),
    (lane.CLAIM_READY, "jobs_ready"),
    (lane.CLAIM_READY, "jobs_pkey"),
    (lane.CLAIM_TIMED, "jobs_timed"),
    (lane.LOAD_CLAIMED, "jobs_pkey"),
    (membership.GIVE_READY_AWAY, "jobs_ready"),
    (membership.GIVE_TIMED_AWAY, "jobs_timed"),
    (membership.FIND_UNCLAIMED, "jobs_ready"),
    (membership.FIND_UNCLAIMED_TIMERS, "jobs_timed"),
    (lane.LOAD_SENDING, "jobs_sending"),
    (lane.LOAD_TIMED, "jobs_timed"),
    (lane.NEXT_TIMER, "jobs_timed"),
    (lane.COUNT_TIMED, "jobs_timed"),
    (delivery.INTEND_QUEUED, "jobs_pkey"),
    (delivery.DEFER, "jobs_pkey"),
    (bulk.INTEND.statements[8], "jobs_pkey"),
    (bulk.END_NOTIFICATIONS.statements[8], "notifications_pkey"),
    (bulk.CALLED_JOBS.statements[8], "jobs_pkey"),
    (bulk.DELETE_JOBS.statements[8], "jobs_pkey"),
    (ending.FIND_EXPIRED_BY_CHOICE, "jobs_expiry"),
    (ending.FIND_EXPIRED_BY_DEFAULT, "jobs_pkey"),
    (acceptance.FIND_KEY, "idempotency_pkey"),
    (sweep.FIND_SENDING, "jobs_sending"),
    (sweep.FIND_FIRST_STAMP, "jobs_ready"),
    (search.GET, "notifications_pkey"),
    (search.dead_letters(frozenset()).statement, "notifications_dead"),
    (search.search(frozenset({"to"}), None).statement, "notifications_to"),
]


FILL = """\
INSERT INTO notifications (id, channel, to_address, content, priority, delivery, correlation_id,
    status, attempts, created_at, updated_at, expires_at)
SELECT to_char(i, 'FM0000000'), 'email', 'a' || i, '{}', 2, 'at_least_once', '',
    CASE WHEN i <= 5000 THEN 'queued' WHEN i % 50 = 0 THEN 'failed' ELSE 'sent' END, 0, i, i, i
FROM generate_series(1, 20000) AS i;
INSERT INTO jobs (id, channel, priority, flow, vt, state, due_at, call, attempt, expires_at,
    is_expiry_explicit, delivery, probes, bugs, restarts, node)
SELECT to_char(i, 'FM0000000'), 'email', 2, '', i,
    CASE WHEN i <= 20 THEN 2 WHEN i <= 600 THEN 1 ELSE 0 END,
    CASE WHEN i > 20 AND i <= 600 THEN i END, 0, 0, i,
    CASE WHEN i % 100 = 0 THEN 1 ELSE 0 END, 'at_least_once', 0, 0, 0,
    CASE WHEN i % 20 = 0 THEN '' ELSE 'node ' || i % 20 END
FROM generate_series(1, 5000) AS i;
INSERT INTO idempotency SELECT '', 'k' || i, '', '', '', i FROM generate_series(1, 5000) AS i"""


@pytest.fixture
def filled(desk):
    """Some thousand rows in every state, of which the planner knows."""
    for statement in FILL.split(";"):
        desk.connection.execute(statement)
    desk.connection.execute("ANALYZE notifications, jobs, idempotency")
    desk.connection.execute("SET plan_cache_mode = force_generic_plan")
    return desk.connection


def test_statements_use_their_indices(filled):
    """What is hot or grows is never read whole."""
    wrong = []
    for statement, index in PLANS:
        places = {int(number) for number in re.findall(r"\$(\d+)", statement.postgresql)}
        given = f"({', '.join(['NULL'] * len(places))})" if places else ""
        filled.execute(f"PREPARE asked AS {statement.postgresql}")
        rows = filled.execute(f"EXPLAIN EXECUTE asked{given}").fetchall()
        filled.execute("DEALLOCATE asked")
        plan = "\n".join(row[0] for row in rows)
        if index not in plan or "Seq Scan" in plan:
            wrong.append(f"{statement.postgresql}\n{plan}")

    assert wrong == []
