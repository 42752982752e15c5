"""Cutting a story down to the least that still breaks the same promise.

Delta debugging (Zeller, Hildebrandt 2002) over the deeds: leave out ever smaller parts as long as
the same violation appears. Then fewer notifications in each batch, no receipts, a shorter world.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from clarion.testing.story import Deed, Story

T = TypeVar("T")

MAX_PLAYS = 400
MAX_S = 120.0
"""A long world takes ten seconds to play: what is least of it is not worth an hour."""
_VARYING = re.compile(r"at [\d.]+ s: |\b[0-9A-HJKMNP-TV-Z]{26}\b|\d+(\.\d+)?")


def kind_of(violation: str) -> str:
    """Return what two violations of the same promise have in common: no ids, no numbers."""
    return _VARYING.sub("#", violation)[:200]


@dataclass(slots=True)
class _Court:
    """Plays stories, as often as it may, and says whether they break the same promise."""

    kind: str
    plays_left: int
    until: float

    def is_guilty(self, story: Story) -> bool:
        if self.plays_left <= 0 or time.monotonic() > self.until:
            return False
        self.plays_left -= 1
        try:
            violations = story.play().violations
        except Exception as error:  # a world that breaks down is a violation of its own
            violations = [repr(error)]
        return self.kind in map(kind_of, violations)


def shrink(story: Story, violation: str, max_plays: int = MAX_PLAYS, max_s: float = MAX_S) -> Story:
    """Return the least story found, in so many plays or seconds, that breaks the same promise."""
    court = _Court(kind_of(violation), max_plays, time.monotonic() + max_s)
    for cut in (_fewer_deeds, _fewer_items, _fewer_deeds, _no_receipts, _sooner):
        story = cut(story, court)
    return story


def _fewer_deeds(story: Story, court: _Court) -> Story:
    deeds = least(story.deeds, lambda some: court.is_guilty(story.with_deeds(tuple(some))))
    return story.with_deeds(tuple(deeds))


def _fewer_items(story: Story, court: _Court) -> Story:
    for place, deed in enumerate(story.deeds):
        if deed.kind == "batch":
            is_guilty = partial(_is_guilty_with, court, story, place)
            story = _with_items(story, place, least(deed.details["items"], is_guilty))
    return story


def _is_guilty_with(court: _Court, story: Story, place: int, items: Sequence[Any]) -> bool:
    return court.is_guilty(_with_items(story, place, items))


def _with_items(story: Story, place: int, items: Sequence[Any]) -> Story:
    deeds = list(story.deeds)
    deeds[place] = Deed(deeds[place].at, "batch", {"items": list(items)})
    return story.with_deeds(tuple(deeds))


def _no_receipts(story: Story, court: _Court) -> Story:
    quiet = replace(story, receipts=0.0)
    return quiet if story.receipts and court.is_guilty(quiet) else story


def _sooner(story: Story, court: _Court) -> Story:
    """Let the world turn well as soon as the last deed is done, or later while it has to be."""
    last_s = max((deed.at for deed in story.deeds), default=0.0)
    for horizon_s in (last_s + 1.0, last_s + 10.0, (last_s + story.horizon_s) / 2):
        shorter = replace(story, horizon_s=horizon_s)
        if horizon_s < story.horizon_s and court.is_guilty(shorter):
            return shorter
    return story


def least(parts: Sequence[T], is_guilty: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Return a part of `parts` that is guilty, and of which nothing more can be left out.

    Where the court gives up before, more is left than has to be.
    """
    n = 2
    while parts:
        size = -(-len(parts) // n)
        for start in range(0, len(parts), size):
            rest = [*parts[:start], *parts[start + size :]]
            if is_guilty(rest):
                parts, n = rest, max(2, n - 1)
                break
        else:
            if size == 1:
                break
            n = min(len(parts), 2 * n)
    return parts
