"""What one lane is configured to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clarion.domain.notification import Delivery
from clarion.policies.routing import RoutePlan
from clarion.policies.verdict import Rules

CALL_MARGIN_S = 1.0
"""A call without an answer by its timeout plus this is UNKNOWN, whatever became of it."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """The settings of one lane; durations in seconds."""

    plan: RoutePlan
    rules: Rules
    call_timeout_s: Mapping[str, float]
    max_in_memory: int = 2000
    max_pending: int = 10_000_000
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    expires_after_s: float = 259_200.0
    is_shared: bool = False
    """Whether other nodes work on the lane, too."""

    def call_limit_s(self, provider: str) -> float:
        """Return after how many seconds a call without any answer is given up."""
        return self.call_timeout_s.get(provider, 60.0) + CALL_MARGIN_S
