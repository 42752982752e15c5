"""A story drawn from a seed: settings, senders, operators, moods, crashes, deaths, clocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clarion.domain.instant import rfc3339
from clarion.domain.notification import Delivery, Priority
from clarion.testing.simulated_provider import HEALTHY, MOODS
from clarion.testing.simulated_store import AFTER_COMMIT, BEFORE_COMMIT, BETWEEN_COMMANDS
from clarion.testing.simulation import EPOCH_AT
from clarion.testing.story import Deed, Story

_ADDRESS = {"email": "ada@example.com", "sms": "+15005550006", "push": "device-1"}
_PRIORITIES = [each.label for each in Priority]
_KILL_POINTS = (BEFORE_COMMIT, AFTER_COMMIT, BETWEEN_COMMANDS)


@dataclass(frozen=True, slots=True)
class Chaos:
    """How wild a seed is; each number is about the middle of what is drawn."""

    horizon_s: float = 90.0
    """When the world turns well."""
    notifications: int = 300
    deaths: int = 3
    crashes: int = 25
    moods: int = 16
    steering: int = 8
    disk_failures: int = 2
    cancels: int = 8
    redrives: int = 4
    aftermaths: int = 4
    """Discards, and decisions about unknown ones."""
    clock_steps: int = 1
    audits: int = 20
    receipts: float = 0.6
    """Share of the messages taken of which providers tell later, at most."""
    names: tuple[str, ...] = field(default=("alpha", "beta", "gamma"))
    channels: tuple[str, ...] = field(default=("email", "sms", "push"))


def draw(seed: int, how: Chaos) -> Story:
    """Return the story of a seed."""
    rng = Random(f"{seed} chaos")  # noqa: S311  # chances, not secrets
    settings = _house(rng, how)
    deeds = sorted(_Plot(how, list(settings["providers"]), rng).deeds(), key=lambda deed: deed.at)
    receipts = rng.choice([0.0, how.receipts / 2, how.receipts])
    return Story(seed, how.horizon_s, receipts, settings, tuple(deeds))


# --- the house ---------------------------------------------------------------------------------


def _house(rng: Random, how: Chaos) -> dict[str, Any]:
    alpha, beta, gamma = how.names
    channels: dict[str, Any] = {
        "email": {
            "providers": rng.choice([[alpha, beta], [alpha, beta, gamma]]),
            "spill_after": rng.choice([0.2, 1.0, 5.0]),
        },
        "sms": {
            "providers": [beta, gamma],
            "strategy": "weighted",
            "weights": {beta: 70, gamma: rng.choice([0, 30])},
        },
        "push": {"providers": [rng.choice(how.names)]},
    }
    channels = {channel: channels[channel] for channel in how.channels}
    used = [name for name in how.names if any(name in c["providers"] for c in channels.values())]
    return {
        "providers": {name: _provider(rng) for name in used},
        "channels": channels,
        "retry": {
            "max_attempts": rng.choice([2, 3, 5]),
            "initial_delay": rng.choice([0.2, 1.0]),
            "max_delay": rng.choice([2.0, 20.0]),
        },
        "queue": {"max_in_memory": rng.choice([8, 16, 64, 2000])},
        "defaults": {
            "unknown_grace": rng.choice([0.0, 3.0, 15.0]),
            "expires_after": 36_000.0,
            "delivery": rng.choice(list(Delivery)).value,
        },
    }


def _provider(rng: Random) -> dict[str, Any]:
    timeout = rng.choice([2.0, 5.0])
    return {
        "kind": "outbox",
        "timeout": timeout,
        "health_every": rng.choice([0.0, 10.0]),
        "misconfigured_probe": rng.choice([5.0, 20.0]),
        "bulkhead": {"max_concurrent": rng.choice([1, 2, 4, 8])},
        "breaker": {
            "failure_threshold": rng.choice([1, 3, 5]),
            "success_threshold": rng.choice([1, 2]),
            "timeout": rng.choice([2.0, 10.0, 30.0]),
            "half_open_timeout": timeout + rng.choice([0.0, 5.0]),
            "timeout_max": 40.0,
            "window": rng.choice(["consecutive", "count", "time"]),
            "size": rng.choice([5, 20]),
            "minimum_calls": 4,
            "slow_call": rng.choice([0.0, 1.0]),
        },
        "rate_limit": rng.choice([{}, {}, {"per_second": 10.0, "burst": 3}]),
    }


# --- the plot ----------------------------------------------------------------------------------


class _Plot:
    """Draws the deeds of one story, with its own chances."""

    def __init__(self, how: Chaos, used: Sequence[str], rng: Random) -> None:
        self._how = how
        self._rng = rng
        self._used = used
        self._number = 0

    def deeds(self) -> Iterator[Deed]:
        """Yield everything that happens, in no order."""
        yield from self._senders()
        for count, draw_some in (
            (self._how.moods, self._mood),
            (self._how.crashes, self._crash),
            (self._how.deaths, self._death),
            (self._how.steering, self._steer),
            (self._how.disk_failures, self._disk),
            (self._how.cancels, self._cancel),
            (self._how.redrives, self._redrive),
            (self._how.aftermaths, self._aftermath),
            (self._how.clock_steps, self._clock),
            (self._how.audits, self._audit),
        ):
            for _ in range(self._rng.randint(0, 2 * count)):
                yield from draw_some(self._rng.uniform(0.0, self._how.horizon_s))

    # --- senders ---------------------------------------------------------------------------

    def _senders(self) -> Iterator[Deed]:
        left = self._rng.randint(self._how.notifications // 2, self._how.notifications)
        while left > 0:
            n = min(left, self._rng.choice([1, 1, 1, 1, 8, 60]))
            left -= n
            at = self._rng.uniform(0.0, self._how.horizon_s * 0.9)
            items = [self._item(at) for _ in range(n)]
            if n == 1:
                yield self._send(at, items[0])
                if "idempotency_key" in items[0] and self._rng.random() < 0.3:
                    yield self._send(at + self._rng.uniform(0.0, 30.0), items[0])
            else:
                yield Deed(at, "batch", {"items": items})
                if self._rng.random() < 0.2:
                    again = [item for item in items if "idempotency_key" in item]
                    yield Deed(at + self._rng.uniform(0.0, 30.0), "batch", {"items": again})

    def _send(self, at: float, item: dict[str, Any]) -> Deed:
        patience_s = self._rng.choice([0.001, 0.01, 30.0])
        return Deed(at, "send", {"item": item, "patience_s": patience_s})

    def _item(self, at: float) -> dict[str, Any]:
        rng = self._rng
        self._number += 1
        channel = rng.choice(self._how.channels)
        item: dict[str, Any] = {
            "channel": channel,
            "to": _ADDRESS[channel],
            "text": f"number {self._number}",
            "subject": "Hello",
            "priority": rng.choices(_PRIORITIES, [1, 2, 6, 2])[0],
            "delivery": rng.choice(list(Delivery)).value,
            "tenant": rng.choice(["", "a", "b", "c"]) or None,
            "reference": str(self._number),
        }
        wall_at = EPOCH_AT + at
        if rng.random() < 0.2:
            wall_at += rng.uniform(1.0, 60.0)
            item["send_at"] = rfc3339(wall_at)
        if rng.random() < 0.2:
            item["expires_at"] = rfc3339(wall_at + rng.uniform(3.0, 60.0))
        if rng.random() < 0.3:
            item["idempotency_key"] = f"key {self._number}"
        return {name: value for name, value in item.items() if value is not None}

    def _cancel(self, at: float) -> Iterator[Deed]:
        yield Deed(at, "cancel", {"back": self._rng.randint(1, 30)})

    # --- operators -------------------------------------------------------------------------

    def _steer(self, at: float) -> Iterator[Deed]:
        channel, name = self._rng.choice(self._how.channels), self._rng.choice(self._used)
        what, name = self._rng.choice([
            ("pause", channel), ("resume", channel), ("disable", name), ("enable", name),
            (self._rng.choice(["open", "close", "reset"]), name),
        ])  # fmt: skip
        yield Deed(at, "steer", {"what": what, "name": name})

    def _redrive(self, at: float) -> Iterator[Deed]:
        details = {
            "reason": self._rng.choice([None, None, "recipient", "exhausted"]),
            "rate": self._rng.choice([1.0, 10.0, 500.0]),
            "is_regretted": self._rng.random() < 0.2,
        }
        yield Deed(at, "redrive", details)

    def _aftermath(self, at: float) -> Iterator[Deed]:
        if self._rng.random() < 0.2:
            yield Deed(at, "discard", {"reason": self._rng.choice(["recipient", "exhausted"])})
        else:
            share, is_sent = self._rng.random(), self._rng.random() < 0.5
            yield Deed(at, "resolve", {"share": share, "is_sent": is_sent})

    def _audit(self, at: float) -> Iterator[Deed]:
        yield Deed(at, "audit", {})

    # --- trouble ---------------------------------------------------------------------------

    def _mood(self, at: float) -> Iterator[Deed]:
        name, rng = self._rng.choice(self._used), self._rng
        moods = [each.name for each in rng.choices(list(MOODS.values()), k=rng.choice([1, 1, 2]))]
        # A brown-out: only a share of the calls, or the slowest of them, meets the trouble.
        moods += [HEALTHY.name] * rng.choice([0, 0, 1, 3, 9])
        yield Deed(at, "mood", {"provider": name, "moods": moods})
        if rng.random() < 0.5:
            after = at + rng.uniform(1.0, 40.0)
            yield Deed(after, "mood", {"provider": name, "moods": [HEALTHY.name]})

    def _crash(self, at: float) -> Iterator[Deed]:
        actors = [
            "supervisor", "journal", "redrive",
            *(f"queue:{channel}" for channel in self._how.channels),
            *(f"{kind}:{name}" for kind in ("breaker", "provider") for name in self._used),
        ]  # fmt: skip
        actor = self._rng.choice(actors)
        for number in range(self._rng.choices([1, 3, 15], [30, 5, 1])[0]):
            yield Deed(at + number * 0.02, "crash", {"actor": actor})

    def _death(self, at: float) -> Iterator[Deed]:
        if self._rng.random() < 0.2:
            yield Deed(at, "stop", {})
        elif self._rng.random() < 0.4:
            yield Deed(at, "kill", {"callbacks": int(self._rng.uniform(1.0, 30.0) ** 2)})
        else:
            yield Deed(at, "kill", {"where": self._rng.choice(_KILL_POINTS)})

    def _disk(self, at: float) -> Iterator[Deed]:
        yield Deed(at, "disk", {"error": self._rng.choice(["full", "i/o", "busy"])})
        yield Deed(at + self._rng.uniform(0.01, 15.0), "disk", {"error": None})

    def _clock(self, at: float) -> Iterator[Deed]:
        """Set the clock, mostly by little, and sometimes back to where it should be."""
        by_s = self._rng.choice([-1, 1]) * self._rng.choice([0.05, 1.0, 30.0, 3600.0])
        yield Deed(at, "clock", {"by_s": by_s})
        if self._rng.random() < 0.5:
            yield Deed(at + self._rng.uniform(0.0, 20.0), "clock", {"by_s": -by_s})
