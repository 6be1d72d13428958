"""Latency: from the call that enqueues to the first line of the task, in another process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from statistics import quantiles

from benchmarks.figures import Figure, Sample

_SHORTEST_GAP, _LONGEST_GAP = 0.002, 0.02
_SEED = 7


def gaps(count: int) -> Iterator[float]:
    """Yield the pauses between enqueues in seconds: random, and the same for every competitor."""
    chance = random.Random(_SEED)
    for _ in range(count):
        yield chance.uniform(_SHORTEST_GAP, _LONGEST_GAP)


def latency_figures(called: Sequence[int], started: Sequence[int]) -> Sample:
    """Return the percentiles of what lies between the two, which are nanoseconds of the machine's clock."""
    waits = [(start - call) / 1e6 for call, start in zip(called, started, strict=True)]
    hundredths = quantiles(waits, n=100, method="inclusive")
    return {
        Figure.LATENCY_P50: hundredths[49],
        Figure.LATENCY_P99: hundredths[98],
        Figure.LATENCY_MAX: max(waits),
    }
