"""Latency: from the call that enqueues to the first line of the task, in another process."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

from benchmarks.figures import Figure, Sample


def latency_figures(called: Sequence[int], started: Sequence[int]) -> Sample:
    """Return the percentiles of what lies between the two, which are nanoseconds of the machine's clock."""
    waits = [(start - call) / 1e6 for call, start in zip(called, started, strict=True)]
    hundredths = quantiles(waits, n=100, method="inclusive")
    return {
        Figure.LATENCY_P50: hundredths[49],
        Figure.LATENCY_P99: hundredths[98],
        Figure.LATENCY_MAX: max(waits),
    }
