"""Which of the offered places a job takes, and what its timeline will say of the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from clarion.domain.notification import Call, Delivery, Job, Priority
from clarion.policies.routing import RoutePlan, RouteState, Wants
from clarion.policies.standby import may_stand_by

Considered = tuple[tuple[str, str], ...]


class Room(Protocol):
    """Room for `n` calls at one provider (`actors.messages.Place` or `routing.Offer`)."""

    @property
    def provider(self) -> str:
        """Its name."""
        ...

    @property
    def n(self) -> int:
        """How many calls it takes now."""
        ...

    @property
    def ahead(self) -> int:
        """How many of them wait for a slot once they are on disk."""
        ...

    @property
    def is_probe(self) -> bool:
        """Whether the call is one that finds out whether the provider works again."""
        ...

    @property
    def is_fallback_only(self) -> bool:
        """Whether it is for jobs alone that have tried the earlier providers."""
        ...

    @property
    def why(self) -> str:
        """Why it was chosen."""
        ...


class Allotment:
    """The places of one Demand while they are being filled."""

    def __init__(
        self,
        plan: RoutePlan,
        rooms: Sequence[Room],
        passed_over: Considered,
        route: Sequence[RouteState],
        rng: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._rooms = rooms
        self._left = {room.provider: room.n for room in rooms}
        self._passed_over = passed_over
        self._route = route
        self._rng = rng
        self._stories: dict[str, Considered] = {}

    @property
    def takes_fresh(self) -> bool:
        """Whether a job that has tried nothing could take one of the places left."""
        return any(self._left[room.provider] and not room.is_fallback_only for room in self._rooms)

    @property
    def only_probes_left(self) -> bool:
        """Whether whoever is taken now becomes a probe."""
        left = [room for room in self._rooms if self._left[room.provider]]
        return bool(left) and all(room.is_probe for room in left)

    def suits(self, job: Job) -> bool:
        """Whether one of the places left is for this job."""
        return any(self._suits(job, room) for room in self._rooms)

    def find(self, job: Job) -> Room | None:
        """Return the place that this job would take; None when none suits it."""
        rooms = [room for room in self._rooms if self._suits(job, room)]
        if is_reluctant(job):
            rooms = [room for room in rooms if not room.is_probe] or rooms
        if not rooms:
            return None
        return self._draw(rooms) if self._plan.is_weighted else rooms[0]

    def _suits(self, job: Job, room: Room) -> bool:
        left = self._left[room.provider]
        if not may_stand_by(job):
            left -= room.ahead
        if left <= 0 or room.provider in still_tried(self._route, job):
            return False
        return not room.is_fallback_only or room.provider in next_providers(
            self._plan, self._route, job
        )

    def _draw(self, rooms: Sequence[Room]) -> Room:
        weights = [self._plan.weight(room.provider) for room in rooms]
        if not any(weights):
            weights = [1.0] * len(rooms)
        point = self._rng() * sum(weights)
        for room, weight in zip(rooms, weights, strict=True):
            point -= weight
            if point < 0:
                return room
        # Rounding only: the last one that may be drawn at all.
        return next(room for room, weight in zip(rooms[::-1], weights[::-1], strict=True) if weight)

    def call(self, job: Job, room: Room, now: float) -> Call:
        """Take the place for the job: the call to intend."""
        self._left[room.provider] -= 1
        return Call(
            job,
            job.call + 1,
            room.provider,
            is_probe=room.is_probe,
            why=room.why,
            considered=self._story(job, room.provider),
            is_fallback=not self._plan.is_weighted and room.provider != self._plan.providers[0],
            started_at=now,
        )

    def _story(self, job: Job, chosen: str) -> Considered:
        if job.tried:
            return self._tell(job.tried, chosen)
        if chosen not in self._stories:
            self._stories[chosen] = self._tell((), chosen)
        return self._stories[chosen]

    def _tell(self, tried: tuple[str, ...], chosen: str) -> Considered:
        reasons = dict.fromkeys(self._plan.providers, "not needed: another one was taken")
        reasons.update(self._passed_over)
        reasons.update(dict.fromkeys(tried, "already tried in this attempt"))
        return tuple((name, why) for name, why in reasons.items() if name != chosen)


def is_reluctant(job: Job) -> bool:
    """Whether a job should not be the one that tries out a doubtful provider."""
    return job.priority is Priority.CRITICAL or job.delivery is Delivery.AT_MOST_ONCE


def probe_rank(job: Job) -> tuple[int, ...]:
    """Rank a job as a probe: rather not a reluctant one, rather another one than the last time."""
    return (is_reluctant(job), job.probes)


def still_tried(route: Sequence[RouteState], job: Job) -> tuple[str, ...]:
    """Return the providers that a job's walk has behind it; none once the walk is over.

    A walk waits for a slot only. It is over when the last provider that it could go on to is shut
    meanwhile; before anything is known of the route, nothing is.
    """
    if not job.tried or not route:
        return job.tried
    is_going_on = any(state.can_take and state.provider not in job.tried for state in route)
    return job.tried if is_going_on else ()


def next_providers(plan: RoutePlan, route: Sequence[RouteState], job: Job) -> Sequence[str]:
    """Return the untried providers that a job in the middle of a walk may go to now.

    On an ordered route it waits for the first untried one that could take it; the ones before it
    that cannot are passed. On a weighted one those of weight 0 come behind all others.
    """
    tried = still_tried(route, job)
    untried = [state for state in route if state.provider not in tried]
    if plan.is_weighted:
        drawn = [state for state in untried if plan.weight(state.provider) > 0]
        is_enough = any(state.can_take for state in drawn)
        return [state.provider for state in (drawn if is_enough else untried)]
    names: list[str] = []
    for state in untried:
        names.append(state.provider)
        if state.can_take:
            break
    return names


def wants_of(
    plan: RoutePlan, route: Sequence[RouteState], *, has_fresh: bool, walking: Iterable[Job]
) -> Wants:
    """Sum up what the waiting jobs could use."""
    providers: set[str] = set()
    for job in walking:
        providers.update(next_providers(plan, route, job))
        if len(providers) == len(plan.providers):
            break
    return Wants(has_fresh, frozenset(providers))
