"""Rendering of recurring tasks, as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.rendering.jobs import DAMAGED, draw_state
from deeper_tasks.cli.rendering.output import ago, is_past, local_time, safe
from deeper_tasks.domain.damage import described
from deeper_tasks.manager import RecurringRun, RecurringTask

_WIDE = 100
"""Columns of a terminal that has room for times."""


def draw_schedules(entries: Iterable[RecurringTask], *, width: int | None) -> Table:
    """
    Return a table of the recurring tasks; what is late or never due is in red.

    A narrow terminal shows how far away the next run is, and not its time.
    """
    told = local_time if width is None or width >= _WIDE else ago
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("name", "when", "task"):
        table.add_column(name, overflow="fold")
    table.add_column("last", no_wrap=True)
    table.add_column("next", overflow="fold")
    for entry in entries:
        when = entry.cron_expression if entry.timezone == "UTC" else f"{entry.cron_expression} {entry.timezone}"
        last = "never" if entry.last_run is None else ago(entry.last_run)
        table.add_row(Text(safe(entry.name)), Text(safe(when)), Text(safe(entry.task)), Text(last), _next(entry, told))
    return table


def draw_history(runs: Iterable[RecurringRun]) -> Table:
    """Return a table of runs."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("due", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("job", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for run in runs:
        state = Text("", style="dim") if run.status is None else draw_state(run.status)
        outcome = run.outcome.replace("_", " ") + (" (damaged)" if run.damage else "")
        table.add_row(Text(local_time(run.due_at)), Text(outcome), Text(run.task_id or ""), state)
    return table


def _next(entry: RecurringTask, told: Callable[[datetime], str]) -> Text:
    if entry.damage:
        return Text(safe(f"damaged: {described(entry.damage)}"), style=DAMAGED)
    if not entry.next_runs:
        return Text("never", style="red")
    if entry.is_paused:
        return Text("paused", style="yellow")
    is_late = is_past(entry.next_run)
    return Text(told(entry.next_run), style="red" if is_late else "")
