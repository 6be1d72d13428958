"""A job heap: job ids in an order, from which any id can be taken in constant time."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

from deeper_tasks.domain.ids import JobId

_SLACK = 64


class JobHeap:
    """
    Ids ordered by the values they were pushed with, then by id.

    `push` and `pop` cost the logarithm of the length. `discard` costs nothing: the entry stays in the heap and is
    skipped later; the heap is rebuilt when such entries outnumber the others.
    """

    __slots__ = ("_entries", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[Any, ...]] = []
        self._entries: dict[JobId, tuple[Any, ...]] = {}

    def push(self, job_id: JobId, *order: Any) -> None:
        """Put an id in its place, and take it out of the one that it had."""
        entry = (*order, job_id)
        self._entries[job_id] = entry
        heappush(self._heap, entry)

    def discard(self, job_id: JobId) -> None:
        """Take an id out, if it is in."""
        if self._entries.pop(job_id, None) is not None and len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = list(self._entries.values())
            heapify(self._heap)

    def first(self) -> tuple[Any, ...] | None:
        """Return the first entry, its order and then its id; None when there is none."""
        heap = self._heap
        while heap:
            entry = heap[0]
            if self._entries.get(entry[-1]) is entry:
                return entry
            heappop(heap)
        return None

    def pop(self) -> JobId | None:
        """Take the first id out; None when there is none."""
        entry = self.first()
        if entry is None:
            return None
        heappop(self._heap)
        job_id: JobId = entry[-1]
        del self._entries[job_id]
        return job_id
