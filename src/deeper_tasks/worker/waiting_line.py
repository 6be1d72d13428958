"""The waiting line: in which order jobs have their turn that are put off and come back by themselves."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from deeper_tasks.domain.ids import JobId

_FOR_EACH_PLACE, _LONGEST = 0.5, 30.0
"""Seconds that a job is put off for each place it has in the line, and at most."""
_OF_ITS_WAIT = 0.25
"""A job that has waited long is put off by this part of it: what it waits for takes its time."""
_LATE = 5.0
"""Seconds that a job may come back late before it loses its place: another worker has it, or it was cancelled."""


class _Place(Struct):
    """Since when a job waits, and when it is out of the line; in seconds."""

    since: float
    until: float


class WaitingLine:
    """Jobs in the order in which they came first. Times are a monotonic clock's, in seconds."""

    def __init__(self) -> None:
        self._places: dict[JobId, _Place] = {}

    def __contains__(self, job_id: JobId) -> bool:
        """Whether a job has been put off, and has not left the line."""
        return job_id in self._places

    def may_leave(self, job_id: JobId, *, free: int, now: float) -> bool:
        """Whether a job that has come (back) is among the first `free` of the line; then it is in it no more."""
        self._places = {each: place for each, place in self._places.items() if place.until >= now}
        if self._ahead(job_id) >= free:
            return False
        self._places.pop(job_id, None)
        return True

    def wait(self, job_id: JobId, *, now: float) -> timedelta:
        """Put a job into the line, where it keeps the place that it has; returns when it should come back."""
        place = self._places.setdefault(job_id, _Place(since=now, until=now))
        delay = max((self._ahead(job_id) + 1) * _FOR_EACH_PLACE, (now - place.since) * _OF_ITS_WAIT)
        delay = min(delay, _LONGEST)
        place.until = now + delay + _LATE
        return timedelta(seconds=delay)

    def _ahead(self, job_id: JobId) -> int:
        waiting = list(self._places)
        return waiting.index(job_id) if job_id in self._places else len(waiting)
