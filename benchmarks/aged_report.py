"""The report of an aged store: each figure on the young store and on the aged one, and how they compare."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.aged import RATES, Figures

Rounds = list[tuple[Figures, Figures]]
"""The measurements of each round, on the young store and on the aged one."""

_DECIMALS_BELOW = 100


def to_rows(rounds: Rounds) -> list[dict[str, Any]]:
    """Return the figures as plain values. The cost is how many times as long it takes in the aged store."""
    rows = []
    for name in rounds[0][1]:
        pairs = [(young[name], aged[name]) for young, aged in rounds if name in young]
        costs = [young / aged if name in RATES else aged / young for young, aged in pairs]
        rows.append(
            {
                "figure": name,
                "unit": "jobs/s" if name in RATES else "ms",
                "young": median(young for young, _ in pairs) if pairs else None,
                "aged": median(aged[name] for _, aged in rounds),
                "cost": median(costs) if costs else None,
            }
        )
    return rows


def to_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Return the rows as a table to read."""
    table = Table(title=title, caption="medians of the rounds; the cost is the median of the rounds' own ratios")
    table.add_column("figure")
    for column in ("unit", "young store", "aged store", "cost, aged / young"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["figure"], row["unit"], *(_number(row[key]) for key in ("young", "aged", "cost")))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= _DECIMALS_BELOW else f"{value:.2f}"
