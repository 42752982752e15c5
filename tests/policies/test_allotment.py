"""Which of the offered places a job takes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from clarion.domain.notification import Delivery, Priority
from clarion.policies.allotment import Allotment, next_providers, still_tried, wants_of
from clarion.policies.lane import Lane
from clarion.policies.lane_route import LaneRoute
from clarion.policies.routing import Offer, RoutePlan, RouteState

ORDERED = RoutePlan("email", ("a", "b", "c"))
SHUT = (
    {"circuit": "open"},
    {"circuit": "half_open"},
    {"circuit": "forced_open"},
    {"is_enabled": False},
    {"is_misconfigured": True},
    {"is_throttled": True},
    {"is_alive": False},
)


def weighted(**weights):
    return RoutePlan("email", ("a", "b", "c"), is_weighted=True, weights=weights)


def room(provider, n=1, *, is_probe=False, is_fallback_only=False):
    return Offer(provider, n, is_probe, is_fallback_only, "why")


def route(**states):
    return tuple(
        RouteState(name, **({"circuit": "closed"} | states.get(name, {}))) for name in "abc"
    )


def allot(rooms, plan=ORDERED, states=None, rng=lambda: 0.0):
    return Allotment(plan, rooms, (), route() if states is None else states, rng)


def found(places, job):
    place = places.find(job)
    assert places.suits(job) is (place is not None)
    return None if place is None else place.provider


def test_a_fresh_job_takes_the_first_place_in_route_order(make_job):
    """Ordered routes: the offers come in the order of the route, and are used up in it."""
    places = allot([room("a", 1), room("b", 2)])

    chosen = []
    while places.takes_fresh:
        place = places.find(make_job())
        chosen.append(places.call(make_job(), place, 7.0).provider)

    assert chosen == ["a", "b", "b"]
    assert found(places, make_job()) is None


def test_no_job_returns_to_a_provider_that_its_walk_has_tried(make_job):
    """Fallback goes on, never back."""
    places = allot([room("a"), room("b")])

    assert found(places, make_job(tried=("a",))) == "b"
    assert found(places, make_job(tried=("b",))) == "a"
    assert found(places, make_job(tried=("a", "b"))) is None


def test_a_fallback_place_is_not_for_fresh_jobs(make_job):
    """It is there for those that the earlier provider failed."""
    places = allot([room("b", is_fallback_only=True)])

    assert not places.takes_fresh
    assert found(places, make_job()) is None
    assert found(places, make_job(tried=("a",))) == "b"


def test_a_walk_waits_for_the_next_provider_and_leaves_the_one_behind_it(make_job):
    """`b` has no slot at the moment; that is no reason to hurry on to `c`."""
    places = allot([room("c", is_fallback_only=True)])

    assert found(places, make_job(tried=("a",))) is None


@pytest.mark.parametrize("shut", SHUT)
def test_a_walk_passes_a_provider_that_is_shut(make_job, shut):
    """Only a slot is waited for."""
    places = allot([room("c", is_fallback_only=True)], states=route(b=shut))

    assert found(places, make_job(tried=("a",))) == "c"


@pytest.mark.parametrize("shut", SHUT)
def test_a_walk_is_over_when_the_last_provider_to_wait_for_is_shut(make_job, shut):
    """It must not wait for days for `c` while `a` works: it may go anywhere again."""
    job, states = make_job(tried=("a", "b")), route(c=shut)

    assert still_tried(states, job) == ()
    assert list(next_providers(ORDERED, states, job)) == ["a"]
    assert found(allot([room("a")], states=states), job) == "a"
    assert wants_of(ORDERED, states, has_fresh=False, walking=[job]).walking == {"a"}


def test_before_the_route_is_known_no_walk_is_over(make_job):
    """A lane that just started does not send a job to where it failed a moment ago."""
    job = make_job(tried=("a",))

    assert still_tried((), job) == ("a",)
    assert list(next_providers(ORDERED, (), job)) == []
    assert found(allot([room("a")], states=()), job) is None


@pytest.mark.parametrize("plan", [ORDERED, weighted()])
@pytest.mark.parametrize(
    "fields", [{"priority": Priority.CRITICAL}, {"delivery": Delivery.AT_MOST_ONCE}]
)
def test_a_reluctant_job_is_no_probe_while_there_is_a_choice(make_job, plan, fields):
    """Critical and at-most-once ones take a place that is none, in whatever order."""
    job, probe = make_job(**fields), room("a", is_probe=True)

    assert found(allot([probe, room("b")], plan), job) == "b"
    assert found(allot([probe], plan), job) == "a"
    assert found(allot([probe, room("b")], plan), make_job()) == "a"


def test_who_becomes_a_probe_is_chosen_when_nothing_else_is_left(make_job):
    """As long as there are other places, the order of the lane holds."""
    places = allot([room("a", is_probe=True), room("b")])
    assert not places.only_probes_left

    places.call(make_job(), places.find(make_job(tried=("a",))), 0.0)
    assert places.only_probes_left

    places.call(make_job(), places.find(make_job()), 0.0)
    assert not places.only_probes_left
    assert not places.takes_fresh


def test_a_call_says_why_and_why_not_the_others(make_job):
    """The timeline names each provider of the route that was not chosen, and its reason."""
    plan = ORDERED
    offers = [Offer("b", 1, True, False, "a probe")]
    places = Allotment(plan, offers, (("a", "circuit open"),), route(), lambda: 0.0)
    job = make_job(call=4, tried=("c",))

    call = places.call(job, places.find(job), 7.0)

    assert (call.number, call.provider, call.why, call.started_at) == (5, "b", "a probe", 7.0)
    assert (call.is_probe, call.is_fallback) == (True, True)
    assert call.considered == (("a", "circuit open"), ("c", "already tried in this attempt"))


# --- weighted routes -----------------------------------------------------------------------


def draws(plan, rooms, job, n=20_000, states=None):
    places = allot(rooms, plan, states, random.Random(7).random)
    return Counter(found(places, job) for _ in range(n))


def test_draws_follow_the_weights(make_job):
    """70 to 30 is 70 to 30."""
    drawn = draws(weighted(a=70, b=30, c=0), [room("a"), room("b")], make_job())

    assert drawn["a"] / drawn.total() == pytest.approx(0.7, abs=0.02)


def test_a_provider_without_a_weight_counts_as_one(make_job):
    """As the settings reckon it when they check that weights sum to something."""
    drawn = draws(weighted(a=2), [room("a"), room("b"), room("c")], make_job())

    assert drawn["a"] / drawn.total() == pytest.approx(0.5, abs=0.02)
    assert drawn["b"] / drawn.total() == pytest.approx(0.25, abs=0.02)


def test_only_providers_that_are_left_are_drawn(make_job):
    """The shares of those without room, or tried, go to the others as they stand."""
    plan, rooms = weighted(a=90, b=6, c=3), [room("a", 0), room("b"), room("c")]

    drawn = draws(plan, rooms, make_job())
    walking = draws(plan, [room("a"), *rooms[1:]], make_job(tried=("a",)))

    assert drawn["b"] / drawn.total() == pytest.approx(2 / 3, abs=0.02)
    assert walking["b"] / walking.total() == pytest.approx(2 / 3, abs=0.02)
    assert drawn["a"] == walking["a"] == 0


@pytest.mark.parametrize("point", [0.0, 0.5, 0.999999, 1.0 - 2**-53])
def test_a_weight_of_zero_is_never_drawn_beside_others(make_job, point):
    """Not by a draw at the very edge, either."""
    plan = weighted(a=0, b=0.1, c=0)

    assert found(allot([room(name) for name in "abc"], plan, rng=lambda: point), make_job()) == "b"


def test_a_provider_of_weight_zero_takes_the_walks_that_have_nowhere_else_to_go(make_job):
    """It stands by: for nobody while a weighted provider can take, for all when none can."""
    plan, places = weighted(a=1, b=1, c=0), [room("c", is_fallback_only=True)]
    waits, states = make_job(tried=("a",)), route(b={"circuit": "open"})

    assert found(allot(places, plan), waits) is None
    assert found(allot(places, plan, states), waits) == "c"
    assert found(allot(places, plan), make_job(tried=("a", "b"))) == "c"
    assert found(allot([room("c")], plan), make_job()) == "c"


# --- what a lane wants ---------------------------------------------------------------------


def test_a_lane_wants_what_its_fresh_and_walking_jobs_could_use(make_job):
    """Only that is offered, so that nothing is offered in a circle."""
    line, lane_route = Lane(100), LaneRoute(ORDERED, route())
    assert lane_route.wants(line).is_nothing

    line.push(make_job("w", tried=("a",)))
    walking = lane_route.wants(line)
    line.push(make_job("f"))
    both = lane_route.wants(line)

    assert (walking.fresh, walking.walking) == (False, {"b"})
    assert (both.fresh, both.walking) == (True, {"b"})


@pytest.mark.parametrize("shut", [each for each in SHUT if each != {"is_throttled": True}])
def test_a_lane_is_held_when_no_circuit_of_its_route_is_closed(shut):
    """It says why, provider by provider, and when the next try is."""
    all_shut = LaneRoute(ORDERED, route(a=shut, b=shut, c=shut))
    open_at = RouteState("a", "open", retry_at=0.0, reason="circuit open")

    assert all_shut.is_held
    assert not LaneRoute(ORDERED, route(a=shut, b=shut)).is_held
    assert LaneRoute(ORDERED, (open_at,)).held_reason == (
        "no provider of email can take it now (a: circuit open, next try at 00:00:00 UTC)"
    )


@pytest.mark.parametrize("states", [(), route(a={"is_throttled": True}), route()])
def test_a_lane_is_not_held_by_throttling_or_by_not_knowing(states):
    """Throttled circuits are closed; nothing known is no news."""
    lane_route = LaneRoute(ORDERED, states)

    assert not lane_route.is_held
    assert lane_route.held_reason is None


def test_an_at_most_once_job_takes_no_place_where_it_would_stand_by(make_job):
    """A death of the process would park it as unknown, though it was never sent."""
    places = allot([Offer("a", 2, False, False, "why", ahead=1)])
    careful = make_job(delivery=Delivery.AT_MOST_ONCE)

    assert found(places, careful) == "a"
    places.call(careful, places.find(careful), 7.0)

    assert found(places, make_job(delivery=Delivery.AT_MOST_ONCE)) is None
    assert found(places, make_job()) == "a"
