"""The names of the queues that have pending jobs, in their order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import chain

from deeper_tasks.domain.queue_patterns import QueuePattern, end_of_prefix


class QueueNames:
    """Sorted names. A name is found in the logarithm of their number."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: list[str] = []

    def add(self, name: str) -> None:
        """Put a name in that is not there."""
        insort(self._names, name)

    def remove(self, name: str) -> None:
        """Take a name out that is there."""
        del self._names[bisect_left(self._names, name)]

    def turn(self, pattern: QueuePattern, *, after: str) -> Iterator[str]:
        """Yield the names that a pattern matches, from the first after `after` on and round to it."""
        names = self._names
        first, end = bisect_left(names, pattern.prefix), bisect_left(names, end_of_prefix(pattern.prefix))
        start = min(max(bisect_right(names, after), first), end)
        for index in chain(range(start, end), range(first, start)):
            if pattern.matches(names[index]):
                yield names[index]
