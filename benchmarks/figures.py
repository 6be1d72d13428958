"""The figures: what is measured, in which unit, and what is aimed at."""

from __future__ import annotations

from enum import StrEnum
from statistics import median

from msgspec import Struct

Sample = dict["Figure", float]
"""What one competitor did in one round."""


class Competitor(StrEnum):
    """Whose figures they are."""

    RAW = "raw"
    OURS = "deeper_tasks"
    HUEY = "huey"
    HUEY_UNSAFE = "huey_fsync_off"


class Figure(StrEnum):
    """One row of the table. The words are what the row is called."""

    ENQUEUE = "enqueue one by one, async"
    ENQUEUE_SYNC = "enqueue one by one, blocking"
    ENQUEUE_MANY = "enqueue in bulk"
    DRAIN = "drain, one worker process"
    DRAIN_TWO = "drain, two worker processes"
    CPU = "CPU a job, one worker process"
    CPU_TWO = "CPU a job, two worker processes"
    LATENCY_P50 = "enqueue to start, p50"
    LATENCY_P99 = "enqueue to start, p99"
    LATENCY_MAX = "enqueue to start, max"
    MEMORY = "peak memory of a worker"

    @property
    def unit(self) -> str:
        """What its numbers count."""
        return _UNITS[self]


class Target(Struct, frozen=True, kw_only=True):
    """What a figure of ours should reach: at least a share of the raw loop's, or at most a number."""

    least_share_of_raw: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        if self.least_share_of_raw is not None:
            return f"≥ {self.least_share_of_raw:g} of raw"
        return f"≤ {self.most:g}"

    def is_met(self, row: Row) -> bool | None:
        """Whether the row reaches it; None where a number is missing."""
        if self.least_share_of_raw is not None:
            share = row.ratio_to(Competitor.RAW)
            return None if share is None else share >= self.least_share_of_raw
        ours = row.spreads.get(Competitor.OURS)
        return None if ours is None or self.most is None else ours.median <= self.most


class Spread(Struct, frozen=True, kw_only=True):
    """The median of the rounds, and their extremes."""

    median: float
    least: float
    most: float


class Row(Struct, frozen=True, kw_only=True):
    """A figure of everybody who has it; `rounds` holds each competitor's numbers in the order of the rounds."""

    figure: Figure
    rounds: dict[Competitor, list[float]]
    target: Target | None = None

    @property
    def spreads(self) -> dict[Competitor, Spread]:
        """Each competitor's median and extremes."""
        return {
            who: Spread(median=median(values), least=min(values), most=max(values))
            for who, values in self.rounds.items()
        }

    def ratio_to(self, other: Competitor) -> float | None:
        """
        Return ours divided by the other's, round by round, and of that the median.

        Neighbours in time are compared: what else the machine did meanwhile slowed both.
        """
        ours, theirs = self.rounds.get(Competitor.OURS), self.rounds.get(other)
        if not ours or not theirs:
            return None
        return median(mine / its for mine, its in zip(ours, theirs, strict=True))


def make_rows(samples: dict[Competitor, list[Sample]]) -> list[Row]:
    """Return the rows of what was measured."""
    return [
        Row(
            figure=figure,
            rounds={who: [sample[figure] for sample in taken] for who, taken in samples.items() if figure in taken[0]},
            target=_TARGETS.get(figure),
        )
        for figure in Figure
    ]


_UNITS = {
    Figure.ENQUEUE: "jobs/s",
    Figure.ENQUEUE_SYNC: "jobs/s",
    Figure.ENQUEUE_MANY: "jobs/s",
    Figure.DRAIN: "jobs/s",
    Figure.DRAIN_TWO: "jobs/s",
    Figure.CPU: "µs",
    Figure.CPU_TWO: "µs",
    Figure.LATENCY_P50: "ms",
    Figure.LATENCY_P99: "ms",
    Figure.LATENCY_MAX: "ms",
    Figure.MEMORY: "MB",
}
_TARGETS = {
    Figure.DRAIN: Target(least_share_of_raw=0.2),
    Figure.CPU: Target(most=25),
    Figure.LATENCY_P99: Target(most=5),
}
