"""What a look-alike answers by its provider's contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Reply:
    """What the provider's contract says to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delivers: Sequence[str] = ()
    """Correlation ids of the messages that this answer takes; none for everything else."""
