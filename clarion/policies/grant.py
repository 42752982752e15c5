"""One rate limit for several nodes: what a node asks for, and when it may use what it is given.

The nodes share a *schedule*, kept by a server with a clock of its own. A call takes a place on it,
`gap` behind the one before; a node takes some places at once, ahead of need, so that nothing that
sends ever waits for the server. Each place is an instant: it is used then, or within `TAKE_S`
behind it, or never.

Within any window of T seconds all nodes together make at most `burst + per_second * T` calls:

- Places are `gap` apart, with `slack` for the burst (this is GCRA). That they are taken up to
  `LATENESS_S` behind their instants could squeeze them together by as much, so the slack is smaller
  by it. Where the burst is too small for that, a `guard` parts the places of one node from those
  of the next; within its own places a node keeps its calls apart by a bucket of its own.
- A server that has lost its memory begins with an empty bucket, `QUIET_S` later: the places that
  it gave before are over by then.
- A node that cannot reach the server goes on *alone*, at its part of the limit, once all others
  must have noticed that it is gone and left that part to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from clarion.domain.value import value_class
from clarion.policies.rate_limit import TokenBucket

TAKE_S = 0.05
"""How long behind its instant a place may be taken."""
LATENESS_S = 0.06
"""The same as the server sees it: nobody knows its clock better than to some milliseconds."""
CHUNK_S = 1.0
"""What the nodes take at once, all together, is for so long."""
HORIZON_S = 1.0
"""No place is given further ahead."""
QUIET_S = HORIZON_S + CHUNK_S + LATENESS_S
"""After so long no place is of use that was given before."""
MAX_ASKED = 2000
AGAIN_S = 0.25
"""An answer that has not come by then got lost."""
FORSAKEN_S = 10.0
"""Whoever gets no answer at all for so long goes on alone: nobody is there to tell it so."""


@value_class
class Limit:
    """A rate limit, or the part of one that some nodes have among them."""

    per_second: float
    burst: float

    def part(self, share: float) -> Limit:
        """Return a part of it, 0 < share <= 1."""
        return Limit(self.per_second * share, max(1.0, self.burst * share))

    @property
    def gap_s(self) -> float:
        """How far two places are apart."""
        return 1.0 / self.per_second

    @property
    def slack_s(self) -> float:
        """How far ahead of their turn places may be: the burst."""
        return max(0.0, (self.burst - 1.0) * self.gap_s - LATENESS_S)

    @property
    def guard_s(self) -> float:
        """How far the places of two nodes are apart on top, where the burst is too small."""
        return max(0.0, LATENESS_S - (self.burst - 1.0) * self.gap_s)

    def most(self, nodes: int) -> int:
        """Return how many places one of so many nodes takes at once at most."""
        return max(1, min(MAX_ASKED, int(self.per_second * CHUNK_S / max(1, nodes))))

    def bucket(self, empty_at: float) -> TokenBucket:
        """Return a bucket for it that is empty at a monotonic instant."""
        burst = max(1, int(self.burst))
        bucket = TokenBucket(self.per_second, burst, lambda: empty_at)
        bucket.take(burst, empty_at)
        return bucket


def spread(first: float, n: int, gap_s: float, not_before: float) -> list[float]:
    """Return n places a gap apart, those before an instant at that instant: the burst."""
    return [max(not_before, first + k * gap_s) for k in range(n)]


@value_class
class Grant:
    """What a node is given: monotonic instants, in order. None: ask again at `again_at`."""

    instants: Sequence[float] = ()
    again_at: float = 0.0
    share: float = 1.0
    """The part of the limit that those have who can reach the server, all together."""
    nodes: int = 1
    """How many there are, to divide by where no answer comes any more."""


class GrantedBucket:
    """A bucket that holds what it was given, for a gate; see `rate_limit.TokenBucket`.

    Whoever owns it asks `asks_for` when work waits, and passes the answer on by `give`.
    """

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        """Start with nothing: what the limit admits now, others know."""
        self._limit = limit
        self._share = 1.0
        self._own = TokenBucket(limit.per_second, max(1, int(limit.burst)), clock)
        """Keeps our own calls apart, whoever gives them."""
        self._places: deque[float] = deque()
        self._taken: deque[float] = deque(maxlen=MAX_ASKED)
        self._alone: TokenBucket | None = None
        self._nodes = 1
        self._hunger = 1
        self._given = self._used = 0
        self._again_at = 0.0
        self._unanswered_since: float | None = None
        self.has_used_unseen = False
        """It was alone, and nobody who gives knows yet that it used some of the limit."""

    # --- the bucket ------------------------------------------------------------------------

    def available(self, now: float) -> int:
        """How many calls may go now."""
        own = self._own.available(now)
        alone = self._alone.available(now) if self._alone is not None else 0
        return min(own, alone + self._ready(now, own))

    def take(self, n: int, now: float) -> None:
        """Take `n` that are available, what was given first."""
        self._own.take(n, now)
        for _ in range(min(n, self._ready(now, n))):
            self._taken.append(self._places.popleft())
            self._used += 1
            n -= 1
        if n and self._alone is not None:
            self._alone.take(n, now)

    def give_back(self, n: int) -> None:
        """Return what was not used; what is too late for its instant by now is gone."""
        self._own.give_back(n)
        for _ in range(min(n, len(self._taken))):
            self._places.appendleft(self._taken.pop())
            self._used -= 1
            n -= 1
        if n and self._alone is not None:
            self._alone.give_back(n)

    def next_at(self, now: float) -> float | None:
        """Return the monotonic instant at which time alone may help; None when it cannot."""
        if self.available(now) > 0:
            return None
        held = self._own.next_at(now) or now
        instants = [self._again_at]
        if self._places:
            instants.append(max(held, self._places[0]))
        if self._alone is not None:
            instants.append(max(held, self._alone.next_at(now) or now))
        if self._unanswered_since is not None:
            instants.append(self._unanswered_since + FORSAKEN_S)
        return min((at for at in instants if at > now), default=None)

    def why_empty(self, now: float) -> str:
        """Say why there is none now; "" where nobody has asked for any."""
        if self._alone is not None:
            return "its rate limit is reached, of which this node has a part by itself"
        if self._unanswered_since is not None:
            return "its rate limit is shared, and the answer is on its way"
        is_told = now < self._again_at or bool(self._places)
        return "its rate limit is reached, by all nodes together" if is_told else ""

    def _ready(self, now: float, most: int) -> int:
        places = self._places
        while places and places[0] + TAKE_S < now:
            places.popleft()
        n = 0
        for at in places:
            if at > now or n == most:
                break
            n += 1
        return n

    # --- asking ----------------------------------------------------------------------------

    def asks_for(self, now: float) -> int:
        """Return how many places to ask for now, 0 for none; work waits that could use them."""
        if self._alone is not None or now < self._again_at or self._has_enough(now):
            return 0
        if self._is_forsaken(now):
            self.go_alone(self._nodes, now)
            return 0
        self._again_at = now + AGAIN_S
        if self._unanswered_since is None:
            self._unanswered_since = now
        # What was not used says how much is: more is asked for as long as all of it was.
        if self._given:
            is_all_used = self._used >= self._given
            self._hunger = 2 * self._given + 1 if is_all_used else self._used + 1
        self._given = self._used = 0
        return min(self._hunger, MAX_ASKED)

    def _has_enough(self, now: float) -> bool:
        self._ready(now, 0)
        return len(self._places) > self._given // 2

    def _is_forsaken(self, now: float) -> bool:
        since = self._unanswered_since
        return since is not None and now - since >= FORSAKEN_S

    def give(self, grant: Grant, now: float) -> None:
        """Take over an answer: places, or when to ask again."""
        self.rejoin(now)
        self.has_used_unseen = False
        self._nodes = grant.nodes
        if grant.share != self._share:
            self._share = grant.share
            self._own = self._limit.part(grant.share).bucket(now)
        self._again_at = grant.again_at
        self._places.extend(grant.instants)
        self._given += len(grant.instants)

    def rejoin(self, now: float) -> None:
        """Go on alone no more: the others are about to count on it."""
        if self._alone is not None:
            self._alone, self._again_at = None, now
        self._unanswered_since = None

    def go_alone(self, nodes: int, at: float) -> None:
        """Go on by time at this node's part of the limit, from an empty bucket at `at`."""
        self._unanswered_since = None
        self.has_used_unseen = True
        self._taken.clear()
        if self._alone is None or nodes != self._nodes:
            self._alone = self._limit.part(1.0 / max(1, nodes)).bucket(at)
        self._nodes = nodes

    @property
    def is_alone(self) -> bool:
        """Whether it goes on by time, since nobody gives."""
        return self._alone is not None
