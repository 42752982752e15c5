"""A node: one running process of Clarion among those that share a deployment."""

from __future__ import annotations

from clarion.domain.value import value_class


@value_class
class Node:
    """Who it is, as it says itself; an id is made anew at each start of a process."""

    id: str
    host: str = ""
    pid: int = 0
    version: str = ""
    since: float = 0.0
    """When the process started, in epoch seconds by its own clock."""
    address: str = ""
    """Where its HTTP surface is reached; "" where it has none."""
