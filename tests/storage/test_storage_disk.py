"""A disk that really fails: the kernel refuses to let the files grow, and relents."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from clarion.storage.recount import recount


@pytest.fixture
def backend():
    """This is about SQLite alone."""
    return "sqlite"


FILL_AND_RECOVER = """
import json, resource, signal, sys
from clarion.domain.notification import Call, Content, Delivery, Draft, Job, JobState, Priority
from clarion.domain.notification import ProviderCall, Status
from clarion.storage.command import Accept, Intend, Load, Settle
from clarion.storage.sqlite_store import SqliteStore
from clarion.storage.writer import Writer

# A file that may not grow is reported by a signal first; ignored, write() fails with EFBIG.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
now, states, done = [100.0], [], []
store = SqliteStore(sys.argv[1], now=lambda: 1.0)
store.open()
writer = Writer(store, on_done=done.extend, post=lambda news: news(),
                on_state=lambda *state: states.append(state), monotonic=lambda: now[0])

def job(number):
    content = Content("ada@example.com", text="x" * 2000)
    return Job(f"{number:026d}", "email", content, Priority.NORMAL, "", float(number),
               JobState.READY, 1.0, 2.0, Delivery.AT_LEAST_ONCE)

def submit(command):
    before = len(done)
    writer.submit(command)
    writer.run_once()
    return done[before:]

def accept(each):
    return submit(Accept("email", [Draft("email", each.content)], [each]))[0].error is None

first = job(0)
assert accept(first)
submit(Intend("email", [Call(first, 1, "alpha")], 1.0))

unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited[1]))
accepted = [first.id]
for number in range(1, 500):
    if accept(job(number)):
        accepted.append(f"{number:026d}")
    else:
        break
refusal = str(done[-1].error)
record = ProviderCall(first.id, 1, "alpha", "accepted", "http_202", "", 1.0, 1.1)
owed = submit(Settle("email", first, 1, Status.SENT, None, 1.1, record))
read = submit(Load("sms", 10, 5.0, 10))
kept = writer.pending
now[0] += 1.0
writer.run_once()
kept_after_a_try = writer.pending

resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
now[0] += 1.0
writer.run_once()
recovered = writer.is_writable and done[-1].result is True
again = job(900)
if accept(again):
    accepted.append(again.id)
assert writer.close(10.0)
store.close()
print(json.dumps({
    "accepted": accepted, "refusal": refusal, "owed": len(owed), "read": read[0].error is None,
    "kept": [kept, kept_after_a_try], "recovered": recovered, "states": states,
}))
"""


@pytest.fixture
def told(path):
    result = subprocess.run(
        [sys.executable, "-c", FILL_AND_RECOVER, str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_files_that_may_not_grow_are_a_state_that_ends(told, open_desk):
    """Accepts are refused, the settlement is kept, and all is written once there is room."""
    assert told["refusal"].startswith("nothing can be stored now: the disk ")
    assert (told["owed"], told["kept"]) == (0, [1, 1])
    assert told["read"], "another lane can load meanwhile"
    assert told["recovered"]
    assert [is_writable for is_writable, _ in told["states"]] == [False, True]

    desk = open_desk()

    stored = [row["id"] for row in desk.rows("SELECT id FROM notifications ORDER BY id")]
    assert stored == told["accepted"], "what was refused is not there, what was accepted is"
    assert len(stored) > 2
    assert desk.counts() == {
        "accepted": len(stored),
        "queued": len(stored) - 1,
        "sent": 1,
    }
    assert recount(desk.connection) == []
    assert desk.rows("PRAGMA integrity_check")[0]["integrity_check"] == "ok"
