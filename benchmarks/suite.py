"""A suite: who is measured on one kind of store, what is aimed at there, and what a reader must know."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from importlib.util import find_spec

from msgspec import Struct
from msgspec.structs import replace

from benchmarks import engine, raw_loop
from benchmarks.figures import Competitor, Figure, Rival, Sample, Target
from benchmarks.plan import Plan
from benchmarks.site import FileSite

Measure = Callable[[Plan, int], Sample]
"""Measures one round; takes the plan and the number of the round."""


class Suite(Struct, frozen=True, kw_only=True):
    """
    The competitors in the order of their turns, and what stands in the report besides figures.

    `remarks` are on single competitors, also on those who could not be measured.
    """

    store: str
    measures: dict[Competitor, Measure]
    targets: Mapping[Figure, tuple[Target, ...]]
    versions: dict[str, str]
    remarks: Mapping[Competitor, str]
    notes: tuple[str, ...] = ()

    def without(self, left_out: Collection[str]) -> Suite:
        """Return the suite without some of its competitors."""
        return replace(
            self,
            measures={who: measure for who, measure in self.measures.items() if who not in left_out},
            remarks={who: remark for who, remark in self.remarks.items() if who not in left_out},
        )


def sqlite_suite() -> Suite:
    """Return the suite of SQLite files: a raw loop, this engine, and Huey where it is installed."""
    measures: dict[Competitor, Measure] = {
        Competitor.RAW: raw_loop.measure,
        Competitor.DEEPER_TASKS: lambda plan, number: engine.measure(plan, FileSite(plan.folder / str(number))),
    }
    versions = {"SQLite": sqlite3.sqlite_version}
    remark = "Huey has no call for bulk, takes a job off before it runs it, and polls at its default pace."
    if find_spec("huey") is None:
        remark = "Huey is not installed."
    else:
        from benchmarks import huey_peer

        measures[Competitor.HUEY] = lambda plan, number: huey_peer.measure(plan, number, is_fsync_off=False)
        measures[Competitor.HUEY_UNSAFE] = lambda plan, number: huey_peer.measure(plan, number, is_fsync_off=True)
        versions["Huey"] = version("huey")
    remarks = {Competitor.HUEY: remark}
    return Suite(store="sqlite", measures=measures, targets=_TARGETS, versions=versions, remarks=remarks)


_TARGETS = {
    Figure.DRAIN: (Target(limit=0.2, of=Rival.RAW),),
    Figure.CPU: (Target(limit=25),),
    Figure.LATENCY_P99: (Target(limit=5),),
}
