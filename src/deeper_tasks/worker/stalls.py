"""The stalls of an event loop: when it was blocked, and by which job's code."""

from __future__ import annotations

from collections import deque

from deeper_tasks.domain.ids import JobId

_MOST_KEPT = 16


class _Stall:
    __slots__ = ("began", "ended", "job_id")

    def __init__(self, began: float, job_id: JobId | None) -> None:
        self.began = began
        self.ended: float | None = None
        self.job_id = job_id


class Stalls:
    """The latest stalls, by `time.monotonic`. Written by the thread that watches the loop, read in the loop."""

    def __init__(self) -> None:
        self._stalls: deque[_Stall] = deque(maxlen=_MOST_KEPT)

    def begin(self, at: float, job_id: JobId | None) -> None:
        """Note that the code of a job, or of none, has blocked the loop since then."""
        self._stalls.append(_Stall(at, job_id))

    def end(self, at: float) -> None:
        """Note that the loop turns again."""
        if self._stalls and self._stalls[-1].ended is None:
            self._stalls[-1].ended = at

    def held_by_others(self, job_id: JobId, since: float, until: float) -> float:
        """Return for how many seconds of this time other code than the job's has blocked the loop."""
        return sum(
            max(0.0, min(until, until if stall.ended is None else stall.ended) - max(since, stall.began))
            for stall in tuple(self._stalls)
            if stall.job_id != job_id
        )
