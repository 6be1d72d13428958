"""Rendering of findings: one line for each, or for many of a kind, and below it the remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.rendering.formats import safe
from deeper_tasks.domain.finding import Finding, Severity

_MARKS = {Severity.OK: ("ok", "green"), Severity.WARNING: ("warning", "yellow"), Severity.ERROR: ("error", "bold red")}

_MOST_OF_A_KIND, _MOST_NAMED = 2, 5
_WIDE = 110


def render_findings(findings: Sequence[Finding], *, width: int | None, is_full: bool = False) -> RenderableType:
    """
    Return the findings and a summary of their number.

    Of many findings of a kind only the first is shown, with the subjects of the others; all of them if `is_full`.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    # On a narrow terminal the name of the check stands in the message instead of a column of its own.
    name = max(len(finding.check) for finding in findings) + 2 if width is None or width >= _WIDE else 0
    for kind in _kinds(findings):
        is_cut = len(kind) > _MOST_OF_A_KIND and not is_full
        for finding in kind[:1] if is_cut else kind:
            mark, style = _MARKS[finding.severity]
            rest = f"and the same for {_named(kind[1:])}; --full shows each" if is_cut else None
            table.add_row(Text(mark, style=style), _described(finding, name=name, rest=rest))
    return Group(table, Text(), _summary(Counter(finding.severity for finding in findings)))


def _described(finding: Finding, *, name: int, rest: str | None) -> RenderableType:
    """Return a finding to the right of its check's name, which gets `name` columns; with 0, in the same text."""
    lines = [Text(safe(finding.message)), *([] if rest is None else [Text(rest)])]
    if finding.remedy is not None:
        lines.append(Text(f"→ {safe(finding.remedy)}", style="italic"))
    if not name:
        lines[0] = Text.assemble((f"{finding.check}: ", "dim"), lines[0])
        return Group(*lines)
    beside = Table.grid()
    beside.add_column(width=name, style="dim")
    beside.add_column(overflow="fold")
    beside.add_row(finding.check, Group(*lines))
    return beside


def _kinds(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return the findings by kind: findings of one check and severity, each with its own subject, are of a kind."""
    kinds: dict[object, list[Finding]] = {}
    for place, finding in enumerate(findings):
        kind = place if finding.subject is None else (finding.check, finding.severity)
        kinds.setdefault(kind, []).append(finding)
    return list(kinds.values())


def _named(findings: Sequence[Finding]) -> str:
    names = [safe(finding.subject) for finding in findings]
    more = len(names) - _MOST_NAMED
    return f"{len(names)} more: {', '.join(names[:_MOST_NAMED])}" + (f" and {more} others" if more > 0 else "")


def _summary(counts: Counter[Severity]) -> Text:
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    if not errors and not warnings:
        return Text("nothing is wrong", style="green")
    parts = [
        f"{number} {word}{'' if number == 1 else 's'}" for number, word in ((errors, "error"), (warnings, "warning"))
    ]
    return Text(", ".join(parts), style="bold red" if errors else "yellow")
