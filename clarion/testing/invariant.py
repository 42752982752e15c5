"""What must be true of a simulated world, whatever happened in it.

Each check reads the rows, the accounts' ledgers or the logs, and accuses the world of its finds.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from clarion.domain.notification import Delivery, Reason, Status
from clarion.service import Service
from clarion.storage.recount import recount
from clarion.storage.sqlite import connect_reader
from clarion.testing.call_invariant import examine_calls
from clarion.testing.simulated_receipt import GOOD
from clarion.testing.simulation import Simulation

_TAKEN = {Status.SENT, Status.DELIVERED, Status.UNDELIVERED}
_SURELY_NOT_TAKEN = {Status.FAILED, Status.EXPIRED, Status.CANCELLED}
_EXPECTED = frozenset({
    "actor_restart_planned", "actor_over_budget", "supervisor_crashed", "giving_up",
    "breaker_changed", "breaker_open", "breaker_close", "breaker_reset",
    "provider_misconfigured", "provider_configured", "provider_enabled", "provider_disabled",
    "lane_paused", "lane_running", "lane_held", "lane_resumed",
    "storage_unavailable", "storage_recovered", "send_bug",
    "drain_again", "drain_incomplete", "messages_lost", "journal_silent", "start_incomplete",
    "flush_incomplete", "stop_overdue", "clock_set_back",
})  # fmt: skip
"""Events that chaos brings about; any other one is a bug."""
_CRASHES = ("InjectedCrash", "StorageUnavailable", "TimedOut('journal did not answer Load")
"""What an actor may crash of: on purpose, or while its start cannot read the disk."""


def examine(world: Simulation) -> list[str]:
    """Make every check that holds at the end of a world, and return all violations."""
    connection = connect_reader(world.path)
    connection.row_factory = sqlite3.Row
    try:
        rows = {row["id"]: row for row in connection.execute("SELECT * FROM notifications")}
        for check in _CHECKS:
            check(world, rows)
        if connection.execute("SELECT count(*) FROM jobs").fetchone()[0]:
            world.accuse("jobs are left")
        examine_calls(world, rows, connection)
    finally:
        connection.close()
    if world.has_to_end and not world.is_over:
        world.accuse("something has not ended")
    reconcile(world)
    _check_logs(world)
    return world.violations


def reconcile(world: Simulation) -> None:
    """Check `counts` against the rows, at any moment."""
    connection = connect_reader(world.path)
    try:
        for difference in recount(connection):
            world.accuse(f"counts do not reconcile: {difference}")
    finally:
        connection.close()


def has_running_redrive(world: Simulation) -> bool:
    """Whether some redrive has not ended."""
    connection = connect_reader(world.path)
    try:
        found = connection.execute("SELECT 1 FROM redrives WHERE state = 'running' LIMIT 1")
        return found.fetchone() is not None
    finally:
        connection.close()


async def look(world: Simulation, service: Service) -> None:
    """Check, of a process that lives, that each lane keeps in memory what it may and no more."""
    settings = world.settings
    for lane in await service.queues():
        n = getattr(lane, "in_memory", 0)
        bound = settings.queue.max_in_memory + sum(
            settings.providers[name].max_concurrent
            for name in settings.channels[lane.channel].providers
        )
        if n > bound:
            world.accuse(f"the lane {lane.channel} holds {n} in memory, {bound} allowed")


Rows = Mapping[str, Any]


def _check_kept(world: Simulation, rows: Rows) -> None:
    for id in world.promised:
        if id not in rows:
            world.accuse(f"{id} was accepted and is gone")
    for id, row in rows.items():
        if Status(row["status"]).is_live:
            world.accuse(f"{id} ({row['channel']}) has not ended: {row['status']}")


def _check_acceptances(world: Simulation, rows: Rows) -> None:
    taken = Counter[str]()
    for account in world.accounts.values():
        taken.update(account.taken)
    for id, n in taken.items():
        if id not in rows:
            world.accuse(f"{id} was sent and is nowhere on disk")
        elif n > 1:
            _check_duplicate(world, rows[id], n)
    for id, row in rows.items():
        if row["status"] in _TAKEN and not taken[id] and id not in world.taken_on_trust:
            world.accuse(f"{id} is {row['status']} and no account took it")
        if row["status"] in _SURELY_NOT_TAKEN and taken[id]:
            world.accuse(f"{id} is {row['status']} and was taken {taken[id]} times")


def _check_duplicate(world: Simulation, row: Any, n: int) -> None:
    requested = world.promised.get(row["id"], {}).get("delivery")
    if requested == Delivery.AT_MOST_ONCE and row["id"] not in world.sent_again:
        world.accuse(f"{row['id']} is at_most_once and was taken {n} times")
    if not row["possibly_duplicated"]:
        world.accuse(f"{row['id']} was taken {n} times and is not marked")


def _check_attempts(world: Simulation, rows: Rows) -> None:
    for row in rows.values():
        limit = world.settings.channels[row["channel"]].retry.max_attempts
        is_too_few = row["reason"] == Reason.EXHAUSTED and row["attempts"] < limit
        if row["attempts"] > limit or is_too_few:
            world.accuse(f"{row['id']} made {row['attempts']} attempts of {limit}")


def _check_repeated(world: Simulation, rows: Rows) -> None:
    """A sender who asks again with the same key makes no second notification."""
    references = Counter(row["reference"] for row in rows.values() if row["reference"])
    for reference, n in references.items():
        if n > 1:
            world.accuse(f"reference {reference} was accepted {n} times")


def _check_receipts(world: Simulation, rows: Rows) -> None:
    for _, receipt, verdict in world.receipts:
        id = receipt.notification_id
        if verdict == "unknown" or id not in rows:
            world.accuse(f"a receipt of {id} was taken for a stranger's")
        elif receipt.status in GOOD and rows[id]["status"] not in _TOLD[receipt.status]:
            world.accuse(f"{id} was told to be {receipt.status} and is {rows[id]['status']}")


_TOLD = {
    Status.SENT: _TAKEN,
    Status.DELIVERED: {Status.DELIVERED, Status.UNDELIVERED},
}


_CHECKS: tuple[Callable[[Simulation, Rows], None], ...] = (
    _check_kept,
    _check_acceptances,
    _check_attempts,
    _check_repeated,
    _check_receipts,
)


def _check_logs(world: Simulation) -> None:
    for entry in world.logs:
        event = entry["event"]
        is_on_purpose = event == "actor_crashed" and entry["error"].startswith(_CRASHES)
        if event == "giving_up" and entry["actor"] != "journal":
            world.accuse(f"the process gave up because of {entry['actor']}")
        is_grave = entry["log_level"] not in ("debug", "info")
        if is_grave and event not in _EXPECTED and not is_on_purpose:
            words = {k: v for k, v in entry.items() if k != "traceback"}
            world.accuse(f"unexpected: {words}\n{entry.get('traceback', '')}")
