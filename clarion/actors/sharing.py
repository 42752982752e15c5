"""Sharing limits: the part of the Supervisor that has places asked for, and takes what is given.

A provider's bucket holds what the nodes agreed on (`policies.grant`); the Commons asks for it. The
Supervisor asks when work waits that could use it, ahead of need, and never waits for an answer.
"""

from __future__ import annotations

from typing import Any

from clarion.actors.commons_messages import Granted, LimitsAlone, LimitsShared, WantPlaces
from clarion.actors.placing import Placing
from clarion.actors.runtime import handles
from clarion.policies.grant import GrantedBucket
from clarion.policies.routing import wanted


class Sharing(Placing):
    """What the Supervisor does about limits that nodes share; see the module."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shared = {
            name: gate.bucket
            for name, gate in self._gates.items()
            if isinstance(gate.bucket, GrantedBucket)
        }

    def _place(self, channel: str) -> None:
        if self._shared:
            self._ask_for_places(channel)
        super()._place(channel)

    def _ask_for_places(self, channel: str) -> None:
        lane, now = self._lanes[channel], self._clock.monotonic()
        if lane.wants.is_nothing or self._shared.keys().isdisjoint(lane.plan.providers):
            return
        for provider in wanted(lane.plan, self._gates, lane.wants, now):
            bucket = self._shared.get(provider)
            n = bucket.asks_for(now) if bucket and self._gates[provider].could_take(now) else 0
            if bucket and n:
                self._tell("commons", WantPlaces(provider, n, bucket.has_used_unseen))

    @handles(Granted)
    def granted(self, message: Granted) -> None:
        """Use what was given."""
        self._shared[message.provider].give(message.grant, self._clock.monotonic())
        self._place_for(message.provider)

    @handles(LimitsShared)
    def limits_shared(self, _message: LimitsShared) -> None:
        """Go on alone no more."""
        for provider, bucket in self._shared.items():
            bucket.rejoin(self._clock.monotonic())
            self._place_for(provider)

    @handles(LimitsAlone)
    def limits_alone(self, message: LimitsAlone) -> None:
        """Go on alone."""
        for provider in message.providers:
            self._shared[provider].go_alone(message.nodes, message.at)
            self._place_for(provider)
