"""The prefetch of a queue: how many jobs may be claimed ahead, by how long the last jobs took."""

from __future__ import annotations

_MOST_AHEAD = 1000
"""Two claims of the largest size, so that one is made while the jobs of the other run."""
_SHORTEST = 0.00002
_FORGETTING = 0.1
_WORTH_A_WRITE = 0.05
"""Seconds of a job above which one more write for it does not matter."""


class Prefetch:
    """
    Estimates how long a job of a queue takes. A longer job raises the estimate at once, shorter ones lower it slowly.

    So a queue that mixes long and short jobs counts as a slow one, and its jobs are
    left in the store, where an idle worker can claim them.
    """

    def __init__(self, *, slots: int, horizon: float) -> None:
        self._slots = slots
        self._horizon = horizon
        self._seconds: float | None = None

    def observe(self, seconds: float) -> None:
        """Note how long a job ran."""
        estimate = self._seconds
        if estimate is None or seconds > estimate:
            self._seconds = seconds
        else:
            self._seconds = estimate + (seconds - estimate) * _FORGETTING

    @property
    def ahead(self) -> int:
        """How many jobs beyond the free slots will start within the horizon; 0 before the first job has ended."""
        if self._seconds is None:
            return 0
        return min(_MOST_AHEAD, int(self._slots * self._horizon / max(self._seconds, _SHORTEST)))

    @property
    def is_slow(self) -> bool:
        """Whether these jobs are long enough that the start of each may be written before it."""
        return self._seconds is not None and self._seconds >= _WORTH_A_WRITE
