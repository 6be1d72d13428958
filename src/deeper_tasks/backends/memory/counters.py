"""The counters: how many jobs each queue has in each state, and how many ended in which ten minutes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime

from deeper_tasks.backends.buckets import BUCKETS_KEPT, Span, bucket_of
from deeper_tasks.domain.state import State


class Counters:
    """Counts kept up to date by every change, so that reading them costs nothing."""

    def __init__(self) -> None:
        self._by_queue: defaultdict[str, Counter[State]] = defaultdict(Counter)
        self._ended: defaultdict[int, defaultdict[str, Counter[State]]] = defaultdict(lambda: defaultdict(Counter))

    def move(self, queue: str, *, before: State | None, after: State | None) -> None:
        """Count a job of `queue` that went from one state to another; None stands for not being there."""
        counts = self._by_queue[queue]
        if before is not None:
            counts[before] -= 1
        if after is not None:
            counts[after] += 1

    def count_end(self, queue: str, state: State, *, at: datetime) -> None:
        """Count the end of a job for the ten minutes in which it happened."""
        bucket = bucket_of(at)
        if bucket not in self._ended:
            for old in [known for known in self._ended if known < bucket - BUCKETS_KEPT]:
                del self._ended[old]
        self._ended[bucket][queue][state] += 1

    def queues(self) -> set[str]:
        """Return the queues that have jobs."""
        return {queue for queue, counts in self._by_queue.items() if any(counts.values())}

    def by_state(self, queue: str) -> dict[State, int]:
        """Return the number of jobs of a queue in each state that has any."""
        return {state: count for state, count in self._by_queue.get(queue, Counter()).items() if count}

    def ended_in(self, span: Span) -> dict[str, Counter[State]]:
        """Return the number of ends in these ten minutes by queue and state."""
        ended: defaultdict[str, Counter[State]] = defaultdict(Counter)
        for bucket, by_queue in self._ended.items():
            if span.first <= bucket <= span.last:
                for queue, counts in by_queue.items():
                    ended[queue] += counts
        return ended

    def total(self, *, queue: str | None, states: Iterable[State] | None) -> int:
        """Return the number of jobs in a queue, or in all, and in the states given, or in any."""
        wanted = State if states is None else states
        chosen = self._by_queue.values() if queue is None else [self._by_queue.get(queue, Counter())]
        return sum(counts[state] for counts in chosen for state in wanted)
