"""Rendering of recurring tasks as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.rendering.formats import ago, is_past, local_time, safe
from deeper_tasks.cli.rendering.jobs import DAMAGED, render_state
from deeper_tasks.domain.damage import described
from deeper_tasks.manager import RecurringRun, RecurringTask

_WIDE = 100
"""The least width of a terminal that shows times in full."""


def render_schedules(entries: Iterable[RecurringTask], *, width: int | None) -> Table:
    """
    Return a table of the recurring tasks; entries that are late or never due are red.

    A narrow terminal shows the time until the next run instead of its date.
    """
    show_time = local_time if width is None or width >= _WIDE else ago
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("name", "when", "task"):
        table.add_column(name, overflow="fold")
    table.add_column("last", no_wrap=True)
    table.add_column("next", overflow="fold")
    for entry in entries:
        when = entry.cron_expression if entry.timezone == "UTC" else f"{entry.cron_expression} {entry.timezone}"
        last = "never" if entry.last_run is None else ago(entry.last_run)
        next_run = _next(entry, show_time)
        table.add_row(Text(safe(entry.name)), Text(safe(when)), Text(safe(entry.task)), Text(last), next_run)
    return table


def render_history(runs: Iterable[RecurringRun]) -> Table:
    """Return a table of the runs of a recurring task."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("due", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("job", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for run in runs:
        state = Text("", style="dim") if run.status is None else render_state(run.status)
        outcome = run.outcome.replace("_", " ") + (" (damaged)" if run.damage else "")
        table.add_row(Text(local_time(run.due_at)), Text(outcome), Text(run.task_id or ""), state)
    return table


def _next(entry: RecurringTask, show_time: Callable[[datetime], str]) -> Text:
    if entry.damage:
        return Text(safe(f"damaged: {described(entry.damage)}"), style=DAMAGED)
    if not entry.next_runs:
        return Text("never", style="red")
    if entry.is_paused:
        return Text("paused", style="yellow")
    is_late = is_past(entry.next_run)
    return Text(show_time(entry.next_run), style="red" if is_late else "")
