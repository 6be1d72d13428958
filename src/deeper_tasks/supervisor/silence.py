"""The silence of somebody who should give signs of life, measured by looks without a gap."""

from __future__ import annotations


class Silence:
    """
    Tells when nothing was heard for `limit` seconds.

    Who looks may have been stopped, and the machine with it: after a gap in the
    looks the silence counts anew, so nobody is blamed for time in which no one listened.
    It counts from the first sign.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._widest_gap = limit / 2
        self._heard_at: float | None = None
        self._looked_at: float | None = None

    def hear(self, now: float) -> None:
        """Note a sign of life."""
        self._heard_at = now

    def is_too_long(self, now: float) -> bool:
        """Look once, at a time in seconds that never steps back."""
        was_away = self._looked_at is not None and now - self._looked_at > self._widest_gap
        self._looked_at = now
        if self._heard_at is None:
            return False
        if was_away:
            self._heard_at = now
        return now - self._heard_at >= self._limit
