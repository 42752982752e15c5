"""A failing story is cut down to the deeds that matter, and told so that a person can read it."""

from __future__ import annotations

from clarion.testing import soak
from clarion.testing.plot import Chaos, draw
from clarion.testing.shrink import kind_of, least, shrink
from clarion.testing.story import Deed, Story
from clarion.testing.witness import Witness

SHORT = Chaos(horizon_s=20.0, notifications=30, deaths=0, crashes=4, moods=4)


def test_the_least_of_a_list_is_what_is_needed():
    """Whatever stands between."""
    found = least(range(100), lambda some: {3, 77} <= set(some))

    assert list(found) == [3, 77]


def test_violations_of_one_kind_differ_in_ids_and_numbers_alone():
    """Else a story would be cut down to another one."""
    first = kind_of("at 30.824 s: beta: 2 calls in flight, 1 allowed")
    assert first == kind_of("at 9.1 s: beta: 4 calls in flight, 3 allowed")
    assert first != kind_of("at 30.824 s: beta: called while its circuit is open")


def test_a_story_written_down_is_the_same_story():
    """A kept one has to mean tomorrow what it means today."""
    story = draw(5, SHORT)

    again = Story.from_json(story.to_json())

    assert again == story
    assert again.play().trace == story.play().trace


def test_a_failing_story_is_cut_down_and_told(tmp_path, monkeypatch):
    """Only the deed is left that meets a (planted) bug, and how to see it again."""
    monkeypatch.setenv("CLARION_STORIES", str(tmp_path))
    move = Witness._move

    def accuse_undelivered(self, id, channel, new):
        move(self, id, channel, new)
        if new == "sent":
            self._accuse(f"{id} was sent")

    monkeypatch.setattr(Witness, "_move", accuse_undelivered)
    story = draw(3, SHORT)
    violation = story.play().violations[0]

    small = shrink(story, violation)
    told = soak.tell(3, small)

    assert [deed.kind for deed in small.deeds] in (["send"], ["batch"])
    assert all(len(deed.details.get("items", [1])) == 1 for deed in small.deeds)
    assert " was sent" in told
    assert "queued -> sending" in told
    assert f"python -m clarion.testing.story {tmp_path / 'story-3.json'}" in told
    assert isinstance(small.deeds[0], Deed)


def test_a_failing_seed_is_named_before_it_is_cut_down(monkeypatch, tmp_path, capsys):
    """Cutting down may take longer than anybody waits; without time the whole of it is told."""
    monkeypatch.setenv("CLARION_STORIES", str(tmp_path))
    story = draw(3, SHORT)

    whole = shrink(story, "at 1 s: a promise was broken", max_s=0.0)
    soak.cut_down(3, story, "at 1 s: a promise was broken")

    assert whole == story
    assert "seed 3 breaks a promise" in capsys.readouterr().err
