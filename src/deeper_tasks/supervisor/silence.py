"""The silence of a process: the time since its last sign of life, as far as the supervisor was running."""

from __future__ import annotations


class Silence:
    """
    Detects that no sign of life has come for `limit` seconds, counted from the first sign on.

    The supervisor itself may have been suspended, alone or with its machine. After a gap between two looks the count
    starts again, so that no process is killed for time in which the supervisor did not listen.
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
        """Whether the silence has reached the limit; `now` is in seconds and never steps back."""
        was_away = self._looked_at is not None and now - self._looked_at > self._widest_gap
        self._looked_at = now
        if self._heard_at is None:
            return False
        if was_away:
            self._heard_at = now
        return now - self._heard_at >= self._limit
