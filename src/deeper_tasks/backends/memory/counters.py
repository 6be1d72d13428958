"""The counters: how many jobs each queue has in each state, and how many ended on which day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from deeper_tasks.domain.state import State

_KEPT = timedelta(days=2)


class Counters:
    """Counts kept up to date by every change, so that reading them costs nothing."""

    def __init__(self) -> None:
        self._by_queue: defaultdict[str, Counter[State]] = defaultdict(Counter)
        self._ended: defaultdict[date, defaultdict[str, Counter[State]]] = defaultdict(lambda: defaultdict(Counter))

    def move(self, queue: str, *, before: State | None, after: State | None) -> None:
        """Count a job of `queue` that went from one state to another; None stands for not being there."""
        counts = self._by_queue[queue]
        if before is not None:
            counts[before] -= 1
        if after is not None:
            counts[after] += 1

    def count_end(self, queue: str, state: State, *, at: datetime) -> None:
        """Count the end of a job for the UTC day it happened on."""
        day = at.astimezone(UTC).date()
        if day not in self._ended:
            for old in [known for known in self._ended if known < day - _KEPT]:
                del self._ended[old]
        self._ended[day][queue][state] += 1

    def queues(self, *, now: datetime) -> set[str]:
        """Return the queues that have jobs, or had an end today."""
        busy = {queue for queue, counts in self._by_queue.items() if any(counts.values())}
        return busy | self._ended_on(now).keys()

    def by_state(self, queue: str) -> dict[State, int]:
        """Return the number of jobs of a queue in each state that has any."""
        return {state: count for state, count in self._by_queue.get(queue, Counter()).items() if count}

    def ended_today(self, queue: str, *, now: datetime) -> dict[State, int]:
        """Return the number of ends in a queue on the UTC day of `now`, by state."""
        return dict(self._ended_on(now).get(queue, Counter()))

    def total(self, *, queue: str | None, states: Iterable[State] | None) -> int:
        """Return the number of jobs in a queue, or in all, and in the states given, or in any."""
        wanted = State if states is None else states
        chosen = self._by_queue.values() if queue is None else [self._by_queue.get(queue, Counter())]
        return sum(counts[state] for counts in chosen for state in wanted)

    def _ended_on(self, moment: datetime) -> dict[str, Counter[State]]:
        return self._ended.get(moment.astimezone(UTC).date(), defaultdict(Counter))
