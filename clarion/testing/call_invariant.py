"""What must be true of the calls of a simulated world, by the ledgers of its accounts.

An account notes when each call began, in virtual time, which no clock that is set can bend. Here
that is held against what people were granted: pauses, cancels, expiries, the grace. What an
account expects of each call as it comes is in `contract`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from clarion.domain.outcome import Outcome
from clarion.testing.simulated_provider import Beginning
from clarion.testing.simulation import Simulation

Rows = Mapping[str, Any]

ON_ITS_WAY_S = 2.0
"""From the last look at a pause, an expiry or a limit until the call: commits lie between."""
WASTED = 20
"""So many numbers may come to nothing before a call that is made: refused, recalled, cut off."""
_UNTIL = {"pause": "resume", "disable": "enable"}

_REDRIVEN = "SELECT notification_id FROM interventions"
_UNKNOWN = f"""SELECT notification_id, number, ended_at FROM provider_calls
WHERE outcome = '{Outcome.UNKNOWN}' AND reason != 'process_died'"""  # noqa: S608  # our own word
_GIVEN_UP = "SELECT notification_id, number FROM provider_calls WHERE reason = 'no_answer'"


def examine_calls(world: Simulation, rows: Rows, connection: sqlite3.Connection) -> None:
    """Make every check of this module."""
    begun = sorted(each for account in world.accounts.values() for each in account.begun)
    _check_wishes(world, begun)
    _check_cancels(world, begun, connection)
    _check_wasted(world, begun)
    _check_given_up(world, connection)
    if not world.was_clock_set:
        _check_expiries(world, rows, begun)
        _check_grace(world, begun, connection)


def _check_wishes(world: Simulation, begun: Sequence[Beginning]) -> None:
    """A paused lane and a disabled provider make no calls."""
    for at, words in world.granted:
        verb, _, name = words.partition(" ")
        if verb not in _UNTIL:
            continue
        # By when they were asked: an answer may come after the next wish has taken effect.
        asked_at = max((each for each, other in world.wished if other == words and each <= at))
        ends = (end for end, other in world.wished if other == f"{_UNTIL[verb]} {name}")
        until = min((end for end in ends if end >= asked_at), default=float("inf"))
        for each in begun:
            if name in (each.channel, each.account) and at + ON_ITS_WAY_S < each.at < until:
                world.accuse(f"{each} although there was a {words} at {at:.3f} s")


def _check_cancels(
    world: Simulation, begun: Sequence[Beginning], connection: sqlite3.Connection
) -> None:
    """After an answered cancel, the call that was out is the last."""
    redriven = {id for (id,) in connection.execute(_REDRIVEN)}
    for at, words in world.granted:
        verb, _, id = words.partition(" ")
        later = [each for each in begun if each.id == id and each.at > at]
        if verb == "cancel" and id not in redriven and len(later) > 1:
            world.accuse(f"{later[1:]} although there was a {words} at {at:.3f} s")


def _check_wasted(world: Simulation, begun: Sequence[Beginning]) -> None:
    """Waiting costs nothing: no notification is offered and refused, again and again."""
    before = Counter[str]()
    for each in sorted(begun, key=lambda each: each.number):
        wasted = each.number - before[each.id] - 1
        if wasted > WASTED:
            world.accuse(f"{wasted} numbers of {each.id} came to nothing before {each.number}")
        before[each.id] = each.number


def _check_given_up(world: Simulation, connection: sqlite3.Connection) -> None:
    """Each call that is let go ends by an answer, here where no thread and no machine hangs."""
    for id, number in connection.execute(_GIVEN_UP):
        world.accuse(f"call {number} of {id} never reported")


def _check_expiries(world: Simulation, rows: Rows, begun: Sequence[Beginning]) -> None:
    for each in begun:
        row = rows.get(each.id)
        if row is not None and each.wall_at > row["expires_at"] + ON_ITS_WAY_S:
            world.accuse(f"{each} although it expired at {row['expires_at']}")


def _check_grace(
    world: Simulation, begun: Sequence[Beginning], connection: sqlite3.Connection
) -> None:
    """After an unknown outcome nothing is sent before a receipt had its time to come."""
    grace_s = world.settings.defaults.unknown_grace
    for id, number, ended_at in connection.execute(_UNKNOWN):
        if id in world.sent_again:
            continue  # On a person's word, who did not want to wait.
        for each in begun:
            is_early = ended_at <= each.wall_at < ended_at + grace_s - 0.001
            if each.id == id and each.number > number and is_early:
                world.accuse(f"{each} although call {number} ended in doubt at {ended_at:.3f}")
