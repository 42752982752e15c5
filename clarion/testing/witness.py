"""Who sees every move of every notification in a simulated store, and compares it with the rules.

Triggers that live in the writing connection alone name the rows that a transaction touched; after
each commit their statuses are looked up. No status may come after one that does not lead there,
and `counts` has to agree with what was seen at every commit, not only in the end.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable

from clarion.domain.notification import MOVES, JobState, Status
from clarion.storage.transaction import ACCEPTED

_WRITES = {
    "inserted_record": ("INSERT ON main.notifications", "new"),
    "moved_record": ("UPDATE OF status ON main.notifications", "new"),
    "inserted_job": ("INSERT ON main.jobs", "new"),
    "moved_job": ("UPDATE OF state ON main.jobs", "new"),
    "deleted_job": ("DELETE ON main.jobs", "old"),
}
"""Of each trigger: after what, and which row has the id."""
_STANDING = """SELECT n.channel, n.status, j.state
FROM notifications n LEFT JOIN jobs j ON j.id = n.id WHERE n.id = ?"""
_COUNTS = "SELECT channel, status, sum(n) FROM counts GROUP BY channel, status"


def _reachable(status: Status) -> frozenset[Status]:
    """Return what a status may become in some moves: one commit may hold more than one."""
    found: set[Status] = set()
    ahead = [status]
    while ahead:
        news = MOVES[ahead.pop()] - found
        found |= news
        ahead.extend(news)
    return frozenset(found)


REACHABLE = {status: _reachable(status) for status in Status}


class Witness:
    """Remembers how every notification stands, over all lives of the process."""

    def __init__(self, note: Callable[[str], None], accuse: Callable[[str], None]) -> None:
        self.statuses: dict[str, Status] = {}
        """Notification id -> its status as of the last commit."""
        self._note = note
        self._accuse = accuse
        self._counted = Counter[tuple[str, str]]()
        # Not a set: its order would change from process to process.
        self._touched: dict[str, None] = {}

    @property
    def live(self) -> int:
        """How many have not ended."""
        return sum(status.is_live for status in self.statuses.values())

    def watch(self, connection: sqlite3.Connection) -> None:
        """See what this connection writes from now on."""
        connection.create_function("clarion_touched", 1, self._see)
        for name, (write, row) in _WRITES.items():
            connection.execute(
                f"CREATE TEMP TRIGGER {name} AFTER {write}"
                f" BEGIN SELECT clarion_touched({row}.id); END"
            )

    def _see(self, id: str) -> None:
        self._touched[id] = None

    def begun(self) -> None:
        """Forget what a transaction touched that came to nothing."""
        self._touched.clear()

    def committed(self, connection: sqlite3.Connection) -> None:
        """Look at what the commit changed."""
        if not self._touched:
            return
        for id in self._touched:
            row = connection.execute(_STANDING, (id,)).fetchone()
            if row is None:
                self._accuse(f"{id} was written and is gone")
            else:
                channel, status, state = row
                self._move(id, channel, Status(status) if state is None else JobState(state).status)
        self._touched.clear()
        self._compare(connection)

    def _move(self, id: str, channel: str, new: Status) -> None:
        old = self.statuses.get(id)
        if old is new:
            return
        self.statuses[id] = new
        self._counted[channel, new] += 1
        if old is None:
            self._counted[channel, ACCEPTED] += 1
            self._note(f"{id} is {new}")
            return
        self._counted[channel, old] -= 1
        self._note(f"{id} {old} -> {new}")
        if new not in REACHABLE[old]:
            self._accuse(f"{id} moved back from {old} to {new}")

    def _compare(self, connection: sqlite3.Connection) -> None:
        counts = Counter({(each[0], each[1]): each[2] for each in connection.execute(_COUNTS)})
        if counts != self._counted:
            wrong = {
                pair: (counts[pair], self._counted[pair])
                for pair in sorted(counts.keys() | self._counted.keys())
                if counts[pair] != self._counted[pair]
            }
            self._accuse(f"counts do not agree with the rows (counted, seen): {wrong}")
            # Said once: the next commit is compared with what there is.
            self._counted = counts
