"""The unique keys: which job holds which, kept apart from the jobs so that a key can outlive its job."""

from __future__ import annotations

from datetime import datetime
from heapq import heappop, heappush

from msgspec import Struct

from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.unique import Unique


class Hold(Struct, frozen=True):
    """One job's hold on a key, until a moment or, with None, until it lets go."""

    job_id: JobId
    until: datetime | None


class UniqueKeys:
    """The holders of all keys. A hold that has run out counts for nothing and is dropped in passing."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        self._ends: list[tuple[datetime, str]] = []

    def holder(self, key: str, *, now: datetime) -> JobId | None:
        """Return the job that holds a key now."""
        hold = self._holds.get(key)
        if hold is None or (hold.until is not None and hold.until <= now):
            return None
        return hold.job_id

    def take(self, unique: Unique, job_id: JobId, *, now: datetime) -> None:
        """Give a free key to a job that is being enqueued."""
        self._drop_run_out(now)
        until = None if unique.period is None else later(now, unique.period)
        self._holds[unique.key] = Hold(job_id, until)
        if until is not None:
            heappush(self._ends, (until, unique.key))

    def release(self, unique: Unique, job_id: JobId) -> None:
        """Let go of a key that was held until the job's end, if this job is its holder."""
        hold = self._holds.get(unique.key)
        if hold is not None and hold.job_id == job_id and hold.until is None:
            del self._holds[unique.key]

    def free(self, unique: Unique, job_id: JobId) -> None:
        """Let go of a key, also of one held for a period, if this job is its holder."""
        hold = self._holds.get(unique.key)
        if hold is not None and hold.job_id == job_id:
            del self._holds[unique.key]

    def _drop_run_out(self, now: datetime) -> None:
        while self._ends and self._ends[0][0] <= now:
            until, key = heappop(self._ends)
            hold = self._holds.get(key)
            if hold is not None and hold.until == until:
                del self._holds[key]
