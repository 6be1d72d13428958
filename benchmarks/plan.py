"""The plan of a run: how much is measured, how often, and where the files lie."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

BULK = 1_000
"""Jobs in one call of `enqueue_many`."""

RAW_BATCH = 500
"""Jobs in one transaction of the raw loop."""


class Plan(Struct, frozen=True, kw_only=True):
    """The work of one run. Each round measures everything once, on files of its own below `folder`."""

    folder: Path
    jobs: int
    singles: int
    latencies: int
    rounds: int

    def store(self, name: str, round_number: int) -> Path:
        """Return where a competitor's file of this round lies."""
        return self.folder / f"{name}-{round_number}.db"


def make_plan(folder: Path, *, jobs: int | None, is_quick: bool) -> Plan:
    """Return the plan of a full run, or of a quick one that only shows that everything works."""
    if is_quick:
        count = jobs or 2_000
        return Plan(folder=folder, jobs=count, singles=min(count, 100), latencies=20, rounds=1)
    count = jobs or 50_000
    return Plan(folder=folder, jobs=count, singles=min(count, 1_000), latencies=300, rounds=3)
