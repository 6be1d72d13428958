"""The claim floor: how far the jobs of a queue were claimed, used when a search from the start is slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from deeper_tasks.domain.job import HIGHEST_PRIORITY, LOWEST_PRIORITY, ClaimedJob

_MANY = 10_000
"""Dead rows from which on a search from the start is avoided: they cost it one or two milliseconds."""
_REST_FOR_EACH = 1e-5
"""Seconds: ten times as long as it takes to read a dead row."""
_LONGEST_REST = 10.0
_MOST_QUEUES = 1000
"""The most queues of a pattern that are remembered."""


class ClaimFloor:
    """
    The place where the next claim of a queue begins its search.

    While another transaction may still read them, the old row versions of claimed jobs cannot be removed, and a search
    from the start reads all of them: after a million claims that takes a tenth of a second for each further claim. So
    after a slow search the next ones begin, in each priority, at the due time that the claims have reached. A search
    from the start follows after ten times the time that it takes. Until then a job that becomes pending with an earlier
    due time waits: one that was released, or whose transaction took long to commit.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._searches = _Searches(monotonic)
        self._floors: dict[int, datetime] = {}

    def floors(self) -> dict[int, datetime] | None:
        """Return, by priority, the due time at which a search begins; None for a search from the start."""
        return self._floors if self._searches.are_to_be_spared() else None

    def note(self, jobs: Sequence[ClaimedJob], *, passed_by: int, is_whole: bool) -> None:
        """Note a claim: its jobs in order, the dead rows that it read, and whether it searched from the start."""
        if is_whole:
            self._searches.note(passed_by)
        # The last job of each priority, which is the one due last.
        for priority, reached in {job.priority: job.scheduled_at for job in jobs if not job.damage}.items():
            self._floors[priority] = max(reached, self._floors.get(priority, reached))


class Stretch(NamedTuple):
    """A part of a queue's index range: from a priority, and in it from a due time on (None: all), up to a priority."""

    low: int
    floor: datetime | None
    high: int


class KnownQueue(NamedTuple):
    """A queue, and the stretches of its index range that may have jobs which no claim has reached, in their order."""

    queue: str
    stretches: list[Stretch]


class PatternClaimFloor:
    """
    The same for the queues of a pattern.

    After a slow search the next ones read only the queues from which jobs were claimed, and in each the part that no
    claim has reached. So a queue without a claim so far also waits for the next search from the start.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._searches = _Searches(monotonic)
        self._floors: dict[str, dict[int, datetime]] = {}

    def queues(self, *, after: str) -> list[KnownQueue] | None:
        """Return the queues to search, in turn from the first one after `after`; None for a search from the start."""
        if not self._searches.are_to_be_spared():
            return None
        turn = sorted(self._floors, key=lambda queue: (queue <= after, queue))
        return [KnownQueue(queue, _stretches(self._floors[queue])) for queue in turn]

    def note(self, jobs: Sequence[ClaimedJob], *, passed_by: int, is_whole: bool) -> None:
        """Note a claim: its jobs in order, the dead rows that it read, and whether it searched from the start."""
        if is_whole:
            self._searches.note(passed_by)
        for job in jobs:
            if not job.damage:
                floors = self._floors.setdefault(job.queue, {})
                floors[job.priority] = max(job.scheduled_at, floors.get(job.priority, job.scheduled_at))
        while len(self._floors) > _MOST_QUEUES:
            del self._floors[next(iter(self._floors))]


def _stretches(floors: dict[int, datetime]) -> list[Stretch]:
    """Return the stretches above the floors: one for each priority with a floor, one for those between two."""
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
    """The searches from the start: whether they are slow, and the next one has to wait."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = 0.0
        self._are_slow = False

    def are_to_be_spared(self) -> bool:
        """Return whether the last search from the start was slow, and not long ago."""
        return self._are_slow and self._monotonic() < self._until

    def note(self, passed_by: int) -> None:
        """Note a search from the start, by the number of dead rows that it read."""
        self._are_slow = passed_by > _MANY
        self._until = self._monotonic() + min(_REST_FOR_EACH * passed_by, _LONGEST_REST)
