"""Stories that once broke a promise, kept as they were: seeds change their meaning, these do not.

Each file is named after what went wrong. `python -m clarion.testing.story FILE` shows its trace.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from clarion.testing.story import Story

STORIES = sorted((Path(__file__).parent / "stories").glob("*.json"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_that_went_wrong_ends_well(path):
    """Every promise is kept."""
    world = Story.from_json(path.read_text(encoding="utf-8")).play()

    assert world.violations == []


def test_some_stories_are_kept():
    """An empty folder would let the test above pass."""
    assert STORIES
