"""Who is there, who is missed, and what part of a limit is whose."""

from __future__ import annotations

from clarion.policies.grant import QUIET_S
from clarion.policies.presence import GONE_S, MISSED_S, Presence, alone_from

NOW = 5000.0


def test_a_node_is_there_itself():
    presence = Presence("a")

    assert (presence.here, presence.live(NOW), presence.share(1)) == (1, 1, 1.0)


def test_a_node_that_falls_silent_is_missed_for_a_while():
    """It may be cut off and go on by itself: its part is left to it."""
    presence = Presence("a")
    presence.heard(["a", "b", "c"], NOW)

    presence.heard(["a", "b"], NOW + GONE_S)

    assert presence.live(NOW + GONE_S) == 3
    assert presence.share(presence.live(NOW + GONE_S)) == 2 / 3
    presence.heard(["a", "b"], NOW + MISSED_S)
    assert presence.share(presence.live(NOW + MISSED_S)) == 1.0


def test_a_node_that_says_that_it_goes_is_not_missed():
    presence = Presence("a")
    presence.heard(["a", "b"], NOW)

    presence.left("b")

    assert (presence.here, presence.live(NOW)) == (1, 1)


def test_a_node_never_leaves_itself():
    """A registry that was flushed knows nobody, and news may be forged."""
    presence = Presence("a")

    presence.heard([], NOW)
    presence.left("a")

    assert (presence.here, presence.live(NOW)) == (1, 1)


def test_cut_off_it_remembers_how_many_there_were():
    """It hears of nobody any more, and they are as there as they were."""
    presence = Presence("a")
    presence.heard(["a", "b", "c"], NOW)

    assert presence.live(NOW + 10 * MISSED_S) == 3


def test_a_store_that_knows_of_more_nodes_makes_the_share_smaller():
    presence = Presence("a")
    presence.heard(["a", "b"], NOW)

    assert presence.share(4) == 0.5
    assert presence.share(1) == 1.0


def test_alone_begins_when_all_others_have_noticed_and_used_up_what_they_took():
    assert alone_from(NOW) > NOW + GONE_S + QUIET_S
