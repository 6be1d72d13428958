"""The drawing of findings: a line each, and below what is wrong how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.output import safe
from deeper_tasks.domain.finding import Finding, Severity

_MARKS = {Severity.OK: ("ok", "green"), Severity.WARNING: ("warning", "yellow"), Severity.ERROR: ("error", "bold red")}


def draw_findings(findings: Sequence[Finding]) -> RenderableType:
    """Return all findings and how many of each kind there are."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.severity]
        table.add_row(Text(mark, style=style), Text(finding.check), Text(safe(finding.message)))
        if finding.remedy is not None:
            table.add_row("", "", Text(f"→ {safe(finding.remedy)}", style="italic"))
    return Group(table, Text(), _summary(Counter(finding.severity for finding in findings)))


def _summary(counts: Counter[Severity]) -> Text:
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    if not errors and not warnings:
        return Text("nothing is wrong", style="green")
    told = [
        f"{number} {word}{'' if number == 1 else 's'}" for number, word in ((errors, "error"), (warnings, "warning"))
    ]
    return Text(", ".join(told), style="bold red" if errors else "yellow")
