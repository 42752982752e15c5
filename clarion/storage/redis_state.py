"""What the nodes of a deployment share in Redis: who is there, limits, and news of circuits.

All keys lie under one prefix, in one slot of a cluster. Each exchange is one script. Nothing here
ever asks Redis to forget what is not ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from redis.asyncio.connection import Connection

from clarion.domain.node import Node
from clarion.policies.circuit_news import News, read, write
from clarion.policies.grant import HORIZON_S, QUIET_S, Limit
from clarion.policies.presence import GONE_S
from clarion.storage.reader import PoolState
from clarion.storage.redis_lua import BEAT, LEAVE, TAKE, TELL
from clarion.storage.redis_pool import ANSWER_S, RedisPool
from clarion.storage.shared_state import Beat, Places

FORGOTTEN_S = 86_400.0
"""What nobody touches is gone after a day: a deployment that is no more leaves nothing behind."""
SILENCE_S = 10.0
"""After so long without news the line is asked whether it still stands."""
MICRO = 1_000_000


class RedisState:
    """Implements `shared_state.SharedState`."""

    def __init__(self, pool: RedisPool, prefix: str) -> None:
        self._pool = pool
        self._at = f"{{{prefix}}}:"

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return self._pool.name

    def state(self) -> PoolState:
        """Say how the pool of connections stands."""
        return self._pool.state()

    async def warm(self) -> None:
        """Open the connections that are kept."""
        await self._pool.warm()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    # --- who is there ----------------------------------------------------------------------

    async def beat(self, node: Node) -> Beat:
        """Say that a node is there, and hear of all the others and their circuits."""
        described = json.dumps(asdict(node))
        values = (node.id, described, round(GONE_S * MICRO), round(FORGOTTEN_S * 1000))
        keys = self._keys("nodes", "beats", "circuits")
        now, ids, nodes, lines = await self._pool.run_script(BEAT, keys, values)
        known = dict(zip(nodes[::2], nodes[1::2], strict=True))
        news = (read(_text(line), now / MICRO) for line in lines)
        return Beat(
            tuple(_node(_text(id), known.get(id, b"")) for id in ids),
            tuple(each for each in news if each is not None),
        )

    async def leave(self, node: str) -> None:
        """Say that a node goes."""
        await self._pool.run_script(LEAVE, self._keys("nodes", "beats", "news"), (node,))

    # --- limits ----------------------------------------------------------------------------

    async def take(
        self, name: str, limit: Limit, node: str, n: int, *, ahead_s: float, is_drained: bool
    ) -> Places:
        """Take some places on the schedule of a limit, none before `ahead_s` from now.

        `is_drained` begins with an empty bucket: the node has used some of it unseen.
        """
        spans_s = (limit.gap_s, limit.slack_s, limit.guard_s, HORIZON_S, QUIET_S, ahead_s)
        spans = (repr(span_s * MICRO) for span_s in spans_s)
        now, n, first = await self._pool.run_script(
            TAKE, self._keys(f"limit:{name}", "memory"), (node, n, *spans, int(is_drained))
        )
        return Places(now / MICRO, n, first / MICRO)

    # --- news ------------------------------------------------------------------------------

    async def tell(self, news: News) -> None:
        """Tell the others, and keep it for those who come later."""
        words = write(news, 0.0).rsplit(" ", 2)[0]
        values = (
            " ".join(news.topic), words, round(news.remaining_s * MICRO),
            round(FORGOTTEN_S * 1000),
        )  # fmt: skip
        await self._pool.run_script(TELL, self._keys("circuits", "news"), values)

    async def listen(self, on_news: Callable[[News], None], on_left: Callable[[str], None]) -> None:
        """Pass on what others tell, until the line breaks."""
        async with self._pool.line("SUBSCRIBE", *self._keys("news")) as line:
            while True:
                reply = await _next(line)
                if reply[0] == b"message":
                    _pass_on(_text(reply[2]), on_news, on_left)

    # --- care ------------------------------------------------------------------------------

    async def eviction(self) -> str:
        """Return the policy by which it throws keys away; "" where it throws none, or hides it."""
        info = _text(await self._pool.run("INFO", "memory"))
        found = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        policy = found.get("maxmemory_policy", "noeviction").strip()
        return "" if policy == "noeviction" else policy

    def _keys(self, *names: str) -> Sequence[str]:
        return [self._at + name for name in names]


async def _next(line: Connection) -> Any:
    """Return what comes next on a line; one that is silent for long is asked whether it stands."""
    reply = await line.read_response(timeout=SILENCE_S)
    if reply is None:
        await line.send_command("PING")
        reply = await line.read_response(timeout=ANSWER_S)
        if reply is None:
            raise TimeoutError("the line is dead")
    return reply


def _pass_on(said: str, on_news: Callable[[News], None], on_left: Callable[[str], None]) -> None:
    word, _, node = said.partition(" ")
    if word == "left":
        on_left(node)
        return
    with suppress(ValueError, IndexError):
        # It has just been told: its own clock is the server's.
        news = read(said, float(said.split(" ")[-2]))
        if news is not None:
            on_news(news)


def _node(id: str, described: bytes) -> Node:
    """Return what a node says of itself; of one that says nothing that is understood, its id."""
    try:
        found = json.loads(described)
    except ValueError:
        return Node(id)
    known: Mapping[str, Any] = found if isinstance(found, dict) else {}
    fields = {
        name: known[name]
        for name, kind in _NODE_FIELDS.items()
        if isinstance(known.get(name), kind) and not isinstance(known[name], bool)
    }
    return Node(**{**fields, "id": id})


_NODE_FIELDS: Mapping[str, Any] = {
    "host": str, "pid": int, "version": str, "since": int | float, "address": str,
}  # fmt: skip


def _text(found: Any) -> str:
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)
