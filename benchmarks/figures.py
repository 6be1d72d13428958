"""The figures: what is measured, in which unit, and what is aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from statistics import median

from msgspec import Struct

Sample = dict["Figure", float]
"""The results of one competitor in one round."""


class Competitor(StrEnum):
    """Whose figures they are."""

    RAW = "raw"
    DEEPER_TASKS = "deeper_tasks"
    HUEY = "huey"
    HUEY_UNSAFE = "huey_fsync_off"
    PGQUEUER = "pgqueuer"
    PROCRASTINATE = "procrastinate"
    OBAN = "oban"

    @property
    def is_peer(self) -> bool:
        """Whether it is another library, as safe as this one."""
        return self not in {Competitor.RAW, Competitor.DEEPER_TASKS, Competitor.HUEY_UNSAFE}


class Rival(StrEnum):
    """Whom a target names."""

    RAW = "raw"
    FASTEST_PEER = "the fastest peer"


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
    WAL_INSERT = "WAL a job, enqueue in bulk"
    WAL_DRAIN = "WAL a job, drain"
    PAGE_IMAGES = "page images in the WAL of a drain"
    DEAD = "dead tuples a job"
    DEAD_IN_INDEXES = "dead tuples a job, in indexes too"

    @property
    def unit(self) -> str:
        """The unit of its numbers."""
        return _UNITS[self]


class Target(Struct, frozen=True, kw_only=True):
    """The value that this library should reach: at least a multiple of another's, or at most a number."""

    limit: float
    of: Rival | None = None

    def __str__(self) -> str:
        return f"≤ {self.limit:g}" if self.of is None else f"≥ {self.limit:g} of {self.of}"

    def is_met(self, row: Row) -> bool | None:
        """Whether the row reaches it; None where a number is missing."""
        if self.of is None:
            own = row.spreads.get(Competitor.DEEPER_TASKS)
            return None if own is None else own.median <= self.limit
        ratio = row.ratio_to_fastest_peer() if self.of is Rival.FASTEST_PEER else row.ratio_to(Competitor.RAW)
        return None if ratio is None else ratio >= self.limit


class Spread(Struct, frozen=True, kw_only=True):
    """The median of the rounds, and their extremes."""

    median: float
    least: float
    most: float


class Row(Struct, frozen=True, kw_only=True):
    """A figure of everybody who has it; `rounds` holds each competitor's numbers in the order of the rounds."""

    figure: Figure
    rounds: dict[Competitor, list[float]]
    targets: tuple[Target, ...] = ()

    @property
    def spreads(self) -> dict[Competitor, Spread]:
        """Each competitor's median and extremes."""
        return {
            who: Spread(median=median(values), least=min(values), most=max(values))
            for who, values in self.rounds.items()
        }

    def ratio_to(self, other: Competitor) -> float | None:
        """
        Return this library's figure divided by the other's, round by round, and of that the median.

        Neighbours in time are compared: what else the machine did meanwhile slowed both.
        """
        return self._ratio(self.rounds.get(other, []))

    def ratio_to_fastest_peer(self) -> float | None:
        """Return the same of this library's and of the best peer's in each round; None where more is no better."""
        if self.figure.unit != "jobs/s":
            return None
        peers = [values for who, values in self.rounds.items() if who.is_peer]
        return self._ratio([max(values) for values in zip(*peers, strict=True)])

    def _ratio(self, theirs: list[float]) -> float | None:
        own = self.rounds.get(Competitor.DEEPER_TASKS)
        if not own or not theirs or not all(theirs):
            return None
        return median(mine / its for mine, its in zip(own, theirs, strict=True))


def make_rows(samples: dict[Competitor, list[Sample]], targets: Mapping[Figure, tuple[Target, ...]]) -> list[Row]:
    """Return the rows of what was measured; figures that no competitor has are left out."""
    return [
        Row(figure=figure, rounds=rounds, targets=targets.get(figure, ()))
        for figure in Figure
        if (rounds := {who: [each[figure] for each in taken] for who, taken in samples.items() if figure in taken[0]})
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
    Figure.WAL_INSERT: "bytes",
    Figure.WAL_DRAIN: "bytes",
    Figure.PAGE_IMAGES: "images",
    Figure.DEAD: "tuples",
    Figure.DEAD_IN_INDEXES: "tuples",
}
