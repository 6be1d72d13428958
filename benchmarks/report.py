"""The report: the rows as a table to read, or as JSON to keep."""

from __future__ import annotations

import os
import platform
from typing import Any

from rich.table import Table

from benchmarks.figures import Competitor, Row, Spread
from benchmarks.plan import Plan
from benchmarks.suite import Suite

_DECIMALS_BELOW = 100


def to_table(rows: list[Row], plan: Plan, suite: Suite) -> Table:
    """Return the rows as a table: medians, extremes below them, and this library's as a multiple of the others'."""
    competitors = list(suite.measures)
    table = Table(
        title=_title(plan, suite), caption=" ".join((_CAPTION, *suite.notes, *suite.remarks.values())), show_lines=True
    )
    table.add_column("figure")
    table.add_column("unit")
    for who in competitors:
        table.add_column(who.replace("_fsync_off", ", fsync off"), justify="right")
    for who in competitors:
        if who is not Competitor.DEEPER_TASKS:
            table.add_column(f"deeper_tasks / {who.replace('_fsync_off', ', fsync off')}", justify="right")
    table.add_column("target")
    for row in rows:
        table.add_row(*_cells(row, competitors))
    return table


def to_document(rows: list[Row], plan: Plan, suite: Suite) -> dict[str, Any]:
    """Return the rows as plain values."""
    return {
        "store": suite.store,
        "jobs": plan.jobs,
        "rounds": plan.rounds,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": suite.versions,
        "notes": [*suite.notes, *suite.remarks.values()],
        "rows": [
            {
                "figure": row.figure.value,
                "unit": row.figure.unit,
                "values": {
                    who.value: {"median": spread.median, "min": spread.least, "max": spread.most}
                    for who, spread in row.spreads.items()
                },
                "ratios": {
                    other.value: ratio
                    for other in Competitor
                    if other is not Competitor.DEEPER_TASKS and (ratio := row.ratio_to(other)) is not None
                },
                "ratio_to_fastest_peer": row.ratio_to_fastest_peer(),
                "targets": {str(target): target.is_met(row) for target in row.targets},
            }
            for row in rows
        ],
    }


_CAPTION = "median (min-max) of the rounds; a ratio is the median of the rounds' own ratios."


def _title(plan: Plan, suite: Suite) -> str:
    versions = ", ".join(f"{what} {number}" for what, number in suite.versions.items())
    return (
        f"{plan.jobs:,} jobs, {plan.rounds} rounds, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, {versions}"
    )


def _cells(row: Row, competitors: list[Competitor]) -> list[str]:
    cells = [row.figure.value, row.figure.unit]
    cells += [_spread(row.spreads.get(who)) for who in competitors]
    cells += [_ratio(row.ratio_to(who)) for who in competitors if who is not Competitor.DEEPER_TASKS]
    return [*cells, _target(row)]


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{_number(spread.median)}\n({_number(spread.least)}-{_number(spread.most)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _DECIMALS_BELOW else f"{value:.3g}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"


def _target(row: Row) -> str:
    words = {True: "met", False: "missed", None: "unknown"}
    return "\n".join(f"{target}: {words[target.is_met(row)]}" for target in row.targets)
