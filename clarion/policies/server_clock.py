"""Where another machine's clock stands, as exactly as questions and answers can tell.

What it showed lies somewhere between question and answer, so the quickest exchange says the most. A
bound grows loose with age, since clocks drift; one that contradicts what is heard was set anew.
"""

from __future__ import annotations

DRIFT = 1e-4
"""Two quartz clocks differ by less: NTP corrects by half of it at most."""


class ServerClock:
    """Turns instants of a server's clock into monotonic ones."""

    def __init__(self) -> None:
        self._least = self._most = 0.0
        """Bounds of the difference (monotonic - server)."""
        self._heard_at: float | None = None

    def heard(self, asked_at: float, shown: float, answered_at: float) -> None:
        """Note that between two monotonic instants the server's clock showed `shown` seconds."""
        least, most = asked_at - shown, answered_at - shown
        if self._heard_at is not None:
            loose = (answered_at - self._heard_at) * DRIFT
            old_least, old_most = self._least - loose, self._most + loose
            if least <= old_most and old_least <= most:
                least, most = max(least, old_least), min(most, old_most)
        self._least, self._most, self._heard_at = least, most, answered_at

    def not_before(self, shown: float) -> float:
        """Return the earliest monotonic instant at which it surely shows `shown`."""
        return shown + self._most
