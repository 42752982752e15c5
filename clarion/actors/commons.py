"""The Commons: what this node shares with the others. Limits, news of circuits, who is there.

Owns the heartbeat, the line on which news come, and what could not be told yet. It stands beside
the way of the notifications: whatever the shared state does, a handler here never waits for it, and
nobody waits for the Commons. While it cannot be used each node goes on by itself.

Who may send: the Supervisor (`WantPlaces`), the Breakers (`TellNews`). A crash costs what it knew
of the others, which the next heartbeat brings back, and news that it had not told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from clarion.actors.commons_messages import (
    CommonsSnapshot,
    Granted,
    LimitsAlone,
    LimitsShared,
    NewsHeard,
    TellNews,
    WantPlaces,
)
from clarion.actors.messages import Internal, Snapshot
from clarion.actors.runtime import Actor, Ref, handles
from clarion.domain.node import Node
from clarion.errors import ActorDead, RedisAway
from clarion.policies.circuit_news import News
from clarion.policies.clock import Clock
from clarion.policies.grant import Grant, Limit, spread
from clarion.policies.presence import BEAT_S, GONE_S, Presence, alone_from
from clarion.policies.server_clock import ServerClock
from clarion.storage.shared_state import Beat, Places, SharedState

log = structlog.get_logger(__name__)

CARE_EVERY_S = 60.0
"""How often it is looked whether keys may be thrown away."""
LEAST_RETRY_S = 0.1
QUICK_S = 0.01
"""A round trip that is longer is asked ahead for: the first places would be over on arrival."""
MAX_AHEAD_S = 0.25
CLOCK_SET_S = 60.0
"""News that are older than the last ones by more come after a clock was set back."""
_LISTENING = "commons-listen"


@dataclass(frozen=True, slots=True)
class _Beat(Internal):
    """Self: time to say that this node is there."""


@dataclass(frozen=True, slots=True)
class _Beaten(Internal):
    """Self: what came of it; `ticket` tells the heartbeats of a crashed instance apart."""

    ticket: object
    asked_at: float
    found: Beat | Exception
    eviction: str | None


@dataclass(frozen=True, slots=True)
class _Taken(Internal):
    """Self: what came of asking for places."""

    asked: WantPlaces
    limit: Limit
    share: float
    nodes: int
    ahead_s: float
    asked_at: float
    answered_at: float
    found: Places | Exception | None


@dataclass(frozen=True, slots=True)
class _Listen(Internal):
    """Self: listen for news (again)."""


@dataclass(frozen=True, slots=True)
class _Heard(Internal):
    """Self: news from another node, or that it goes."""

    news: News | None
    left: str = ""


@dataclass(frozen=True, slots=True)
class _Told(Internal):
    """Self: the others have been told."""

    news: News


class Commons(Actor):
    """One node among others; see the module."""

    def __init__(
        self,
        shared: SharedState,
        own: Callable[[], Node],
        *,
        limits: Mapping[str, Limit],
        providers: Collection[str],
        supervisor: Ref,
        breaker_of: Callable[[str], Ref],
        clock: Clock,
        live_nodes: Callable[[], int] | None = None,
    ) -> None:
        """`own` says who this node is; its id never changes.

        `limits` are those that are shared; `live_nodes` counts where something else can.
        """
        super().__init__()
        self._shared = shared
        self._own = own
        self._limits = limits
        self._providers = providers
        self._supervisor = supervisor
        self._breaker_of = breaker_of
        self._clock = clock
        self._live_nodes = live_nodes
        self._presence = Presence(own().id)
        self._server_clock = ServerClock()
        self._ticket = object()
        self._nodes: tuple[Node, ...] = (own(),)
        self._beat_at: float | None = None
        self._care_at = 0.0
        self._reason = "it has not answered yet"
        self._eviction = ""
        self._asking: set[str] = set()
        self._trip_s = 0.0
        self._untold: dict[tuple[str, str], tuple[News, float]] = {}
        self._heard_at: dict[tuple[str, str], float] = {}

    def on_start(self) -> None:
        """Say that this node is there, and listen."""
        self._beat()
        if not any(task.get_name() == _LISTENING for task in self.context.tasks):
            self._listen()

    async def on_stop(self) -> None:  # type: ignore[override]  # pykka's is sync
        """Say that this node goes."""
        for task in self.context.tasks:
            if task.get_name() == _LISTENING:
                task.cancel()
        with suppress(RedisAway):
            await self._shared.leave(self._own().id)
        await self._shared.close()

    def _hear(self, news: Internal) -> None:
        # At the end the tasks outlive the actor, and what they find out concerns nobody.
        if self.context.ref.is_alive():
            self.context.ref.tell(news)

    # --- the heartbeat ---------------------------------------------------------------------

    @handles(_Beat)
    def beat(self, _message: _Beat) -> None:
        """Say that this node is there."""
        self._beat()

    def _beat(self) -> None:
        now = self._clock.monotonic()
        cares = now >= self._care_at
        self.context.start_task(self._exchange(self._ticket, now, cares=cares), name="commons-beat")

    async def _exchange(self, ticket: object, asked_at: float, *, cares: bool) -> None:
        found: Beat | Exception
        eviction = None
        try:
            await self._shared.warm()
            found = await self._shared.beat(self._own())
            if cares:
                with suppress(RedisAway):  # It may be hidden from us.
                    eviction = await self._shared.eviction()
        except Exception as error:
            # The boundary of a task: whatever it was, the next heartbeat tries again.
            found = error
        self._hear(_Beaten(ticket, asked_at, found, eviction))

    @handles(_Beaten)
    def beaten(self, message: _Beaten) -> None:
        """Take over what a heartbeat brought back, or go on without."""
        if message.ticket is not self._ticket:
            return
        if isinstance(message.found, Exception):
            self._miss(message.found)
            return
        if self._reason:
            log.info("redis_there", nodes=len(message.found.nodes))
            self._supervisor.tell(LimitsShared())
        self._reason = ""
        self._beat_at = message.asked_at
        self._nodes = message.found.nodes
        self._presence.heard([node.id for node in self._nodes], self._clock.monotonic())
        if message.eviction is not None:
            self._mind(message.eviction)
        for news in message.found.news:
            self._pass_on(news)
        self._tell_untold()
        self.context.later(BEAT_S, _Beat())

    def _mind(self, eviction: str) -> None:
        self._care_at = self._clock.monotonic() + CARE_EVERY_S
        if eviction and eviction != self._eviction:
            log.warning("redis_evicts", policy=eviction, fix="set maxmemory-policy to noeviction")
        self._eviction = eviction

    def _miss(self, error: Exception) -> None:
        reason, retry_in_s = _reason_of(error)
        if reason != self._reason:
            level = log.warning if isinstance(error, RedisAway) else log.error
            level("redis_away", reason=reason, then="limits are per node, divided by the nodes")
        self._reason = reason
        if self._is_alone():
            self._go_alone(tuple(self._limits))
        self.context.later(min(max(retry_in_s, LEAST_RETRY_S), BEAT_S), _Beat())

    # --- limits ----------------------------------------------------------------------------

    def _is_alone(self) -> bool:
        """Whether it cannot be used, and has not been for so long that the others notice."""
        if not self._reason or self._beat_at is None:
            return bool(self._reason)
        return self._clock.monotonic() - self._beat_at >= GONE_S

    def _go_alone(self, providers: tuple[str, ...]) -> None:
        now = self._clock.monotonic()
        at = now if self._beat_at is None else max(now, alone_from(self._beat_at))
        self._supervisor.tell(LimitsAlone(providers, self._live(now), at))

    def _live(self, now: float) -> int:
        if self._live_nodes is None:
            return self._presence.live(now)
        return max(self._live_nodes(), 1)

    @handles(WantPlaces)
    def want_places(self, message: WantPlaces) -> None:
        """Ask for places, or say that there is nobody to ask."""
        if message.provider in self._asking:
            return
        if self._beat_at is not None and self._is_alone():
            self._go_alone((message.provider,))
            return
        now = self._clock.monotonic()
        live = self._live(now)
        share = self._presence.share(live)
        limit = self._limits[message.provider].part(share)
        asked = replace(message, n=min(message.n, limit.most(self._presence.here)))
        ahead_s = min(1.5 * self._trip_s, MAX_AHEAD_S) if self._trip_s > QUICK_S else 0.0
        self._asking.add(message.provider)
        taking = _Taken(asked, limit, share, live, ahead_s, now, now, None)
        self.context.start_task(self._take(taking), name="commons-take")

    async def _take(self, taking: _Taken) -> None:
        asked = taking.asked
        found: Places | Exception
        asked_at = self._clock.monotonic()
        try:
            found = await self._shared.take(
                asked.provider, taking.limit, self._own().id, asked.n,
                ahead_s=taking.ahead_s, is_drained=asked.has_used_unseen,
            )  # fmt: skip
        except Exception as error:
            # The boundary of a task: it is asked again.
            found = error
        answered_at = self._clock.monotonic()
        self._hear(replace(taking, asked_at=asked_at, answered_at=answered_at, found=found))

    @handles(_Taken)
    def taken(self, message: _Taken) -> None:
        """Pass on what was given."""
        provider, found = message.asked.provider, message.found
        self._asking.discard(provider)
        if not isinstance(found, Places):
            return  # Without an answer it is asked again; the heartbeat says what is wrong.
        self._trip_s = message.answered_at - message.asked_at
        clock = self._server_clock
        clock.heard(message.asked_at, found.shown, message.answered_at)
        not_before = found.shown + message.ahead_s
        instants = spread(found.first, found.n, message.limit.gap_s, not_before)
        grant = Grant(
            [clock.not_before(each) for each in instants],
            again_at=0.0 if instants else clock.not_before(found.first),
            share=message.share,
            nodes=message.nodes,
        )
        self._supervisor.tell(Granted(provider, grant))

    # --- news ------------------------------------------------------------------------------

    @handles(TellNews)
    def tell_news(self, message: TellNews) -> None:
        """Tell the others, now or as soon as that is possible."""
        news = replace(message.news, node=self._own().id)
        self._untold[news.topic] = news, self._clock.monotonic()
        if not self._reason:
            self._tell_untold()

    def _tell_untold(self) -> None:
        now = self._clock.monotonic()
        for topic, (news, at) in list(self._untold.items()):
            told = replace(
                news, remaining_s=news.remaining_s - (now - at), age_s=news.age_s + now - at
            )
            self._untold[topic] = told, now
            if told.is_over:
                del self._untold[topic]
            else:
                self.context.start_task(self._tell(told), name="commons-tell")

    async def _tell(self, news: News) -> None:
        with suppress(RedisAway):  # The heartbeat says so, and what is untold stays.
            await self._shared.tell(news)
            self._hear(_Told(news))

    @handles(_Told)
    def told(self, message: _Told) -> None:
        """Forget what was told, unless there is something newer."""
        news, _ = self._untold.get(message.news.topic, (None, 0.0))
        if news == message.news:
            del self._untold[message.news.topic]

    @handles(_Listen)
    def listen_again(self, _message: _Listen) -> None:
        """Listen for news after the line broke."""
        self._listen()

    def _listen(self) -> None:
        self.context.start_task(self._follow(), name=_LISTENING)

    async def _follow(self) -> None:
        try:
            await self._shared.listen(
                lambda news: self._hear(_Heard(news)), lambda node: self._hear(_Heard(None, node))
            )
        except Exception as error:
            # The boundary of a task: what is told meanwhile comes with the heartbeats.
            _, retry_in_s = _reason_of(error)
            if self.context.ref.is_alive():
                self.context.later(max(retry_in_s, LEAST_RETRY_S), _Listen())

    @handles(_Heard)
    def heard(self, message: _Heard) -> None:
        """Pass on what another node found out, or note that it goes."""
        if message.news is not None:
            self._pass_on(message.news)
        elif message.left != self._own().id:
            self._presence.left(message.left)
            self._nodes = tuple(node for node in self._nodes if node.id != message.left)

    def _pass_on(self, news: News) -> None:
        if news.node == self._own().id or news.provider not in self._providers:
            return
        last_at = self._heard_at.get(news.topic)
        if last_at is not None and last_at - CLOCK_SET_S < news.at <= last_at:
            return
        self._heard_at[news.topic] = news.at
        if not news.is_over:
            with suppress(ActorDead):
                self._breaker_of(news.provider).tell(NewsHeard(news))

    # --- people ----------------------------------------------------------------------------

    @handles(Snapshot)
    def snapshot(self, _message: Snapshot) -> CommonsSnapshot:
        """Say who is there, and whether what they share can be used."""
        live = self._live(self._clock.monotonic())
        return CommonsSnapshot(
            self._shared.name, self._reason, self._eviction, self._own(), self._nodes, live
        )


def _reason_of(error: Exception) -> tuple[str, float]:
    """Return why it cannot be used, and when trying again makes sense."""
    if isinstance(error, RedisAway):
        return error.reason, error.retry_in_s
    return f"{type(error).__name__}: {error}", BEAT_S
