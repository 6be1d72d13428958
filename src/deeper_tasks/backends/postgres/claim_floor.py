"""The claim floor: how far the jobs of a queue were claimed, for the times when a search from the start is slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from deeper_tasks.domain.job import HIGHEST_PRIORITY, LOWEST_PRIORITY, ClaimedJob

_MANY = 10_000
"""Dead rows that a search may meet before it is worth avoiding: one or two milliseconds."""
_REST_FOR_EACH = 1e-5
"""Seconds, ten times what it takes to pass by a dead row."""
_LONGEST_REST = 10.0
_MOST_QUEUES = 1000
"""Queues of a pattern that are remembered."""


class ClaimFloor:
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
        self._searches = _Searches(monotonic)
        self._floors: dict[int, datetime] = {}

    def floors(self) -> dict[int, datetime] | None:
        """Return by priority the due time to begin at; None: to search from the start."""
        return self._floors if self._searches.are_to_be_spared() else None

    def note(self, jobs: Sequence[ClaimedJob], *, passed_by: int, is_whole: bool) -> None:
        """Take in a claim: its jobs in running order, how many dead rows it met, and whether from the start."""
        if is_whole:
            self._searches.note(passed_by)
        # Of each priority the last, which is the one due last.
        for priority, reached in {job.priority: job.scheduled_at for job in jobs if not job.damage}.items():
            self._floors[priority] = max(reached, self._floors.get(priority, reached))


class Stretch(NamedTuple):
    """A part of a queue's line: from a priority, and in it from a due time on (None: all), up to a priority."""

    low: int
    floor: datetime | None
    high: int


class KnownLine(NamedTuple):
    """A queue, and the stretches of its line that may have jobs which no claim has reached, in their order."""

    queue: str
    stretches: list[Stretch]


class PatternClaimFloor:
    """
    The same for the queues of a pattern.

    After a slow search the next ones look only at the queues that the claims have met, and in each at what they have
    not reached. So a queue that none of them has met waits as well, for the next search from the start.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._searches = _Searches(monotonic)
        self._floors: dict[str, dict[int, datetime]] = {}

    def lines(self, *, after: str) -> list[KnownLine] | None:
        """Return the lines to look at, in turn from the first after `after` on; None: to search from the start."""
        if not self._searches.are_to_be_spared():
            return None
        turn = sorted(self._floors, key=lambda queue: (queue <= after, queue))
        return [KnownLine(queue, _stretches(self._floors[queue])) for queue in turn]

    def note(self, jobs: Sequence[ClaimedJob], *, passed_by: int, is_whole: bool) -> None:
        """Take in a claim: its jobs in running order, how many dead rows it met, and whether from the start."""
        if is_whole:
            self._searches.note(passed_by)
        for job in jobs:
            if not job.damage:
                floors = self._floors.setdefault(job.queue, {})
                floors[job.priority] = max(job.scheduled_at, floors.get(job.priority, job.scheduled_at))
        while len(self._floors) > _MOST_QUEUES:
            del self._floors[next(iter(self._floors))]


def _stretches(floors: dict[int, datetime]) -> list[Stretch]:
    """Return what lies beyond the floors of some priorities: those themselves, and all others between them."""
    stretches: list[Stretch] = []
    low = HIGHEST_PRIORITY
    for priority in sorted(floors):
        if low < priority:
            stretches.append(Stretch(low, None, priority - 1))
        stretches.append(Stretch(priority, floors[priority], priority))
        low = priority + 1
    if low <= LOWEST_PRIORITY:
        stretches.append(Stretch(low, None, LOWEST_PRIORITY))
    return stretches


class _Searches:
    """Whether searches from the start are slow, and the next is to wait."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = 0.0
        self._are_slow = False

    def are_to_be_spared(self) -> bool:
        """Return whether the last one was slow, and not long ago."""
        return self._are_slow and self._monotonic() < self._until

    def note(self, passed_by: int) -> None:
        """Take in a search from the start, by the dead rows that it met."""
        self._are_slow = passed_by > _MANY
        self._until = self._monotonic() + min(_REST_FOR_EACH * passed_by, _LONGEST_REST)
