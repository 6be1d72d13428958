"""The backoff: the pause before a process that ended is started again."""

from __future__ import annotations

from collections.abc import Callable

_SHORTEST, _LONGEST = 0.5, 30.0
_WELL = 10.0
"""
Seconds of work after which a process's start counts as a success.

It is well above the time of a crash at the start. It is also short enough that a process which a heavy job ends now
and then starts again without a pause: the job's attempts bound how often that happens.
"""
_MOST_DOUBLINGS = 16


class Backoff:
    """Pauses of 0 s, then of 0.5 s doubling up to 30 s, each made up to a half shorter at random."""

    def __init__(self, *, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0

    def next(self, *, worked_for: float) -> float:
        """Return the pause in seconds after a process that worked for `worked_for` seconds."""
        if worked_for >= _WELL:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        longest = min(_SHORTEST * 2.0 ** min(self._failures - 2, _MOST_DOUBLINGS), _LONGEST)
        return longest * (1 - self._random() / 2)

    def reset(self) -> None:
        """Forget the failures, because the application has changed since."""
        self._failures = 0
