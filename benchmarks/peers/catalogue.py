"""Which peers there are: what each needs, and how its own manual starts its workers.

Versions are not pinned: a comparison is with what `pip install` gives today, and reports say
which that was. The applications are the modules of the same names in `app`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.contestant import SLOTS, WORKERS

COMMON = ("aiohttp", "urllib3", "uvloop", "hiredis")
"""What every peer gets, so that none is slow for want of it."""
_SLOTS = str(SLOTS // WORKERS)
_APP = "benchmarks.peers.app."


@dataclass(frozen=True, slots=True)
class Recipe:
    """A peer, as data."""

    name: str
    requirements: Sequence[str]
    worker: Sequence[str]
    """Arguments of `python -m` in the peer's environment."""
    setup: str
    """How it is set up, in words, for reports."""
    broker: str = "valkey"
    workers: int = WORKERS
    """How often `worker` is run; 1 where the command itself starts one for each core."""
    before: Sequence[str] = ()
    """Arguments of `python -m` for a command that has to end well before anything is started."""
    application: str = ""
    """Its module; empty: the one of its name."""

    @property
    def module(self) -> str:
        """The module that gives `producer()`."""
        return self.application or _APP + self.name


RECIPES = (
    Recipe(
        "arq",
        ("arq",),
        ("arq", f"{_APP}arq.WorkerSettings"),
        "job_timeout 10 s, keep_result 0, poll_delay 0.05 s",
    ),
    Recipe(
        "bullmq",
        ("bullmq",),
        (f"{_APP}bullmq",),
        "lockDuration 10 s, stalledInterval 5 s, removeOnComplete",
    ),
    Recipe(
        "celery",
        ("celery[redis]",),
        (
            "celery", "-A", f"{_APP}celery", "worker", "--pool=threads",
            f"--concurrency={_SLOTS}", "--loglevel=WARNING", "-n", "w{number}@%h",
            "--without-gossip", "--without-mingle",
        ),
        "acks_late, reject_on_worker_lost, prefetch 1, visibility_timeout 10 s, thread pool",
    ),
    Recipe(
        "dramatiq",
        ("dramatiq[redis]",),
        (
            "dramatiq", f"{_APP}dramatiq", "--processes", str(WORKERS),
            "--threads", _SLOTS, "--skip-logging",
        ),
        "async actor, heartbeat_timeout 10 s, maintenance_chance 1 %",
        workers=1,
    ),
    Recipe(
        "huey",
        ("huey[redis]",),
        ("huey.bin.huey_consumer", f"{_APP}huey.huey", "-w", _SLOTS, "-k", "thread", "-q"),
        "threads, results off; takes a task out before it runs it, by design",
    ),
    Recipe(
        "procrastinate",
        ("procrastinate", "psycopg[binary]"),
        ("procrastinate", "--app", f"{_APP}procrastinate.app", "worker"),
        "LISTEN/NOTIFY, delete_jobs successful, stalled jobs retried after 10 s",
        broker="postgres",
        before=("procrastinate", "--app", f"{_APP}procrastinate.app", "schema", "--apply"),
    ),
    Recipe(
        "rq",
        ("rq",),
        (f"{_APP}rq",),
        "eight standard workers with scheduler, which fork for each job; code preloaded,"
        " monitoring and maintenance each 5 s",
        workers=8,
    ),
    Recipe(
        "saq",
        ("saq[redis]",),
        ("saq", f"{_APP}saq.settings", "--workers", str(WORKERS), "--quiet"),
        "timeout 10 s, sweep each 5 s, ttl off",
        workers=1,
    ),
    Recipe(
        "taskiq",
        ("taskiq", "taskiq-redis"),
        (
            "taskiq", "worker", f"{_APP}taskiq:broker", "--workers", str(WORKERS),
            "--max-async-tasks", _SLOTS, "--ack-type", "when_executed",
            "--log-level", "ERROR",
        ),
        "stream broker, acknowledged when executed, idle_timeout 10 s; retried at once",
        workers=1,
    ),
)  # fmt: skip
