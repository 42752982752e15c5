"""What `clarion check` tries of Redis."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from clarion.cli.finding import Finding
from clarion.domain.node import Node
from clarion.errors import RedisAway

if TYPE_CHECKING:
    from clarion.settings import Settings

_LET_US: Final = (
    "start the Redis server, or mend redis.url, the user's rights or the network between"
)
_TRIAL: Final = "check"
"""The node that is there for as long as the check takes."""


async def try_redis(settings: Settings) -> Finding:
    """Do what a node does there, and undo it: a heartbeat, and a goodbye."""
    import random

    from clarion import blueprint
    from clarion.policies.clock import SystemClock

    shared = blueprint.shared_state(settings, random.random, SystemClock())
    eviction = ""
    try:
        found = await shared.beat(Node(_TRIAL))
        await shared.leave(_TRIAL)
    except RedisAway as error:
        return Finding("redis", False, str(error), _LET_US)
    else:
        with suppress(RedisAway):  # It may be hidden from us.
            eviction = await shared.eviction()
    finally:
        await shared.close()
    n = sum(node.id != _TRIAL for node in found.nodes)
    there = f"{shared.name} can be used; {n} {'node' if n == 1 else 'nodes'} there"
    if eviction:
        fix = "set its maxmemory-policy to noeviction: it may throw away what the nodes share"
        return Finding("redis", True, f"{there}; its maxmemory-policy is {eviction}", fix)
    return Finding("redis", True, there)
