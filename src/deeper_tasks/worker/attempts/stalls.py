"""The stalls of an event loop: when it was blocked, and by which job's code."""

from __future__ import annotations

from collections import deque

from deeper_tasks.domain.ids import JobId

_MOST_KEPT = 1000


class _Stretch:
    __slots__ = ("began", "ended", "job_id", "turn")

    def __init__(self, turn: object, job_id: JobId | None, at: float) -> None:
        self.turn = turn
        self.job_id = job_id
        self.began = self.ended = at


class Stalls:
    """
    The latest stalls, by `time.monotonic`. The thread that watches the loop writes them, and the loop reads them.

    Only the time between two looks that saw the same callback, or the same step of a task, is charged to its job.
    In the rest of a stall the code of any job may have run, so it is charged to no job.
    """

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque(maxlen=_MOST_KEPT)
        self._latest: _Stretch | None = None

    def note(self, turn: object, job_id: JobId | None, *, after: float, before: float) -> None:
        """
        Note that this turn, the code of a job or of none, was seen to block the loop between these times.

        `turn` is the turn of a `Snapshot`.
        """
        latest = self._latest
        if latest is None or latest.turn is None or latest.turn is not turn or latest.job_id != job_id:
            self._latest = _Stretch(turn, job_id, before)
        elif after > latest.ended:
            if latest.began == latest.ended:
                self._stretches.append(latest)
            latest.ended = after

    def end(self) -> None:
        """Note that the loop turns again."""
        self._latest = None

    def held_by_others(self, job_id: JobId, since: float, until: float) -> float:
        """Return for how many seconds of this time, at least, code of other jobs has blocked the loop."""
        return sum(
            max(0.0, min(until, stretch.ended) - max(since, stretch.began))
            for stretch in tuple(self._stretches)
            if stretch.job_id != job_id
        )
