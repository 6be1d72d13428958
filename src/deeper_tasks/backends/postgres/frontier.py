"""The frontier: how far the jobs of a queue were claimed, for the times when a search from the start is slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from deeper_tasks.domain.job import ClaimedJob

_MANY = 10_000
"""Dead rows that a search may meet before it is worth avoiding: one or two milliseconds."""
_REST_FOR_EACH = 1e-5
"""Seconds, ten times what it takes to pass by a dead row."""
_LONGEST_REST = 10.0


class Frontier:
    """
    Where the next claim of a queue is to begin its search.

    As long as somebody's transaction may still look at them, the rows of jobs
    that were claimed before cannot go, and a search from the start goes
    through all of them: after a million claims that is a tenth of a second,
    for each further claim. So after a slow search the next ones begin, in each
    priority, at the due time that the claims have reached, and one from the
    start comes after ten times as long as it takes. Until then a job waits
    that has become pending with an earlier due time: because it was given back,
    or its transaction took long to commit.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._floors: dict[int, datetime] = {}
        self._until = 0.0
        self._is_slow = False

    def floors(self) -> dict[int, datetime] | None:
        """Return by priority the due time to begin at; None: to search from the start."""
        return self._floors if self._is_slow and self._monotonic() < self._until else None

    def note(self, jobs: Sequence[ClaimedJob], *, passed_by: int, is_whole: bool) -> None:
        """Take in a claim: its jobs in running order, how many dead rows it met, and whether from the start."""
        if is_whole:
            self._is_slow = passed_by > _MANY
            self._until = self._monotonic() + min(_REST_FOR_EACH * passed_by, _LONGEST_REST)
        # Of each priority the last, which is the one due last.
        for priority, reached in {job.priority: job.scheduled_at for job in jobs if not job.damage}.items():
            self._floors[priority] = max(reached, self._floors.get(priority, reached))
