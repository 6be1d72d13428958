"""Rendering of findings: a line each, or one for many of a kind, and below what is wrong how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.rendering.output import safe
from deeper_tasks.domain.finding import Finding, Severity

_MARKS = {Severity.OK: ("ok", "green"), Severity.WARNING: ("warning", "yellow"), Severity.ERROR: ("error", "bold red")}

_MOST_OF_A_KIND, _MOST_NAMED = 2, 5
_WIDE = 110


def draw_findings(findings: Sequence[Finding], *, width: int | None, is_full: bool = False) -> RenderableType:
    """Return the findings and how many of each kind there are; of many of a kind the first only, unless `is_full`."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    # Below each other, so that a narrow terminal has room for them.
    name = max(len(finding.check) for finding in findings) + 2 if width is None or width >= _WIDE else 0
    for kind in _kinds(findings):
        is_cut = len(kind) > _MOST_OF_A_KIND and not is_full
        for finding in kind[:1] if is_cut else kind:
            mark, style = _MARKS[finding.severity]
            rest = f"and the same of {_named(kind[1:])}; --full shows each" if is_cut else None
            table.add_row(Text(mark, style=style), _told(finding, name=name, rest=rest))
    return Group(table, Text(), _summary(Counter(finding.severity for finding in findings)))


def _told(finding: Finding, *, name: int, rest: str | None) -> RenderableType:
    """Return a finding beside its check, whose name gets so many columns; with none, behind it."""
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
    """Return the findings by kind: those of a check that are as bad as each other, and each about something else."""
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
    told = [
        f"{number} {word}{'' if number == 1 else 's'}" for number, word in ((errors, "error"), (warnings, "warning"))
    ]
    return Text(", ".join(told), style="bold red" if errors else "yellow")
