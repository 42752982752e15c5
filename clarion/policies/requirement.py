"""What a setting of a policy must be. Each check raises ValueError: which, what it is, what may be.

`settings.toml` is checked at the start already, with every fault at once; these guard the policies
that are made in code.
"""

from __future__ import annotations

import math


def require_count(name: str, value: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def require_seconds(name: str, value: float) -> None:
    """Refuse what is not a finite duration above 0."""
    if not (_is_finite(value) and value > 0):
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")


def require_seconds_or_zero(name: str, value: float) -> None:
    """Refuse what is not a finite duration of at least 0."""
    if not (_is_finite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")


def require_factor(name: str, value: float) -> None:
    """Refuse a multiplier that would shrink what it multiplies."""
    if not (_is_finite(value) and value >= 1):
        raise ValueError(f"{name} must be at least 1, not {value!r}")


def require_share(name: str, value: float) -> None:
    """Refuse what is not a share: above 0, at most 1."""
    if not (_is_finite(value) and 0 < value <= 1):
        raise ValueError(f"{name} must be above 0 and at most 1 (1 is all of them), not {value!r}")


def require_spread(name: str, value: float) -> None:
    """Refuse what is not between 0 (none) and 1 (up to twice as long)."""
    if not (_is_finite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be between 0 and 1, not {value!r}")


def _is_finite(value: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
