"""A model of how GOV.UK Notify balances two SMS providers, by the rules that it has published.

It is not their code: it is what their code base and pull requests say of the rules, as numbers,
and nothing of their queues. Where the rules leave something open the model is kind to them: workers
without end, so that a hung provider holds nobody up; every accepted message delivered at once, so
that their second signal (15 % slower than five minutes over fifteen) has no reason to fire.

Each send draws a provider by weight. More than 50 errors of a provider within a minute move ten
points of weight to the other one, at most once a minute. When nothing has moved for fifteen
minutes, a check every five minutes moves ten points back towards rest. A send that fails is
repeated at once, with a new draw, and then every five minutes, 48 times; a call may take 10 s.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from random import Random

from benchmarks.resilience.story import Call, Message, Story
from benchmarks.resilience.trace import GOOD, PROVIDERS, SICK, Trace
from clarion.domain.outcome import Outcome

ERROR_LIMIT = 50
ERROR_WINDOW_S = 60.0
ERROR_LOCK_S = 60.0
STEP = 10
REST = 50
TEND_BACK_AFTER_S = 900.0
TEND_BACK_EVERY_S = 300.0
CALL_LIMIT_S = 10.0
RETRY_S = 300.0
RETRIES = 48
AFTERWARDS_S = 3 * 3600.0
"""How long the model goes on: weights take more than an hour to come back."""


@dataclass(slots=True)
class Balance:
    """The weights, and what moves them."""

    weights: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROVIDERS, REST))
    changed_at: float = float("-inf")
    errors: dict[str, deque[float]] = field(
        default_factory=lambda: {name: deque() for name in PROVIDERS}
    )

    def draw(self, rng: Random) -> str:
        """Choose a provider for one send."""
        return rng.choices(PROVIDERS, [self.weights[name] for name in PROVIDERS])[0]

    def failed(self, provider: str, now: float) -> None:
        """Count an error, and move weight away where there are too many."""
        recent = self.errors[provider]
        recent.append(now)
        while recent[0] <= now - ERROR_WINDOW_S:
            recent.popleft()
        if len(recent) > ERROR_LIMIT and now - self.changed_at >= ERROR_LOCK_S:
            self._move(provider, max(self.weights[provider] - STEP, 0), now)

    def tend_back(self, now: float) -> None:
        """Move towards rest where nothing has moved for long."""
        weight = self.weights[SICK]
        if weight != REST and now - self.changed_at >= TEND_BACK_AFTER_S:
            towards = min(weight + STEP, REST) if weight < REST else max(weight - STEP, REST)
            self._move(SICK, towards, now)

    def _move(self, provider: str, weight: int, now: float) -> None:
        other = next(name for name in PROVIDERS if name != provider)
        if weight != self.weights[provider]:
            self.weights = {provider: weight, other: 2 * REST - weight}
            self.changed_at = now


@dataclass(frozen=True, order=True, slots=True)
class _Due:
    """A send, a call's failure or a check, when it is due."""

    at: float
    number: int
    created_at: float = 0.0
    failures: int = 0
    failed: str | None = None


class _Model:
    """Goes through one trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._rng = trace.rng("notify")
        self._balance = Balance()
        self._calls: list[Call] = []
        self._messages: list[Message] = []
        self._number = 0
        self._due: list[_Due] = []

    def run(self) -> Story:
        end_s = self._trace.end_s + AFTERWARDS_S
        # Traffic goes on at the same pace, or nobody would see the weights come back.
        whole = Trace(
            self._trace.trouble, self._trace.per_second, self._trace.onset_s,
            self._trace.recovery_s, end_s, self._trace.seed,
        )  # fmt: skip
        for at in whole.arrivals():
            self._plan(at, created_at=at)
        checked_at = 0.0
        while self._due and self._due[0].at < end_s:
            due = heapq.heappop(self._due)
            while checked_at + TEND_BACK_EVERY_S <= due.at:
                checked_at += TEND_BACK_EVERY_S
                self._balance.tend_back(checked_at)
            self._act(due)
        self._messages += [Message(due.created_at, None) for due in self._due]
        return Story(sorted(self._calls), self._messages)

    def _plan(
        self, at: float, *, created_at: float, failures: int = 0, failed: str | None = None
    ) -> None:
        self._number += 1
        heapq.heappush(self._due, _Due(at, self._number, created_at, failures, failed))

    def _act(self, due: _Due) -> None:
        if due.failed is None:
            self._send(due)
            return
        self._balance.failed(due.failed, due.at)
        failures = due.failures + 1
        if failures > RETRIES + 1:
            self._messages.append(Message(due.created_at, None))
            return
        wait_s = 0.0 if failures == 1 else RETRY_S
        self._plan(due.at + wait_s, created_at=due.created_at, failures=failures)

    def _send(self, due: _Due) -> None:
        provider = self._balance.draw(self._rng)
        moods = self._trace.moods(due.at) if provider == SICK else (GOOD,)
        mood = self._rng.choice(moods)
        is_accepted = mood.outcome is Outcome.ACCEPTED
        takes_s = CALL_LIMIT_S if mood.outcome is None else self._rng.uniform(*mood.latency_s)
        self._calls.append(Call(due.at, provider, is_accepted))
        if is_accepted:
            self._messages.append(Message(due.created_at, due.at + takes_s))
        else:
            self._plan(
                due.at + takes_s, created_at=due.created_at, failures=due.failures, failed=provider
            )


def run(trace: Trace) -> Story:
    """Go through a trace by the published rules."""
    return _Model(trace).run()
