"""What was acknowledged is there after kill -9; of power cuts see `tests/chaos`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from clarion.storage.recount import recount
from clarion.storage.sqlite_store import SqliteStore

WRITE_AND_TELL = """
import sys, threading
from clarion.domain.notification import Content, Delivery, Draft, Job, JobState, Priority
from clarion.storage.command import Accept
from clarion.storage.sqlite_store import SqliteStore
from clarion.storage.writer import Writer

def tell(batch):
    for done in batch:
        print(done.command.jobs[0].id, flush=True)

store = SqliteStore(sys.argv[1])
store.open()
writer = Writer(store, on_done=tell, post=lambda news: news(), on_state=print, max_batch=16)
writer.start()
room = threading.Semaphore(0)
for number in range(1_000_000):
    content = Content("ada@example.com", text="x" * 200)
    job = Job(f"{number:026d}", "email", content, Priority.NORMAL, "", float(number),
              JobState.READY, 1.0, 2.0, Delivery.AT_LEAST_ONCE)
    writer.submit(Accept("email", [Draft("email", content)], [job]))
    while writer.pending > 64:
        room.acquire(timeout=0.001)
"""


@pytest.mark.parametrize("told", [1, 150, 400])
def test_what_was_acknowledged_outlives_kill_9(path, told):
    """Each id that was told is there afterwards, and the counts agree with the rows."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_TELL, str(path)], stdout=subprocess.PIPE, text=True
    )
    acknowledged = [process.stdout.readline().strip() for _ in range(told)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=30)
    # The last line may be cut: only whole ids were told.
    acknowledged += [line for line in rest.split("\n") if len(line) == 26]

    store = SqliteStore(str(path))
    store.open()
    stored = {id for (id,) in store.connection.execute("SELECT id FROM jobs")}
    differences = recount(store.connection)
    [(verdict,)] = store.connection.execute("PRAGMA integrity_check")
    store.close()

    assert len(acknowledged) >= told
    assert set(acknowledged) <= stored
    assert differences == []
    assert verdict == "ok"
