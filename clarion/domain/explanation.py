"""What a notification's story is, in words: the explanation and the timeline."""

from __future__ import annotations

from typing import Any

from clarion.domain.notification import Notification


def explain(notification: Notification, held_reason: str | None, now: float) -> str:
    """Say in a sentence how it stands; `held_reason` is None unless its lane is held."""
    raise NotImplementedError


def timeline(notification: Notification) -> list[dict[str, Any]]:
    """Return what happened, oldest first."""
    raise NotImplementedError
