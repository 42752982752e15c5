"""What Clarion does when its providers die and hang, and when it is killed itself: `make demo`.

A real server, two look-alikes of SendGrid on real sockets, and a stream of notifications that goes
on whatever happens. Nothing is staged: every number is counted where it is said to be. On a
terminal the server stays at the end, to be looked at, until Ctrl-C; in a pipe it ends by itself.
Exit code 1 if a promise is broken.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from clarion.domain.outcome import Outcome
from clarion.testing.demo_balance import balance_of
from clarion.testing.demo_screen import Screen
from clarion.testing.demo_stage import (
    CALL_LIMIT_S,
    FAILURES,
    GRACE_S,
    RATE,
    WAIT_S,
    Stage,
    Standing,
)
from clarion.testing.fault import Fault

LOOK_S: Final = 2.0
"""How long a state is left for the eye."""
TAKEN_UNANSWERED: Final = 3
"""Messages that the backup takes before it only hangs."""
SLOW_S: Final = 0.4
"""How long the primary takes to answer before the kill, so that it meets calls on the wire."""

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as of a shell."""


async def all_is_well(stage: Stage, screen: Screen) -> None:
    """Act 1."""
    screen.act("1  All is well")
    screen.say(
        f"Process {stage.clarion.pid} serves {stage.clarion.url}; its route: primary, then backup."
        f" A stream of {RATE:.0f} notifications a second begins, and goes on to the end."
    )
    stage.begin_stream()
    await asyncio.sleep(LOOK_S)
    await stage.until(lambda now: now.stats["by_status"].get("sent", 0) > 0)
    screen.say(
        f"{len(stage.stream.accepted)} accepted, each on disk before it was answered;"
        f" {stage.primary.deliveries.total()} arrived at primary, {stage.backup.deliveries.total()}"
        " at backup."
    )


async def primary_dies(stage: Stage, screen: Screen) -> None:
    """Act 2: the breaker, and fallback."""
    screen.act("2  The primary dies")
    died_at = time.monotonic()
    await stage.primary.stop()
    screen.say("Its port is closed: connections are refused.")
    await stage.until(lambda now: _circuit(now, "primary") != "closed")
    screen.say(
        f"BREAKER: {FAILURES} failures in a row, and {time.monotonic() - died_at:.1f} s later its"
        " circuit is open. Nobody waits for it any more; single probes ask whether it is back."
    )
    await asyncio.sleep(LOOK_S)
    fallen = await _fallen_back(stage)
    screen.say(
        f"FALLBACK: {stage.backup.deliveries.total()} arrived at backup, the ones that primary"
        " refused among them. The way of one of these:"
    )
    screen.quote(fallen)


async def backup_hangs(stage: Stage, screen: Screen) -> None:
    """Act 3: unknown outcomes, and the hold."""
    screen.act("3  The backup hangs")
    stage.backup.behave(Fault.accept_then_hang(), times=TAKEN_UNANSWERED)
    stage.backup.behave(Fault.hang())
    screen.say(
        f"It accepts connections and answers nothing; the first {TAKEN_UNANSWERED} messages it even"
        f" keeps. A call ends at its time limit of {CALL_LIMIT_S:.0f} s as UNKNOWN: nobody can tell"
        " whether the message was taken."
    )
    held = await stage.until(lambda now: bool(now.lane["held"]))
    screen.say("HOLD: both circuits are open, so the lane is held. Clarion says why:")
    screen.quote(held.lane["held_reason"])
    await asyncio.sleep(LOOK_S)
    now = await stage.until(lambda now: now.waiting > 0)
    screen.say(
        f"{now.waiting} wait on disk, at no cost. Accepting goes on: {len(stage.stream.accepted)}"
        f" so far, and {stage.stream.repeats} requests had to be repeated."
    )


async def both_return(stage: Stage, screen: Screen) -> None:
    """Act 4: probes."""
    screen.act("4  Both come back")
    returned_at = time.monotonic()
    await stage.primary.start()
    stage.backup.recover()
    await stage.until(lambda now: not now.lane["held"])
    screen.say(
        f"PROBE: {time.monotonic() - returned_at:.1f} s later single real messages went through, a"
        " circuit closed and the lane moves again, slowly at first."
    )
    await stage.until(lambda now: now.waiting == 0 and _circuit(now, "primary") == "closed")
    screen.say(
        f"{time.monotonic() - returned_at:.1f} s after the return the backlog is gone. What was"
        f" UNKNOWN waited {GRACE_S:.0f} s for a receipt, then went out again, and is marked."
    )


async def killed(stage: Stage, screen: Screen) -> None:
    """Act 5: the intent."""
    screen.act("5  kill -9")
    stage.primary.latency_s = SLOW_S
    await stage.primary.wait_for(lambda: stage.primary.in_flight > 1, WAIT_S)
    pid, before, on_wire = stage.clarion.pid, stage.arrivals, stage.primary.in_flight
    await stage.clarion.kill()
    repeats = stage.stream.repeats
    screen.say(
        f"Process {pid} was killed with {on_wire} calls on the wire. The stream goes on, against a"
        " closed port."
    )
    await asyncio.sleep(LOOK_S / 2)
    stage.primary.latency_s = 0.0
    started_at = time.monotonic()
    await stage.clarion.start()
    screen.say(
        f"Process {stage.clarion.pid} was ready {time.monotonic() - started_at:.1f} s after its"
        f" start. {stage.stream.repeats - repeats} requests had been repeated, under their"
        " idempotency keys: none is accepted twice."
    )
    await stage.until(lambda now: now.waiting == 0)
    screen.say(
        "INTENT: before a call leaves, it is on disk that it may be out. So the new process knew"
        " which messages may have arrived, sent them again, and marked them."
    )
    again = next((id for id in stage.arrivals if stage.arrivals[id] > 1 and before[id] == 1), None)
    if again is not None:
        said = await stage.client.get(again)
        screen.say("One that the primary has twice says:")
        screen.quote(said["explanation"])


async def books(stage: Stage, screen: Screen) -> bool:
    """Act 6: count; return whether everything comes to the same."""
    screen.act("6  The stream ends")
    await stage.end_stream()
    await stage.client.wait_drained()
    screen.say("Everything that was accepted has its final status.")
    balance = await balance_of(stage)
    screen.show("")
    screen.show(balance.table())
    words = "Every promise was kept" if balance.is_even else "A promise was broken"
    screen.show(f"[bold]{words}[/], in {screen.elapsed_s:.0f} s.")
    return balance.is_even


ACTS: Final = (all_is_well, primary_dies, backup_hangs, both_return, killed)


async def demonstrate(stage: Stage, screen: Screen) -> bool:
    """Play all acts; return whether every promise was kept."""
    async with stage.set_up():
        async with screen.live_view_of(stage):
            for act in ACTS:
                await act(stage, screen)
        is_kept = await books(stage, screen)
        if screen.is_live:
            await _stay(stage, screen)
        await stage.clarion.terminate()
    return is_kept


async def _stay(stage: Stage, screen: Screen) -> None:
    """Leave the server to be looked at until Ctrl-C, which is a good end here."""
    screen.show(f"\nLook at it: [bold cyan]{stage.clarion.url}/[/]   (Ctrl-C ends it)")
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def _circuit(now: Standing, provider: str) -> str:
    return str(now.providers[provider]["circuit"])


async def _fallen_back(stage: Stage) -> str:
    """Return the way of a notification that the dead primary refused.

    One whose call was out as it died has another story: nobody can tell whether it was taken.
    """
    for id in stage.backup.deliveries:
        timeline = (await stage.client.get(id))["timeline"]
        calls = [each for each in timeline if each["outcome"]]
        if len(calls) > 1 and calls[0]["outcome"] == Outcome.TRANSIENT:
            return " → ".join(f"{each['provider']}: {each['detail']}" for each in calls)
    return "(none of them met primary)"


async def _play(stage: Stage, screen: Screen) -> bool:
    playing = asyncio.current_task()
    assert playing is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Again and again, too: the ending is never interrupted into leaving a process behind.
        loop.add_signal_handler(number, playing.cancel)
    return await demonstrate(stage, screen)


def run() -> int:
    """Play in a directory that is gone afterwards; return the exit code."""
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="clarion-demo-") as directory:
        stage = Stage(Path(directory))
        try:
            is_kept = asyncio.run(_play(stage, screen))
        except (asyncio.CancelledError, KeyboardInterrupt):
            screen.show("\nInterrupted; nothing is left running.")
            return INTERRUPTED
        finally:
            stage.kill_now()
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(run())
