"""How numbers, times and strangers' words are written for a person."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 10}


def clean(text: str) -> str:
    """Make control characters visible: what a provider answered must not steer the terminal."""
    return text.translate(_CONTROLS)


def counted(n: int, word: str) -> str:
    """Return a number with its noun: `1 attempt`, `1,204 attempts`."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def span(seconds: float) -> str:
    """Return a duration in the unit that fits: `41 s`, `12 min`, `5 h`, `9 d`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} d"


def age(since: str | None, now: float) -> str | None:
    """Return how long ago an instant of the API was, seen at `now` in epoch seconds."""
    if since is None:
        return None
    return span(max(0.0, now - datetime.fromisoformat(since).timestamp()))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant, or all that could be; "" where nothing is known."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(names)}" if names else ""
