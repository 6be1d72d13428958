"""Round robin: the order in which a claim takes jobs from several queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice, zip_longest
from typing import TypeVar

T = TypeVar("T")


def in_turn(
    queues: Sequence[str], *, limit: int, first_of: Callable[[Sequence[str], int], Sequence[list[T]]]
) -> list[T]:
    """
    Return up to `limit` items: the first of each queue, then the second of each, and so on.

    `first_of(queues, most)` returns the first `most` items of each queue. If a queue has fewer items than its share,
    the longer queues are asked again for more.
    """
    found: dict[str, list[T]] = {}
    growing, most, missing = list(queues), 0, limit
    while growing and missing > 0:
        most += -(-missing // len(growing))
        found.update(zip(growing, first_of(growing, most), strict=True))
        growing = [queue for queue in growing if len(found[queue]) == most]
        missing = limit - sum(map(len, found.values()))
    every = chain.from_iterable(zip_longest(*(found.get(queue, []) for queue in queues)))
    return list(islice((item for item in every if item is not None), limit))
