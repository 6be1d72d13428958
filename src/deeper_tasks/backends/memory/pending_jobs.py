"""The pending jobs of each queue, in the order in which they are claimed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from deeper_tasks.backends.memory.job_heap import JobHeap
from deeper_tasks.backends.memory.queue_names import QueueNames
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.domain.ids import JobId


class Gate:
    """The filter of a claim: of the jobs in quarantine it passes only the first so many. The others are `held_back`."""

    __slots__ = ("_places", "held_back")

    def __init__(self, places: int) -> None:
        self._places = places
        self.held_back: list[Record] = []

    def admits(self, record: Record) -> bool:
        """Return whether a record may be claimed; if not, keep it in `held_back`."""
        if record.marks.is_quarantined:
            self._places -= 1
            if self._places < 0:
                self.held_back.append(record)
                return False
        return True


class PendingJobs:
    """One heap a queue, by priority, due time and id. `queues` has the names of the queues that have any."""

    def __init__(self, records: Mapping[JobId, Record]) -> None:
        self.queues = QueueNames()
        self._records = records
        self._heaps: defaultdict[str, JobHeap] = defaultdict(JobHeap)

    def push(self, record: Record) -> None:
        """Put a pending job into its place."""
        self._heaps[record.spec.queue].push(record.id, record.spec.priority, record.scheduled_at)

    def discard(self, record: Record) -> None:
        """Take a job out, if it is in."""
        self._heaps[record.spec.queue].discard(record.id)

    def take(self, queue: str, *, limit: int, gate: Gate, now: datetime) -> Iterator[Record]:
        """
        Take the first jobs of a queue out of its heap, leaving out those that have expired.

        An expired job leaves the heap too and waits to be failed, so that many of them do not slow down every claim.
        """
        heap = self._heaps[queue]
        while limit > 0 and (job_id := heap.pop()) is not None:
            record = self._records[job_id]
            if not record.is_expired(now) and gate.admits(record):
                limit -= 1
                yield record

    def take_in_turn(self, queues: Iterable[str], *, limit: int, gate: Gate, now: datetime) -> list[Record]:
        """Take the first job of each queue out of its heap, then the second of each, and so on."""
        records: list[Record] = []
        turns: deque[Iterator[Record]] = deque()
        for queue in queues:
            if len(records) == limit:
                return records
            jobs = self.take(queue, limit=limit, gate=gate, now=now)
            if (record := next(jobs, None)) is not None:
                records.append(record)
                turns.append(jobs)
        while turns and len(records) < limit:
            jobs = turns.popleft()
            if (record := next(jobs, None)) is not None:
                records.append(record)
                turns.append(jobs)
        return records
