"""The report: the rows as a table to read, or as JSON to keep."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from rich.table import Table

from benchmarks.figures import Competitor, Row, Spread
from benchmarks.plan import Plan

_DECIMALS_BELOW = 100


def to_table(rows: list[Row], competitors: list[Competitor], plan: Plan) -> Table:
    """Return the rows as a table: medians, extremes below them, and ours as a multiple of the others."""
    table = Table(title=_title(plan), caption=_CAPTION, show_lines=True)
    table.add_column("figure")
    table.add_column("unit")
    for who in competitors:
        table.add_column(who.replace("_fsync_off", ", fsync off"), justify="right")
    for who in competitors:
        if who is not Competitor.OURS:
            table.add_column(f"ours / {who.replace('_fsync_off', ', fsync off')}", justify="right")
    table.add_column("target")
    for row in rows:
        table.add_row(*_cells(row, competitors))
    return table


def to_document(rows: list[Row], plan: Plan) -> dict[str, Any]:
    """Return the rows as plain values."""
    return {
        "jobs": plan.jobs,
        "rounds": plan.rounds,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "huey": _huey_version(),
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
                    if other is not Competitor.OURS and (ratio := row.ratio_to(other)) is not None
                },
                "target": None if row.target is None else str(row.target),
                "is_target_met": None if row.target is None else row.target.is_met(row),
            }
            for row in rows
        ],
    }


_CAPTION = (
    "median (min-max) of the rounds; a ratio is the median of the rounds' own ratios. "
    "Huey has no call for bulk, takes a job off before it runs it, and polls at its default pace."
)


def _title(plan: Plan) -> str:
    return (
        f"{plan.jobs:,} jobs, {plan.rounds} rounds, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, Huey {_huey_version() or 'not installed'}"
    )


def _huey_version() -> str | None:
    return version("huey") if find_spec("huey") is not None else None


def _cells(row: Row, competitors: list[Competitor]) -> list[str]:
    cells = [row.figure.value, row.figure.unit]
    cells += [_spread(row.spreads.get(who)) for who in competitors]
    cells += [_ratio(row.ratio_to(who)) for who in competitors if who is not Competitor.OURS]
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
    if row.target is None:
        return ""
    verdict = {True: "met", False: "missed", None: "unknown"}[row.target.is_met(row)]
    return f"{row.target}: {verdict}"
